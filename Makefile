# Each of `demo`, `test` and `check` does all of its own set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint upstream_envs/constraints.txt
CACHE = $${FDBENCH_CACHE:-$$HOME/.cache/fdbench}
# What fdbench makes there, and no more: FDBENCH_CACHE may name a folder with other things in it.
CACHED := envs code sources inputs weights noise text decoder

.PHONY: demo test test-fast test-long check bench clean distclean

demo: $(VENV)/.core  ## compare FlashDreams with diffusers and FastVideo on this CPU, write the report
	$(BIN)/fdbench run --suite smoke --gpu cpu --sandbox process
	@echo 'next: source $(VENV)/bin/activate && fdbench list recipes'

test: $(VENV)/.dev  ## every test, the real comparisons included
	$(BIN)/python -m pytest

test-fast: $(VENV)/.dev  ## what to run at every change: no environment, engine or browser
	$(BIN)/python -m pytest -m "(unit or contract) and not slow" --numprocesses 2 --dist loadfile

test-long: $(VENV)/.long  ## mutants, simulations, fuzz: hours; writes docs/long_tests.md
	$(BIN)/python -m tests.long

check: $(VENV)/.dev  ## format, lint, types, import map, house style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_style.py harness runners upstream_envs reports tests

bench: $(VENV)/.dev  ## how long fdbench itself takes; writes docs/benchmarks.md
	$(BIN)/python -m tests.bench

clean:  ## remove what make built here; runs and environments stay
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

distclean:  ## after a question: also every run here, and what any checkout keeps in the cache
	@du -sh $(wildcard runs outputs .cache) "$(CACHE)" 2>/dev/null || true
	@printf 'Remove these, measurements included? [y/N] '; read answer; \
		[ "$$answer" = y ] || { echo 'nothing was removed'; exit 1; }
	rm -rf runs outputs .cache
	[ ! -d "$(CACHE)" ] || (cd "$(CACHE)" && rm -rf $(CACHED))
	$(MAKE) clean

$(VENV)/.core: pyproject.toml upstream_envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fdbench needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP_INSTALL) pytest pytest-xdist hypothesis playwright ruff mypy types-psutil import-linter uv
	touch $@

$(VENV)/.long: $(VENV)/.dev
	$(PIP_INSTALL) mutmut==3.8.1
	touch $@
