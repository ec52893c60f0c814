"""Several workers on one run: what one does is not undone, not forgotten and not misnamed."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness import workflow
from harness.environments.built import BuiltEnvironment
from harness.environments.declared import Environment
from harness.errors import EnvironmentFault, Interrupted, UsageFault
from harness.integrity import repair, resume
from harness.machine.fingerprint import read_machine
from harness.records import Source, TelemetryRow, TrialRow
from harness.store.manifest import read_manifest, write_manifest
from harness.store.run import open_run
from harness.trials import inputs
from harness.trials.launch import Limits
from reports.page import build_page
from reports.render import render_run
from reports.run_view import read_view, stored_cells
from tests.fakes import workplace
from tests.fakes.command import fdbench
from tests.test_telemetry import SAMPLE

pytestmark = pytest.mark.contract

HOLDER = """
import sys, time
from pathlib import Path
from harness.store.run import open_run
store = open_run(Path(sys.argv[1]))
with store.holding_cell(sys.argv[2]):
    log = store.folder / "work" / sys.argv[3] / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("AR 0 ...")
    print("up", flush=True)
    time.sleep(60)
"""


class Stopping(workplace.Silent):
    """A user who stops the run at the start of a cell's n-th trial."""

    def __init__(self, cell, number=1, first=lambda: None):
        self._cell, self._left, self._first = cell, number, first

    def trial_started(self, trial):
        """Stop it."""
        self._left -= self._cell in trial.cell_id
        if not self._left:
            self._first()
            raise KeyboardInterrupt


def test_stopped_worker_leaves_the_job_folders_of_another(place, tmp_path):
    """What another process runs in the same run goes on, log and all."""
    run, others = tmp_path / "run", []
    with pytest.raises(Interrupted):
        place.run(run, watcher=Stopping("left"))
    right = next(cell for cell in open_run(run).read_plan() if "right" in cell.cell_id)
    words = [sys.executable, "-c", HOLDER, run, right.cell_id, right.trials[0].trial_id]

    def another_worker():
        others.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert others[0].stdout.readline() == "up\n"

    try:
        watcher = Stopping("left", 1, another_worker)
        with pytest.raises(Interrupted):
            workflow.resume_run(run, place.environments_dir, watcher, Limits())
        assert (run / "work" / right.trials[0].trial_id / "log.txt").exists()
    finally:
        for other in others:
            other.kill()
            other.communicate()


@pytest.mark.slow
def test_run_that_goes_on_has_not_finished(place, tmp_path):
    """A worker that was stopped does not wear the end of the one before."""
    run = tmp_path / "run"
    place.run(run, only="left")
    assert build_page(read_view(run)).when.startswith("Ran ")
    request = place.request(run, "right")
    with pytest.raises(Interrupted):
        workflow.add_to_run(request, Stopping("right"), Limits())

    assert build_page(read_view(run)).when.startswith("Started ")
    place.resume(run)
    assert build_page(read_view(run)).when.startswith("Ran ")


def test_stopped_cell_is_timed_over_the_documented_steps(place, tmp_path):
    """Its figures are those that its verdict will stand beside, not of every step that ran."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        place.run(run, only="left", watcher=Stopping("left", 2))
    (planned,) = open_run(run).read_plan()

    (shown,) = read_view(run).cells
    (stored,) = stored_cells(open_run(run))
    assert shown.pair is None
    assert shown.documented_ar_steps == stored.documented_ar_steps == planned.documented_ar_steps
    assert planned.documented_ar_steps > 0


def test_fault_before_the_first_trial_leaves_no_folder(place, tmp_path, monkeypatch):
    """What fails while kernels are timed can be typed again."""

    def faulty(*_):
        raise EnvironmentFault("the kernels cannot be timed on this machine")

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "_kernel_times", faulty)
        with pytest.raises(EnvironmentFault, match="cannot be timed"):
            place.run(tmp_path / "run", only="left")

    assert not (tmp_path / "run").exists()
    assert place.run(tmp_path / "run", only="left") == 0


@pytest.mark.slow
def test_every_machine_of_a_run_is_shown(place, tmp_path, monkeypatch):
    """Workers on two machines: both are named, and what they share is named once."""
    run, here = tmp_path / "run", read_machine()
    place.run(run, only="left")
    monkeypatch.setattr(
        "harness.machine.fingerprint.read_machine",
        lambda: replace(here, cpu="another CPU", driver="999.1"),
    )
    place.add(run, only="right")
    page = render_run(run).read_text()

    assert f"{here.cpu}, {here.cores} cores; another CPU, {here.cores} cores" in page
    assert "999.1" in page
    assert f"{here.system}; {here.system}" not in page


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        pytest.param({"passed": ("MY_VARIABLE",)}, "--env MY_VARIABLE", id="env"),
        pytest.param({"sandbox": "docker"}, "--sandbox docker", id="sandbox"),
    ],
)
def test_options_that_a_run_cannot_change_are_refused(place, tmp_path, changes, option):
    """They are not dropped in silence, and nothing is run or written."""
    run = tmp_path / "run"
    place.run(run, only="left")
    before = (run / "run.json").read_bytes()
    request = replace(place.request(run, "right"), **changes)
    with pytest.raises(UsageFault, match=f"leave out {option}, or"):
        workflow.add_to_run(request, workplace.Silent(), Limits())

    assert (run / "run.json").read_bytes() == before


def test_cell_does_not_go_on_with_other_upstream_code(place, tmp_path):
    """Its source is compared as its packages and its adapter are."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        place.run(run, only="left", watcher=Stopping("left", 2))
    store = open_run(run)
    record = store.read_record()
    ran_in = store.read_rows(TrialRow)[0].side.partition("{")[0]
    source = Source(url="https://github.com/x/y", commit="0" * 40, paths=(), tree_sha256="1" * 64)
    changed = {ran_in: replace(record.environments[ran_in], source=source)}
    store.write_record(replace(record, environments=record.environments | changed))

    with pytest.raises(UsageFault, match=f"source of environment {ran_in} changed"):
        place.resume(run)


@pytest.fixture
def half_run(place, tmp_path):
    """Left has its verdict; right was stopped after two trials."""
    place.run(tmp_path / "run", only="left")
    with pytest.raises(Interrupted):
        workflow.add_to_run(
            place.request(tmp_path / "run", "right"), Stopping("right", 3), Limits()
        )
    return tmp_path / "run"


def captures(run, cell):
    """Captured files of a cell."""
    return [path for path in (run / "captures").rglob("*.safetensors") if cell in str(path.parent)]


def test_pruning_keeps_what_an_unfinished_cell_needs(place, half_run):
    """Its verdict is still to come, and comes; those of the other cell go."""
    pruned = fdbench("fsck", "--prune", half_run)
    kept = len(captures(half_run, ".right."))

    assert f"{kept} captures are kept for cells without a verdict" in pruned.out
    assert (kept > 0, captures(half_run, ".left.")) == (True, [])
    assert place.resume(half_run) == 0
    assert repair.examine(open_run(half_run)) == ()


def test_cell_whose_captures_are_gone_does_not_go_on(place, half_run):
    """It is refused before another trial is run for a verdict that cannot come."""
    entries = read_manifest(half_run)
    gone = {name: replace(one, pruned=True) for name, one in entries.items() if ".right." in name}
    for path in captures(half_run, ".right."):
        path.unlink()
    changed = {name: one for name, one in gone.items() if name.startswith("captures/")}
    write_manifest(half_run, (entries | changed).values())

    with pytest.raises(UsageFault, match="captures were pruned before it had a verdict"):
        place.resume(half_run)


def test_cell_does_not_go_on_on_another_gpu(fake_run, tmp_path):
    """Both sides of a cell run on one GPU; a cell that ran on none yet may run anywhere."""
    store = open_run(shutil.copytree(fake_run, tmp_path / "run"))
    (cell,) = store.read_plan()
    trial = store.read_rows(TrialRow)[0].trial_id
    resume.refuse_other_gpus(store, cell.cell_id, ("GPU-2",))
    rows = [replace(SAMPLE, cell_id=cell.cell_id, trial_id=trial, gpu="GPU-1")]
    store.write_rows(rows, TelemetryRow, part=trial)

    resume.refuse_other_gpus(store, cell.cell_id, ("GPU-1",))
    with pytest.raises(UsageFault, match="was started on GPU-1, but this is GPU-2"):
        resume.refuse_other_gpus(store, cell.cell_id, ("GPU-2",))


@pytest.mark.parametrize("what", ["digest", "code_digest", "source"])
def test_environment_that_changed_keeps_what_finished_cells_ran_in(what):
    """Packages, code or source: each makes another environment, and both are told."""
    declared = Environment(description="d", packages=["flashdreams==0.2.0"], command=["python"])
    built = BuiltEnvironment(
        name="flashdreams",
        declared=declared,
        digest="d" * 64,
        folder=Path(),
        code_digest="c" * 64,
        code=Path(),
    )
    now = resume.describe(built)
    other = "other"
    if what == "source":
        other = Source(url="u", commit="0" * 40, paths=(), tree_sha256="1" * 64)
    old = replace(now, **{what: other}, packages=("flashdreams==0.1.0",))
    kept = resume.environments_of({"flashdreams": old}, {"flashdreams": built})

    assert sorted(kept.values(), key=lambda value: value != now) == [now, old]
    assert resume.environments_of({"flashdreams": now}, {"flashdreams": built}) == {
        "flashdreams": now
    }


def test_cells_own_candidate_makes_what_both_sides_read(place, tmp_path, monkeypatch):
    """One environment for both sides, and none that the suite does not name."""
    suite, makers = place.folder / "own.toml", []
    cell = workplace.CELL.format(recipe=workplace.RECIPE, baseline="left")
    cell = cell.replace("flashdreams", "left").replace("settings", 'candidate = "right"\nsettings')
    suite.write_text('description = "fake"\nsize = "tiny"\n' + cell)
    declared = place.environments_dir / "right" / "env.toml"
    before, prepare = declared.read_text(), inputs.prepare
    declared.write_text(before.replace('role = "reference"', 'role = "candidate"'))

    def noted(trial, environment):
        makers.append((str(trial.side), environment.name))
        return prepare(trial, environment)

    monkeypatch.setattr(inputs, "prepare", noted)
    workflow.run_suite(place.request(tmp_path / "run", suite=suite), workplace.Silent(), Limits())
    record = open_run(tmp_path / "run").read_record()
    declared.write_text(before)

    assert {side for side, _ in makers} == {"right", "left", "left{dtype=float32}"}
    assert {maker for _, maker in makers} == {"right"}
    assert set(record.environments) == {"left", "right"}
