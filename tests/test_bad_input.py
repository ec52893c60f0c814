"""Bad input and bad luck: one clear message, the stated exit code, nothing half written."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.records import TrialRow
from harness.store.run import open_run
from tests.command import FDBENCH, fdbench
from tests.fakes import workplace

pytestmark = pytest.mark.contract

COMMITTED = Path(__file__).parent.parent / "docs" / "results" / "h200"
LOG = Path(__file__).parent / "golden" / "flashdreams_h100_self_forcing_taehv_7_blocks.log"
OF = ("--recipe", "self-forcing-wan2.1-t2v-1.3b-taehv", "--gpu", "h100")
IMPORT = ("import", LOG, "--into", "/proc/fdbench-run")


@pytest.fixture
def copy(tmp_path):
    """A copy of the committed run, to put something in its way."""
    return shutil.copytree(COMMITTED, tmp_path / "c", ignore=shutil.ignore_patterns(".locks"))


def swap(path):
    """A folder where a file was, a file where a folder was."""
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()


def refusal(finished, code):
    """What a command said that ended with this code and without a traceback."""
    assert "Traceback" not in finished.text
    assert finished.code == code, finished.text
    return finished.text


@pytest.mark.slow
def test_an_environment_that_cannot_be_built_is_no_run(tmp_path):
    """Without a package index: exit 5, pip's own words, what to type, and no trace of a run."""
    folder, cache = tmp_path / "run", tmp_path / "cache"
    finished = fdbench(
        *("run", "--suite", "smoke", "--gpu", "cpu", "--out", folder),
        FDBENCH_CACHE=str(cache),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path),
        PIP_CONFIG_FILE=os.devnull,
    )

    assert finished.code == 5, finished.text
    assert "1 of 3: building environment flashdreams" in finished.text
    assert "environment flashdreams could not be built" in finished.text
    assert "fdbench env build flashdreams" in finished.text
    assert "Traceback" not in finished.text
    assert not folder.exists()
    assert f"{cache}/envs/" not in fdbench("env", "list", FDBENCH_CACHE=str(cache)).text


@pytest.mark.real
def test_ctrl_c_keeps_what_was_finished(tmp_path):
    """Stopped once in its second trial, a run ends that one, exits 4 and leaves no process."""
    folder = tmp_path / "run"
    words = [FDBENCH, "run", "--suite", "smoke", "--gpu", "cpu", "--sandbox", "process"]
    words += ["--out", folder]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("[2/10]"):
            break
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]

    assert process.returncode == 4, "".join(seen) + rest
    assert "stopped; finished trials are kept in" in rest
    assert "Traceback" not in rest
    assert not (folder / "work").exists()
    assert json.loads((folder / "run.json").read_text())["state"] == "interrupted"
    stored = [trial.outcome for trial in open_run(folder).read_rows(TrialRow)]
    assert stored == ["completed", "completed"]
    assert fdbench("check", folder).code == 4
    assert fdbench("report", folder).code == 0
    assert (
        str(folder)
        not in subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
    )


@pytest.mark.slow
def test_an_existing_run_folder_is_left_alone(tmp_path):
    """``--out`` naming an existing folder is refused before anything runs."""
    (tmp_path / "mine.txt").write_text("keep me")

    finished = fdbench("run", "--suite", "smoke", "--gpu", "cpu", "--out", tmp_path)

    assert finished.code == 2
    assert "already exists; choose another --out" in finished.text
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.slow
def test_variable_that_is_not_set_leaves_no_run(tmp_path, monkeypatch):
    """It is refused before a run is made, and before one that is there is touched."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    place = workplace.make(tmp_path)
    out, envs = tmp_path / "run", ("--envs", place.environments_dir)
    words = ("run", "--suite", place.suite, "--gpu", "cpu", "--only", "left", *envs)
    missing = refusal(fdbench(*words, "--out", out, "--env", "FDBENCH_NOPE"), 2)

    assert "--env FDBENCH_NOPE: that variable is not set" in missing
    assert not out.exists()
    passed = {"FDBENCH_NOPE": "a value of some length"}
    assert fdbench(*words, "--out", out, "--env", "FDBENCH_NOPE", **passed).code != 2
    before = (out / "run.json").read_bytes()
    assert "that variable is not set" in refusal(fdbench("run", "--resume", out, *envs), 2)
    assert (out / "run.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "named"),
    [
        pytest.param('recipe = "wan21-t2v-1.3b"', "wan21-t2v-1.3b-480p", id="recipe"),
        pytest.param(
            'recipe = "wan21-t2v-1.3b-480p"\nsettings = { gidance = 5.0 }', "guidance", id="setting"
        ),
        pytest.param(
            'recipe = "wan21-t2v-1.3b-480p"\nprocess = 3', "cells.0.process", id="unknown-key"
        ),
    ],
)
def test_a_wrong_suite_file_is_named_with_its_key(tmp_path, cell, named):
    """A suite with a wrong name or key is refused with the nearest right one: exit 2."""
    suite = tmp_path / "mine.toml"
    suite.write_text(
        f'description = "mine"\nsize = "tiny"\n[[cells]]\n{cell}\nbaseline = "diffusers"\n'
        'floor = ["diffusers", "diffusers"]\nlimit = 2.0\nlimit_origin = "mine"\n'
    )

    finished = fdbench("run", "--suite", suite, "--gpu", "cpu", "--out", tmp_path / "run")

    assert finished.code == 2, finished.text
    assert named in finished.text
    assert "mine" in finished.text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["report", "report/index.html", "report/published.html"])
def test_report_names_what_is_in_its_way(copy, place):
    """Something else where a page goes: which, and what to type when it is gone; no half page."""
    swap(copy / place)
    said = refusal(fdbench("report", copy), 5)

    assert str(copy / place) in said
    assert f"then: fdbench report {copy}" in said
    assert list(copy.glob("report/*.tmp")) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["trials.parquet", "telemetry", "steps/{trial}.parquet"])
def test_repair_neither_deletes_nor_writes_over_what_is_no_file_of_the_run(copy, place):
    """A folder for a file, or a file for a folder, is named by fsck and left to its owner."""
    name = place.format(trial=min((copy / "logs").iterdir()).name)
    swap(copy / name)

    assert f"foreign  {name}: is a f" in refusal(fdbench("fsck", copy), 7)
    said = refusal(fdbench("fsck", "--repair", copy), 7)
    assert f"{copy / name} is a f" in said
    assert f"Move it out of the run, then: fdbench fsck --repair {copy}" in said
    (copy / name).rename(copy.parent / "mine")
    assert fdbench("fsck", "--repair", copy).code == 0
    assert fdbench("check", copy).code == 0


@pytest.mark.slow
def test_manifest_that_is_a_folder_is_named(copy):
    """Nothing is judged without it, and no command ends in a traceback."""
    swap(copy / "MANIFEST.jsonl")

    repaired = refusal(fdbench("fsck", "--repair", copy), 7)
    assert f"{copy / 'MANIFEST.jsonl'} is a folder where a file belongs" in repaired
    assert "MANIFEST.jsonl: not a manifest" in refusal(fdbench("check", copy), 7)


def test_what_the_system_refuses_is_one_message(copy):
    """Whatever no command foresees: the file, the system's words, what to do; exit 5."""
    (copy / ".locks").touch()
    said = refusal(fdbench("fsck", copy), 5)

    assert f"fdbench: {copy / '.locks'}: " in said
    assert "then run the same command again" in said


@pytest.mark.slow
def test_integrity_faults_say_how_to_see_all(copy):
    """Only the first fault is named, so the way to the others stands beside it."""
    (copy / "trials.parquet").unlink()
    assert f"fdbench fsck {copy}" in refusal(fdbench("check", copy), 7)
    (copy / "run.json").unlink()

    for words in (("check", copy), ("report", copy), ("reproduce", "x", "--run", copy)):
        said = refusal(fdbench(*words), 7)
        assert f"fdbench fsck {copy}" in said, words
        assert "not JSON" not in said
    assert f"{copy / 'run.json'} is missing" in said


@pytest.mark.slow
def test_folder_without_environments_is_named(tmp_path):
    """``--envs`` of the wrong folder: that folder, what belongs in it, and the way without it."""
    words = ("run", "--suite", "smoke", "--gpu", "cpu", "--envs", tmp_path, "--out", tmp_path / "r")
    said = refusal(fdbench(*words), 2)

    assert f"{tmp_path} declares no environments (no NAME/env.toml)" in said
    assert "Leave out --envs" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        pytest.param(("parse", LOG), "fdbench list recipes", id="parse-recipe"),
        pytest.param(("parse", LOG, *OF[:2]), "fdbench list devices", id="parse-device"),
        pytest.param(IMPORT, "fdbench list recipes", id="import-recipe"),
        pytest.param((*IMPORT, *OF[:2]), "fdbench list devices", id="import-device"),
        pytest.param((*IMPORT, *OF), "fdbench list recipes", id="import-side"),
        pytest.param(
            (*IMPORT, *OF, "--side", "official"), "choose another --into", id="import-place"
        ),
    ],
)
def test_advice_can_be_typed(words, advice):
    """What a message names to go on with is there: the option, and the list with its kind."""
    said = refusal(fdbench(*words), 2)

    assert advice in said
    if advice.startswith("fdbench"):
        assert fdbench(*advice.split()[1:]).code == 0
