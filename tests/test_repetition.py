"""A trial whose times were disturbed runs once more: judged on both, timed on the repetition."""

import json
import os
import shutil

import pytest

from harness.errors import IntegrityFault, Interrupted
from harness.integrity import repair
from harness.integrity.findings import Kind
from harness.records import REPEATED, PairRow, ParityRow, Role, StepRow, TelemetryRow, TrialRow
from harness.store.run import open_run
from reports.measurement import measured_sides
from reports.render import render_run
from reports.run_view import read_view
from tests.fakes import workplace
from tests.fakes.stored import forget

pytestmark = [pytest.mark.contract, pytest.mark.slow]

CELL = f"{workplace.RECIPE}.cpu.left"
FIRST = f"{CELL}.candidate.flashdreams.1"
"""The second process, since the first is one side of the floor."""
LAST = f"{CELL}.floor.flashdreams-dtype-float32.0"
DIFFUSE_MS = 343.706
"""What a launch takes that nothing disturbs; twice that where something does."""
MARK = "hardware slowdown in 2 of 4 samples"


class Place:
    """The workplace of a module, and who is disturbed in it."""

    def __init__(self, folder):
        self.made = workplace.make(folder)
        suite = self.made.suite.read_text()
        self.made.suite.write_text(f"processes = 2\n{suite}")
        self._list = folder / "disturbed"

    def run(self, out, *disturbed):
        """Run a cell whose trials of these names are disturbed; returns the exit code."""
        self.disturb(*disturbed)
        return self.made.run(out, only="left")

    def disturb(self, *names):
        """From now on, disturb these."""
        self._list.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Suite and environments of this module."""
    folder = tmp_path_factory.mktemp("place")
    before, os.environ["FDBENCH_CACHE"] = os.environ.get("FDBENCH_CACHE"), str(folder / "cache")
    yield Place(folder)
    os.environ.pop("FDBENCH_CACHE")
    if before is not None:
        os.environ["FDBENCH_CACHE"] = before


@pytest.fixture(scope="module")
def disturbed(place):
    """A finished run whose first candidate was disturbed once."""
    assert place.run(place.made.folder / "disturbed-run", FIRST) == 0
    return place.made.folder / "disturbed-run"


@pytest.fixture
def run(disturbed, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(disturbed, tmp_path / "run")


def marks(folder):
    """Marks of every trial of a run, in stored order."""
    return {row.trial_id: row.marks for row in open_run(folder).read_rows(TrialRow)}


def verdict(folder):
    """The verdict of the only cell."""
    (pair,) = open_run(folder).read_rows(PairRow)
    return pair


def rows(folder):
    """Every row of a run."""
    types = (StepRow, TelemetryRow, TrialRow, PairRow, ParityRow)
    return [open_run(folder).read_rows(row_type) for row_type in types]


@pytest.mark.slow
def test_disturbed_trial_is_followed_by_one_repetition(place, disturbed, tmp_path):
    """The same job once more, right after it, and of no other trial."""
    assert place.run(tmp_path / "calm") == 0
    calm, names = list(marks(tmp_path / "calm")), list(marks(disturbed))

    assert FIRST in calm
    at = calm.index(FIRST) + 1
    assert names == [*calm[:at], FIRST + REPEATED, *calm[at:]]
    assert {name: text for name, text in marks(disturbed).items() if text} == {FIRST: MARK}


def test_repetition_that_is_disturbed_too_is_not_repeated(place, tmp_path):
    """Once is enough: a machine that is always hot would run for ever."""
    assert place.run(tmp_path / "run", FIRST, FIRST + REPEATED) == 0
    found = [name for name, text in marks(tmp_path / "run").items() if text]

    assert found == [FIRST, FIRST + REPEATED]
    assert repair.examine(open_run(tmp_path / "run")) == ()


@pytest.mark.slow
def test_figures_are_the_repetitions(disturbed):
    """The disturbed launch took twice as long; it is in no figure, and its mark is shown."""
    (cell,) = read_view(disturbed).cells
    _, trial = cell.processes(Role.CANDIDATE)
    _, candidate = measured_sides(cell)

    assert {step.trial_id for step in trial} == {FIRST + REPEATED}
    assert {step.stages_ms["diffuse"] for step in trial} == {DIFFUSE_MS}
    assert candidate.num_processes == 2
    fate = "It was repeated once; the figures take the repetition."
    assert candidate.marks == (f"process 1: {MARK}. {fate}",)
    assert MARK in render_run(disturbed).read_text()


def test_both_launches_are_judged(disturbed):
    """Heat does not excuse an output: the disturbed launch is compared as well."""
    compared = {r.candidate_trial for r in open_run(disturbed).read_rows(ParityRow)}

    assert {FIRST, FIRST + REPEATED} <= compared


@pytest.mark.parametrize(
    "names", [(f"{FIRST} differ",), (FIRST, f"{FIRST}{REPEATED} differ")], ids=["first", "again"]
)
def test_launch_that_differs_fails_the_cell(place, tmp_path, names):
    """Either launch's output can fail parity."""
    assert place.run(tmp_path / "run", *names) == 3
    assert verdict(tmp_path / "run").verdict == "fail"


@pytest.mark.parametrize("name", [FIRST, LAST], ids=["first", "last"])
def test_repetition_that_fails_is_incomplete(place, tmp_path, name):
    """A repetition is a trial of the cell: without its figures there is no pass."""
    assert place.run(tmp_path / "run", name, f"{name}{REPEATED} crash") == 4
    pair = verdict(tmp_path / "run")

    assert pair.verdict == "incomplete"
    assert "the GPU fell off the bus" in pair.reason
    assert repair.examine(open_run(tmp_path / "run")) == ()


def test_memory_that_another_process_took_does_not_end_the_cell(place, tmp_path):
    """The repetition of a launch beside another process decides; both stay on record."""
    folder = tmp_path / "run"
    assert place.run(folder, f"{FIRST} oom crowded") == 0, verdict(folder).reason
    outcomes = {row.trial_id: row.outcome for row in open_run(folder).read_rows(TrialRow)}
    (cell,) = read_view(folder).cells

    assert "process 4711 used the GPU meanwhile" in marks(folder)[FIRST]
    assert (outcomes[FIRST], outcomes[FIRST + REPEATED]) == ("oom", "completed")
    assert len(cell.processes(Role.CANDIDATE)) == 2
    assert repair.examine(open_run(folder)) == ()


@pytest.mark.parametrize(
    "names", [(f"{FIRST} oom",), (f"{FIRST} oom crowded", f"{FIRST}{REPEATED} oom crowded")]
)
def test_memory_that_nobody_took_or_that_is_short_twice_is_incomplete(place, tmp_path, names):
    """Heat takes no memory; a repetition is not repeated. The reason says what was needed."""
    assert place.run(tmp_path / "run", *names) == 4

    assert "oom: torch.OutOfMemoryError" in verdict(tmp_path / "run").reason
    assert "20.00 MiB" in verdict(tmp_path / "run").reason


def test_disturbed_run_is_sound(run):
    """Repetition and telemetry are what the raw evidence says."""
    assert repair.examine(open_run(run)) == ()
    assert open_run(run).read_rows(TelemetryRow)
    open_run(run).verify()


@pytest.mark.parametrize(
    "name",
    [
        f"trials/{FIRST}{REPEATED}.parquet",
        f"pairs/{CELL}.parquet",
        f"parity/{CELL}.parquet",
        f"steps/{FIRST}{REPEATED}.parquet",
        f"telemetry/{FIRST}.parquet",
        "MANIFEST.jsonl",
    ],
)
def test_repair_restores_what_a_repetition_left(disturbed, run, name):
    """Each table comes back row for row, the repetition's rows among them."""
    (run / name).unlink()
    assert name in {finding.path for finding in repair.examine(open_run(run))}

    assert repair.repair(open_run(run)).left == ()
    assert rows(run) == rows(disturbed)
    assert repair.examine(open_run(run)) == ()


def test_repetition_without_a_row_is_found(disturbed, run):
    """A table that leaves the repetition out is not what the raw evidence says."""
    store, name = open_run(run), f"trials/{FIRST}{REPEATED}.parquet"
    forget(run, name)

    assert (name, "is missing") in {(one.path, one.problem) for one in repair.examine(store)}
    assert repair.repair(store).left == ()
    assert rows(run) == rows(disturbed)


def test_pruned_run_with_a_repetition_is_sound(run):
    """Captures of both launches may go."""
    assert repair.prune(open_run(run)) > 0
    assert repair.examine(open_run(run)) == ()


@pytest.mark.parametrize(
    "lost", [f"logs/{FIRST}/telemetry.jsonl", f"logs/{FIRST}{REPEATED}/log.txt"]
)
def test_lost_evidence_is_not_blessed(disturbed, run, lost):
    """Without the mark's evidence, or the repetition's, nothing passes; put back, all is well."""
    copy = (run / lost).read_bytes()
    (run / lost).unlink()
    for _ in range(2):
        left = repair.repair(open_run(run)).left
        assert (lost, Kind.LOST) in {(finding.path, finding.kind) for finding in left}
        assert verdict(run).exit_code == 7
    (run / lost).write_bytes(copy)

    assert repair.repair(open_run(run)).left == ()
    assert rows(run) == rows(disturbed)


class Stopper(workplace.Silent):
    """A user who stops the run when a trial starts."""

    def __init__(self, name):
        self._name = name

    def trial_started(self, trial):
        """Interrupt when it is the one."""
        if trial.trial_id == self._name:
            raise KeyboardInterrupt


def test_resume_after_the_disturbed_trial_goes_on_with_its_repetition(
    place, disturbed, tmp_path, monkeypatch
):
    """The disturbed launch is kept as it is, and still has its one repetition."""
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(workplace, "Silent", lambda: Stopper(FIRST + REPEATED))
        with pytest.raises(Interrupted):
            place.run(run, FIRST)
    kept = (run / "logs" / FIRST / "job.json").read_bytes()
    assert repair.examine(open_run(run)) == (), "nothing half-written is left behind"
    assert FIRST + REPEATED not in marks(run)

    place.disturb()
    assert place.made.resume(run) == 0
    assert (run / "logs" / FIRST / "job.json").read_bytes() == kept
    assert workplace.tables(run) == workplace.tables(disturbed)


def test_resume_after_the_repetition_keeps_it(place, disturbed, tmp_path, monkeypatch):
    """A finished repetition is not run a second time."""
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(workplace, "Silent", lambda: Stopper(LAST))
        with pytest.raises(Interrupted):
            place.run(run, FIRST)
    kept = (run / "logs" / f"{FIRST}{REPEATED}" / "job.json").read_bytes()

    place.disturb()
    assert place.made.resume(run) == 0
    assert (run / "logs" / f"{FIRST}{REPEATED}" / "job.json").read_bytes() == kept
    assert workplace.tables(run) == workplace.tables(disturbed)


def test_damaged_telemetry_is_an_integrity_fault(run):
    """A sample that was changed to hide a mark is found by the trial's own record."""
    path = run / "logs" / FIRST / "telemetry.jsonl"
    samples = [json.loads(line) | {"reasons": 0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))

    with pytest.raises(IntegrityFault):
        open_run(run).verify()
    assert (f"logs/{FIRST}/telemetry.jsonl", Kind.LOST) in {
        (finding.path, finding.kind) for finding in repair.repair(open_run(run)).left
    }
