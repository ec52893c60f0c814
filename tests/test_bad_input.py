"""Bad input and bad luck: one clear message, the stated exit code, nothing half written."""

import json
import os
import signal
import subprocess
import time

import pytest

from harness.records import TrialRow
from harness.store import open_run
from tests.command import FDBENCH, fdbench


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
    assert "environment flashdreams cannot be made" in finished.text
    assert "fdbench env build flashdreams" in finished.text
    assert "Traceback" not in finished.text
    assert not folder.exists()
    assert f"{cache}/envs/" not in fdbench("env", "list", FDBENCH_CACHE=str(cache)).text


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
    assert "stopped; finished trials are in" in rest
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


def test_an_existing_run_folder_is_left_alone(tmp_path):
    """``--out`` naming an existing folder is refused before anything runs."""
    (tmp_path / "mine.txt").write_text("keep me")

    finished = fdbench("run", "--suite", "smoke", "--gpu", "cpu", "--out", tmp_path)

    assert finished.code == 2
    assert "exists; pick another --out" in finished.text
    assert (tmp_path / "mine.txt").read_text() == "keep me"


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
