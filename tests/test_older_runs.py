"""A run of every earlier layout is read, goes on and is repaired; nothing of it is lost."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.errors import Interrupted
from harness.integrity import repair
from harness.integrity.findings import Kind
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store.run import create_run, open_run
from harness.store.schema import to_table
from reports.render import render_run
from tests.fakes import older, samples, stored, workplace
from tests.fakes.command import fdbench
from tests.test_workers import Stopping

pytestmark = [pytest.mark.contract, pytest.mark.slow]

ROWS = (StepRow, TrialRow, PairRow, ParityRow)
layouts = pytest.mark.parametrize("layout", older.LAYOUTS.values(), ids=older.LAYOUTS)
WHOLE = ("trials.parquet", "pairs.parquet", "parity.parquet")


@pytest.fixture
def run(fake_run, tmp_path):
    """A finished run of one cell, to lay out as it was once."""
    return shutil.copytree(fake_run, tmp_path / "run")


def rows(run):
    """Every row that is stored."""
    return [open_run(run).read_rows(row_type) for row_type in ROWS]


def same_but_for_captures(found, wanted):
    """Rows are equal but for columns that came later.

    Distances of a run before there were frames do not say of what they are.
    """
    return [as_then(table) for table in found] == [as_then(table) for table in wanted]


def as_then(table):
    """Rows of a table as text, with the columns that there were."""
    later = {name for names in older.LATER.values() for name in names} - {"energy_j"}
    rows = [row if isinstance(row, dict) else vars(row) for row in table]
    kept = [{name: value for name, value in row.items() if name not in later} for row in rows]
    return str(kept).replace("'latents'", "None")


@layouts
def test_it_is_read_as_it_is(fake_run, run, layout):
    """Rows, record, verdict and page are those of the same run in today's layout."""
    older.age(run, layout)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    assert same_but_for_captures(rows(run), rows(fake_run))
    steps = open_run(run).read_rows(StepRow)
    assert {getattr(step, name) for step in steps for name in older.LATER["steps"]} == {None}
    assert open_run(run).read_record().plan == open_run(fake_run).read_record().plan
    assert fdbench("check", run).code == fdbench("check", fake_run).code == 0
    assert repair.examine(open_run(run)) == ()
    assert repair.repair(open_run(run)) == repair.Repaired(mended=(), left=())
    assert {path: path.read_bytes() for path in before} == before
    assert render_run(run).read_text().count("pass") > 0


@layouts
def test_it_goes_on(place, tmp_path, layout):
    """A stopped run of then ends as one that was never stopped; its tables stay as they are."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        place.run(run, watcher=Stopping("right", 2))
    older.age(run, layout)
    kept = {name: (run / name).read_bytes() for name in WHOLE}
    assert place.resume(run) == 0
    place.run(tmp_path / "undisturbed")

    assert {name: (run / name).read_bytes() for name in WHOLE} == kept
    assert list((run / "trials").glob("*.right.*.parquet"))
    assert not list((run / "trials").glob("*.left.*.parquet"))
    found, wanted = workplace.tables(run), workplace.tables(tmp_path / "undisturbed")
    assert same_but_for_captures(found.values(), wanted.values())
    assert repair.examine(open_run(run)) == ()
    assert json.loads((run / "run.json").read_text())["schema"] == 3


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        pytest.param(layout, name, id=f"{name}-{title}")
        for title, layout in older.LAYOUTS.items()
        for name in (*WHOLE, *["run.json"] * layout.has_copy, "MANIFEST.jsonl")
    ],
)
def test_it_is_repaired(fake_run, run, layout, name):
    """What can be derived comes back, as parts where a whole table was damaged."""
    older.age(run, layout)
    (run / name).write_bytes((run / name).read_bytes()[:-20] if name in WHOLE else b"")
    assert (name, Kind.DERIVABLE) in {(f.path, f.kind) for f in repair.examine(open_run(run))}

    assert repair.repair(open_run(run)).left == ()
    assert same_but_for_captures(rows(run), rows(fake_run))
    assert repair.examine(open_run(run)) == ()
    unvouched = WHOLE if name == "MANIFEST.jsonl" else (name,) * (name in WHOLE)
    assert [one for one in WHOLE if not (run / one).exists()] == list(unvouched)


def test_cells_without_a_distance_are_added_to_it(place, tmp_path):
    """A table and a part without rows are read together, too."""
    run = tmp_path / "run"
    place.run(run, only="left")
    older.age(run, older.Layout())
    table = pq.read_table(run / "parity.parquet")
    older.write(table.slice(0, 0), run / "parity.parquet")
    open_run(run).write_rows([], ParityRow, "other")

    assert open_run(run).read_rows(ParityRow) == []
    assert open_run(run).read_rows(ParityRow, ["other"]) == []


@pytest.mark.parametrize("name", ["h100", "h100-overhead", "h200"])
def test_committed_runs_are_of_an_older_layout(name):
    """They are read, rendered and checked in every test run; this says what they are."""
    run = Path(__file__).parent.parent / "docs" / "results" / name

    assert json.loads((run / "run.json").read_text())["schema"] == 2
    assert (run / "trials.parquet").is_file()


@pytest.mark.parametrize("num_whole", [0, 1, 3])
def test_rows_come_as_planned(tmp_path, num_whole):
    """Whatever order trials ended in, and whichever of them are in a table of then."""
    cell = samples.cell()
    planned = (replace(cell, trials=cell.trials[::-1]),)
    run = create_run(tmp_path / "run")
    run.write_record(stored.record(plan=planned))
    names = [trial.trial_id for trial in planned[0].trials]
    rows = [samples.trial_row(trial) for trial in sorted(cell.trials, key=lambda t: t.trial_id)]
    if num_whole:
        whole = to_table(rows[-num_whole:], TrialRow)
        older.write(whole, run.folder / "trials.parquet")
    for row in rows[: len(rows) - num_whole]:
        run.write_rows([row], TrialRow, row.trial_id)

    assert [row.trial_id for row in run.read_rows(TrialRow)] == names
    assert [row.trial_id for row in run.read_rows(TrialRow, names[1:3])] == names[1:3]
