"""A run counts as settled only where no file, row or digest hints at a half-done step."""

import json
import shutil
from pathlib import Path

import pytest

from harness.integrity.settled import is_settled
from harness.records import TrialRow
from harness.store.run import open_run


@pytest.fixture
def run(fake_run, tmp_path):
    """A finished run of one cell, to disturb."""
    return shutil.copytree(fake_run, tmp_path / "run")


def first(run, pattern):
    """The first path that matches."""
    return min(run.glob(pattern))


def forget_row(run):
    """Drop a trial from the table, and say so in the manifest."""
    store = open_run(run)
    store.write_rows(store.read_rows(TrialRow)[1:], TrialRow)


def forget_entry(run):
    """Drop a log from the manifest."""
    manifest = run / "MANIFEST.jsonl"
    lines = [line for line in manifest.read_text().splitlines() if "log.txt" not in line]
    manifest.write_text("\n".join(lines) + "\n")


def forget_trial(run):
    """Drop a trial from the manifest, as a kill before its last step leaves it."""
    name = first(run, "logs/*").name
    manifest = run / "MANIFEST.jsonl"
    lines = [line for line in manifest.read_text().splitlines() if name not in line]
    manifest.write_text("\n".join(lines) + "\n")


def say_otherwise(run):
    """A run file that is sound and of another run."""
    store = open_run(run)
    store.write_run(store.read_run() | {"description": "other"})
    (run / "run.copy.json").replace(run / "kept")
    store.write_run(store.read_run() | {"description": "yet another"})
    (run / "kept").replace(run / "run.copy.json")


DISTURBANCES = {
    "log altered": lambda run: first(run, "logs/*/log.txt").write_text("other"),
    "log missing": lambda run: first(run, "logs/*/log.txt").unlink(),
    "steps missing": lambda run: first(run, "steps/*.parquet").unlink(),
    "capture missing": lambda run: first(run, "captures/*/*").unlink(),
    "table damaged": lambda run: (run / "trials.parquet").write_bytes(b"PAR1"),
    "trial half run": lambda run: (run / "work" / "x").mkdir(parents=True),
    "captures moved, logs not": lambda run: (run / "captures" / "x").mkdir(),
    "unknown file": lambda run: (first(run, "logs/*") / "x").touch(),
    "row missing": forget_row,
    "entry missing": forget_entry,
    "trial not entered": forget_trial,
    "copy missing": lambda run: (run / "run.copy.json").unlink(),
    "copy differs": say_otherwise,
    "manifest missing": lambda run: (run / "MANIFEST.jsonl").unlink(),
    "manifest damaged": lambda run: (run / "MANIFEST.jsonl").write_text("{"),
}


def test_untouched_run_is_settled(run):
    """Nothing to do."""
    assert is_settled(open_run(run))


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES)
def test_disturbed_run_is_not(run, disturb):
    """One thing is not as it was left."""
    disturb(run)
    assert not is_settled(open_run(run))


@pytest.mark.parametrize("name", ["trials.parquet.tmp", "steps/x.parquet.tmp"])
def test_half_written_file_is_dropped_by_whoever_looks(run, name):
    """What the manifest does not name was never there; without it nothing is half done."""
    (run / name).touch()

    assert is_settled(open_run(run))
    assert not (run / name).exists()


def test_pruned_run_is_settled(run):
    """Captures that are gone on purpose are none that are missing."""
    manifest = run / "MANIFEST.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        if str(line.get("path", "")).startswith("captures/"):
            (run / line["path"]).unlink()
            line["pruned"] = True
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert is_settled(open_run(run))
    assert not list(Path(run).glob("captures/*/*"))
