"""Several processes that add to one run at the same time: each does its part, and no other's."""

import os
import signal
import subprocess
import sys

import pytest

from harness import workflow
from harness.errors import ExitCode, Interrupted, UsageFault
from harness.records import PairRow
from harness.store.run import Store, open_run
from harness.trials.launch import Limits
from tests.fakes import workplace
from tests.test_workers import Stopping

pytestmark = pytest.mark.contract

REWRITES = """
import sys
from pathlib import Path
from harness.store.durable import write_text
for number in range(200):
    write_text(Path(sys.argv[1]), sys.argv[2] * 1000)
"""


class Counting(workplace.Silent):
    """Which trials were planned and started; does something when a cell is judged."""

    def __init__(self, then=lambda: None):
        self.num_planned, self.started, self.cells_judged, self._then = 0, [], [], then

    def planned(self, planned):
        """Count them."""
        self.num_planned = sum(len(cell.trials) for cell in planned.cells)

    def trial_started(self, trial):
        """Keep its cell."""
        self.started.append(trial.cell_id)

    def judged(self, pair):
        """Keep its cell, and do it once."""
        self.cells_judged.append(pair.cell_id)
        then, self._then = self._then, lambda: None
        then()


@pytest.fixture
def begun(place, tmp_path):
    """A run that was stopped before its first trial, and its two cells."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        place.run(run, watcher=Stopping("left"))
    return run, *(cell.cell_id for cell in open_run(run).read_plan())


def resume(place, run, watcher):
    """Go on with a run under a watcher."""
    return workflow.resume_run(run, place.environments_dir, watcher, Limits())


def verdicts(run):
    """Cells that have one."""
    return [pair.cell_id for pair in open_run(run).read_rows(PairRow)]


@pytest.mark.slow
def test_cell_that_another_worker_judged_meanwhile_is_not_run_again(place, tmp_path):
    """What is left is looked at when a cell's turn comes, not when the worker begins."""
    run = tmp_path / "run"
    watcher = Counting(then=lambda: place.add(run, only="right"))

    assert place.run(run, watcher=watcher) == ExitCode.PASS
    (left, _) = verdicts(run)
    assert set(watcher.started) == {left}
    assert watcher.cells_judged == [left]


@pytest.mark.slow
def test_cell_that_another_worker_runs_is_left_to_it(place, begun):
    """The others are run, and the run says that it is not complete yet."""
    run, left, right = begun
    with Store(run).holding_cell(right):
        assert resume(place, run, Counting()) == ExitCode.INCOMPLETE

    assert verdicts(run) == [left]
    assert resume(place, run, Counting()) == ExitCode.PASS


def test_worker_without_a_free_cell_changes_nothing(place, begun):
    """It is refused before it enters itself into the record."""
    run, left, right = begun
    before = (run / "run.json").read_bytes()
    refused = pytest.raises(UsageFault, match="another process runs")
    with Store(run).holding_cell(left), Store(run).holding_cell(right), refused:
        resume(place, run, Counting())

    assert (run / "run.json").read_bytes() == before


def test_worker_that_is_refused_in_the_middle_leaves_no_running_run(place, begun, monkeypatch):
    """A run is running only while somebody runs it."""
    run, *_ = begun

    def refuse(*_):
        raise UsageFault("was started on GPU-1, but this is GPU-2")

    monkeypatch.setattr("harness.integrity.resume.refuse_other_gpus", refuse)
    with pytest.raises(UsageFault, match="GPU-2"):
        resume(place, run, Counting())

    assert open_run(run).read_record().state == "interrupted"


def test_stop_is_heard_between_two_cells(place, begun):
    """Also where the next one is held by another process."""
    run, left, right = begun
    watcher = Counting(then=lambda: os.kill(os.getpid(), signal.SIGINT))
    with Store(run).holding_cell(right), pytest.raises(Interrupted):
        resume(place, run, watcher)

    assert verdicts(run) == [left]


def test_only_what_is_left_is_announced(place, tmp_path):
    """A resume counts its own trials, and one of a finished run leaves its record alone."""
    run, watcher = tmp_path / "run", Counting()
    with pytest.raises(Interrupted):
        place.run(run, only="left", watcher=Stopping("left", 3))

    assert resume(place, run, watcher) == ExitCode.PASS
    assert watcher.num_planned == len(watcher.started)
    before = (run / "run.json").read_bytes()
    again = Counting()
    assert resume(place, run, again) == ExitCode.PASS
    assert (again.num_planned, again.started) == (0, [])
    assert (run / "run.json").read_bytes() == before


def test_two_processes_write_one_page(tmp_path):
    """Workers that end together both render the report: the last one stays, whole."""
    page = tmp_path / "index.html"
    writers = [subprocess.Popen([sys.executable, "-c", REWRITES, str(page), word]) for word in "ab"]

    assert [writer.wait() for writer in writers] == [0, 0]
    assert page.read_text() in ("a" * 1000, "b" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
