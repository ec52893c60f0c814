"""A run counts as settled only where no file, row or digest hints at a half-done step."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.integrity.settled import is_settled
from harness.machine.owners import owner_label
from harness.store.run import open_run
from tests.fakes.stored import drop_lines, forget

pytestmark = pytest.mark.unit


@pytest.fixture
def run(fake_run, tmp_path):
    """A finished run of one cell, to disturb."""
    return shutil.copytree(fake_run, tmp_path / "run")


def first(run, pattern):
    """The first path that matches."""
    return min(run.glob(pattern))


def forget_row(run):
    """Drop a trial's row, and its line of the manifest."""
    forget(run, str(first(run, "trials/*").relative_to(run)))


def forget_entry(run):
    """Drop a log from the manifest."""
    drop_lines(run, "log.txt")


def forget_trial(run):
    """Drop a trial from the manifest, as a kill before its last step leaves it."""
    drop_lines(run, first(run, "logs/*").name)


def say_otherwise(run):
    """A run file that is sound and of another run."""
    store = open_run(run)
    store.write_record(replace(store.read_record(), description="other"))
    copy = run / "run.copy.json"
    copy.write_text(copy.read_text().replace("other", "another"))


DISTURBANCES = {
    "log altered": lambda run: first(run, "logs/*/log.txt").write_text("other"),
    "log missing": lambda run: first(run, "logs/*/log.txt").unlink(),
    "steps missing": lambda run: first(run, "steps/*.parquet").unlink(),
    "capture missing": lambda run: first(run, "captures/*/*").unlink(),
    "table damaged": lambda run: first(run, "trials/*").write_bytes(b"PAR1"),
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
def test_half_written_file_of_an_older_fdbench_is_looked_at(run, name):
    """It wrote beside its places, and whether that was all only the evidence tells."""
    (run / name).touch()

    assert not is_settled(open_run(run))


def test_change_that_broke_off_is_dropped_by_whoever_looks(run):
    """What the manifest does not name was never there; without it nothing is half done."""
    change = run / ".staging" / "x"
    change.mkdir(parents=True)
    (change / "owner").write_text(" ".join([*owner_label().split(" ")[:4], "1"]))
    (change / "x.parquet").touch()

    assert is_settled(open_run(run))
    assert not change.exists()


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
