"""The results that the repository holds: sound, passing, and reported exactly as they are."""

import shutil
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.integrity import repair
from harness.judging.stats import MIN_PROCESSES
from harness.plan.cells import need_of
from harness.plan.estimate import KERNEL_TIME_S
from harness.plan.suites import load_devices, load_recipes
from harness.records import Role, TrialRow, Verdict
from harness.store.run import open_run
from reports.latency import latency_rows
from reports.measurement import clock_fault
from reports.render import render_run
from reports.run_view import read_view
from tests.fakes.command import fdbench

pytestmark = [pytest.mark.unit, pytest.mark.slow]

README = Path(__file__).parent.parent / "README.md"
RESULTS = README.parent / "docs" / "results"
DEVICES = ("h100", "h200")
"""Runs of the suite per-step, each on one kind of GPU."""
STOPPED = {"h100": {"self-forcing-wan2.1-t2v-1.3b-taehv/h100/fastvideo/af2ee9c"}}
"""Cells of a run whose time on the machine ended before their last trials."""
ROLES = [[role.value] for role in Role]
REPORT = ("index.html", "published.html", "report.md")


@pytest.fixture(params=sorted(path.name for path in RESULTS.iterdir() if path.is_dir()))
def run(request, tmp_path):
    """A copy of a committed run, so that no check leaves a trace in it."""
    return shutil.copytree(RESULTS / request.param, tmp_path / request.param)


def test_there_is_a_committed_run():
    """Without one the checks below would check nothing."""
    assert (RESULTS / "h200" / "MANIFEST.jsonl").is_file()


def test_every_table_is_what_its_raw_evidence_says(run):
    """Logs, events, settings and telemetry give the committed rows, with the code as it is."""
    assert repair.examine(open_run(run)) == ()
    finished = fdbench("fsck", run)

    assert (finished.code, finished.err) == (0, "")


def test_check_passes(run):
    """Every cell that came to a verdict is a pass; a stopped one leaves it incomplete."""
    finished = fdbench("check", run)
    cells = read_view(run).cells
    stopped = {cell.cell_id for cell in cells if cell.pair is None}

    assert stopped == STOPPED.get(run.name, set())
    assert finished.code == (ExitCode.INCOMPLETE if stopped else ExitCode.PASS), finished.out
    assert {cell.pair.verdict for cell in cells if cell.pair} == {Verdict.PASS}


def test_report_is_the_committed_one(run):
    """Rendering again gives the committed pages byte for byte: no figure was written by hand."""
    committed = {name: (run / "report" / name).read_bytes() for name in REPORT}
    shutil.rmtree(run / "report")
    render_run(run)

    assert {path.name for path in (run / "report").iterdir()} == set(REPORT)
    for name in REPORT:
        assert (run / "report" / name).read_bytes() == committed[name], name


def test_speedups_are_withheld_for_the_clocks_or_a_missing_verdict_alone(run):
    """Every other figure has a speed-up; five processes a side give an interval around it."""
    cells = {cell.cell_id: cell for cell in read_view(run).cells}
    rows = latency_rows(open_run(run))

    assert rows
    for row in rows:
        cell = cells[row.cell_id]
        assert row.withheld == (clock_fault(cell) if cell.pair else "no verdict")
        if row.withheld:
            continue
        assert (row.interval_percent is None) == (min(row.processes) < MIN_PROCESSES)
        low, high = row.interval_percent or (row.speedup_percent, row.speedup_percent)
        assert low <= row.speedup_percent <= high


def test_reproduce_says_what_to_type_and_what_may_be_other(run):
    """Command, trials in their order, and the PyTorch and code that a cell was measured with."""
    suite = open_run(run).read_record().suite
    for cell in open_run(run).read_plan():
        done = fdbench("reproduce", cell.cell_id, "--run", run)
        lines = done.out.splitlines()

        assert (done.code, done.err) == (0, "")
        assert f"--suite {suite} --gpu {cell.device} --only {cell.cell_id}" in lines[2]
        told = [line.split()[1].rstrip(":") for line in lines if line.split()[:1] in ROLES]
        assert told == [str(trial.side) for trial in cell.trials]
        measured = lines[lines.index(next(line for line in lines if "measured with" in line)) + 1 :]
        assert all(", cuDNN 9" in line and "torch 2." in line for line in measured)
        assert len(measured) >= len({trial.side.environment for trial in cell.trials})

    unknown = fdbench("reproduce", "nothing", "--run", run)
    assert unknown.code == 2
    assert cell.cell_id in unknown.err


def test_plan_says_how_long_a_cell_takes(run):
    """Within a quarter of what its processes take."""
    rows, recipes = open_run(run).read_rows(TrialRow), load_recipes()
    for cell in open_run(run).read_plan():
        ran = [row.wall_s for row in rows if row.cell_id == cell.cell_id]
        took_s = sum(ran) * len(cell.trials) / len(ran)  # of one that was stopped, a part ran
        need = need_of(cell, recipes, load_devices()[cell.device])

        assert 0.75 < need.seconds / (took_s + KERNEL_TIME_S) < 1.25


def test_run_of_an_earlier_protocol_gets_no_further_trial(run):
    """It is legible and closed: the message says so, and how to begin anew."""
    record = open_run(run).read_record()
    suite, device = record.suite, record.device
    more = fdbench("run", "--into", run, "--suite", suite, "--gpu", device)

    assert more.code == 2, more.err
    assert "was started with protocol 2, and this fdbench has protocol 3" in more.err
    assert f"fdbench run --suite {suite} --gpu {device}" in more.err
