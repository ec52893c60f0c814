"""Slugs whose code an environment pins, through the real ``flashdreams-run``."""

import dataclasses
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

import runners
from harness.environments.declared import PROJECT_DIR
from harness.logs import parse_steps
from tests.conftest import require_source
from tests.test_runners import run_in

pytestmark = pytest.mark.real

GROUP = "flashdreams.runner_configs"
SLUG = "hy-worldplay-wan-i2v-5b"
OWN = "self-forcing-wan2.1-t2v-1.3b-taehv"
LOOK = """
import sys
sys.argv = ["flashdreams-run", *sys.argv[1:]]
from flashdreams.scripts.cli import entrypoint
try:
    entrypoint()
finally:
    print("imported:", sorted({"hy_worldplay", "omnidreams", "wan22"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def installed(flashdreams_env, tmp_path_factory):
    """The library beside this project as a user installs it: every slug is an entry point."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["project"]
    (site / "fdbench-0.1.0.dist-info").mkdir()
    (site / "fdbench-0.1.0.dist-info" / "METADATA").write_text("Name: fdbench\nVersion: 0.1.0\n")
    lines = [f"{slug} = {place}" for slug, place in project["entry-points"][GROUP].items()]
    (site / "fdbench-0.1.0.dist-info" / "entry_points.txt").write_text(
        "\n".join([f"[{GROUP}]", *lines, ""])
    )
    return dataclasses.replace(
        flashdreams_env,
        declared=dataclasses.replace(flashdreams_env.declared, slugs={}),
        code=Path(f"{PROJECT_DIR}{os.pathsep}{site}"),  # the whole of PYTHONPATH
    )


@pytest.fixture
def nothing_built(tmp_path, monkeypatch):
    """A cache without anything."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))


def test_slug_that_is_not_built_says_what_to_type(installed, nothing_built):
    """In one line, whatever options it was given, with the exit code of bad usage."""
    done = run_in(installed, "flashdreams-run", SLUG, "--image-path", "cat.png")
    told = [line for line in done.stderr.splitlines() if not line.startswith("[transformers]")]

    assert (done.returncode, done.stdout) == (2, "")
    assert len(told) == 1, done.stderr
    assert told[0].startswith(f"{SLUG}: its code is that of the environment flashdreams_integrat")
    assert told[0].endswith("Type: fdbench env build flashdreams_integrations")


def test_help_and_other_slugs_are_not_disturbed(installed, nothing_built):
    """Every slug is listed, no integration is imported for it, and nothing is warned of."""
    listed = run_in(installed, "python", "-c", LOOK, "--help")
    other = run_in(installed, "python", "-c", LOOK, "--no-instantiate", OWN)

    for done in (listed, other):
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("imported: []\n")
        assert "WARNING" not in done.stderr
        assert "Traceback" not in done.stderr
    for slug in runners.RUNNERS | runners.PINNED:
        assert slug in listed.stdout
    assert f"Resolved config for '{OWN}'" in other.stdout


def test_other_slugs_run_beside_those_that_are_not_built(installed, nothing_built, tmp_path):
    """From the command to the video."""
    sized = ("--size", "tiny", "--total-blocks", "1", "--output-dir", tmp_path)
    done = run_in(installed, "flashdreams-run", OWN, *sized)

    assert done.returncode == 0, done.stderr
    assert len(parse_steps(done.stderr.encode(), OWN)) == 1


def test_slug_that_is_built_is_the_integration_itself(installed):
    """With its own pipeline and options, and the values that were typed."""
    require_source("flashdreams_integrations")
    done = run_in(
        installed, "python", "-c", LOOK, "--no-instantiate", SLUG, "--output-dir", "elsewhere"
    )

    assert done.returncode == 0, done.stderr
    assert f"Resolved config for {SLUG!r}" in done.stdout
    assert "elsewhere" in done.stdout
    assert done.stdout.endswith("imported: ['hy_worldplay', 'wan22']\n")


def test_every_pinned_slug_loads_where_it_is_built(installed):
    """Under its own name, from the integrations' modules."""
    require_source("flashdreams_integrations")
    code = "import runners\nfor slug in runners.PINNED:\n  made = runners.load(slug)\n"
    code += "  print(made.runner_name, type(made).__module__.partition('.')[0])"
    done = run_in(installed, "python", "-c", code)
    loaded = dict(line.split() for line in done.stdout.splitlines())

    assert done.returncode == 0, done.stderr
    assert list(loaded) == list(runners.PINNED)
    assert set(loaded.values()) == {"hy_worldplay", "omnidreams"}


def test_library_that_an_integration_needs_is_named(installed, tmp_path, monkeypatch):
    """Instead of a traceback in the log and an unknown slug."""
    staged = require_source("flashdreams_integrations")
    spoiled = tmp_path / "cache" / "sources" / staged.name
    (spoiled / "integrations" / "hy_worldplay" / "hy_worldplay").mkdir(parents=True)
    config = spoiled / "integrations" / "hy_worldplay" / "hy_worldplay" / "config.py"
    config.write_text("import library_of_nobody\n")
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    done = run_in(installed, "flashdreams-run", SLUG)

    assert done.returncode == 2
    assert "Type: pip install library_of_nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_from_python_it_raises(installed, nothing_built):
    """What a script can catch says the same; a slug of nobody is answered with the nearest."""
    code = "import runners, runners.pinned\n"
    code += "for slug in ('hy-worldplay-wan-i2v-5b', 'hy-worldplay'):\n"
    code += "  try: runners.load(slug)\n"
    code += "  except (runners.pinned.NotBuiltError, runners.UnknownRunnerError) as e: print(e)\n"
    environment = {**os.environ, **installed.variables()}
    python = str(installed.folder / "bin" / "python")
    done = subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    built, unknown = done.stdout.splitlines()

    assert built.endswith("Type: fdbench env build flashdreams_integrations")
    assert unknown == f"no runner 'hy-worldplay'; the nearest is '{SLUG}'"
