"""Mutants of what judges: code changed in one place, and whether any test notices.

mutmut changes one expression of a function at a time and runs the tests that reach that function.
Constants and dataclasses of a module are not changed. It works on a copy of the project.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness.environments.declared import PROJECT_DIR
from tests.long import page

TITLE = "Mutants"
COPIED = ("harness", "runners", "reports", "upstream_envs", "suites", "templates", "docs", "tests")
JUDGING = (
    "gates",
    "gate_reasons",
    "controls",
    "parity",
    "frames",
    "made_weights",
    "matching",
    "measurement",
)
CELLS = ("made_weights", "telemetry", "frames", "repetition", "fsck", "side_by_side")
STATISTICS = ("stats", "speedup_interval", "published", "measurement")
LOGS = ("log_parser", "log_columns", "log_formats", "hostile_logs", "ranks", "stats")
TESTS = {
    "harness/judging/gates.py": JUDGING,
    "harness/judging/parity.py": JUDGING,
    "harness/judging/stats.py": STATISTICS,
    "harness/judging/cell_verdict.py": CELLS,
    "harness/logs/flashdreams.py": LOGS,
    "harness/logs/columns.py": LOGS,
}
"""File that is mutated to the test modules that may notice."""
KILLED = (1, 3)
"""Exit codes of pytest: a test failed, or broke."""
SURVIVED = 0
UNREACHED = (5, 33)
"""No test was selected, or none reaches the function."""


def found(*paths: str) -> Iterator[str]:
    """Mutate some files, or all; what was found in others before stays in the table.

    Survivors are printed as differences.
    """
    rows = {row[0]: row for row in page.rows(TITLE)}
    columns = ("file", "mutants", "killed", "timed out", "survived", "reached by no test", "on")
    said = (
        f"One expression of a function changed at a time, by mutmut {_version()}, and "
        "judged by those tests of `make test-fast` that are about the file.\n\n"
    )
    for path in paths or TESTS:
        row = _mutated(path)
        rows[row[0]] = row
        known = [rows[f"`{one}`"] for one in TESTS if f"`{one}`" in rows]
        yield said + page.table(columns, known)


def _version() -> str:
    words = [_mutmut(), "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1]


def _mutmut() -> str:
    return str(Path(sys.executable).with_name("mutmut"))


def _mutated(path: str) -> tuple[str, ...]:
    """Counts of one file."""
    with tempfile.TemporaryDirectory(prefix="fdbench-mutants-") as name:
        folder = Path(name)
        for part in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(PROJECT_DIR / part, folder / part, ignore=ignored)
        for part in ("README.md", "pyproject.toml", "Makefile"):
            shutil.copyfile(PROJECT_DIR / part, folder / part)
        (folder / "setup.cfg").write_text(_settings(path))
        words = [_mutmut(), "run", "--max-children", str(len(os.sched_getaffinity(0)))]
        subprocess.run(words, cwd=folder, check=True)
        ends = json.loads((folder / "mutants" / f"{path}.meta").read_text())["exit_code_by_key"]
        for mutant in (mutant for mutant, code in ends.items() if code == SURVIVED):
            subprocess.run([_mutmut(), "show", mutant], cwd=folder, check=True)
    counts = map(str, (len(ends), *_counts(Counter(ends.values()))))
    return f"`{path}`", *counts, page.today()


def _counts(codes: Counter[int | None]) -> tuple[int, int, int, int]:
    """Mutants killed, timed out, survived, and reached by no test."""
    killed, unreached = (sum(codes[code] for code in these) for these in (KILLED, UNREACHED))
    late = codes.total() - killed - unreached - codes[SURVIVED]
    return killed, late, codes[SURVIVED], unreached


def _settings(path: str) -> str:
    """What mutmut reads."""
    settings = {
        "source_paths": ["harness"],
        "only_mutate": [path],
        "also_copy": [*COPIED[1:], "README.md", "Makefile"],
        "pytest_add_cli_args": ["-m(unit or contract) and not slow", "-pno:cacheprovider"],
        "pytest_add_cli_args_test_selection": [f"tests/test_{name}.py" for name in TESTS[path]],
    }
    lines = ("\n    ".join([f"{key}=", *values]) for key, values in settings.items())
    return "[mutmut]\n" + "\n".join(lines) + "\n"
