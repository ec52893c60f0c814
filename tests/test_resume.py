"""A stopped run goes on: nothing finished is lost, and the tables are those undisturbed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness.errors import EnvironmentFault, IntegrityFault, Interrupted, UsageFault
from harness.integrity import repair
from harness.records import PairRow, TrialRow
from harness.store.run import Store, open_run
from tests.fakes import workplace
from tests.fakes.command import fdbench
from tests.fakes.victim import Replay
from tests.test_workers import Stopping

pytestmark = pytest.mark.contract

KILLS, SEED = 50, 20261123
LEFT, RIGHT = (f"{workplace.RECIPE}/cpu/{name}" for name in ("left", "right"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Suite and environments of this module."""
    folder = tmp_path_factory.mktemp("place")
    before, os.environ["FDBENCH_CACHE"] = os.environ.get("FDBENCH_CACHE"), str(folder / "cache")
    yield workplace.make(folder)
    os.environ.pop("FDBENCH_CACHE")
    if before is not None:
        os.environ["FDBENCH_CACHE"] = before


@pytest.fixture(scope="module")
def undisturbed(place):
    """A run that nobody disturbed."""
    assert place.run(place.folder / "undisturbed") == 0
    return place.folder / "undisturbed"


@pytest.fixture
def replayed(monkeypatch, undisturbed):
    """Trials of this process come from the undisturbed run."""
    monkeypatch.setattr("harness.worker.launch", Replay(undisturbed))


class Victims:
    """Runs workers in processes of their own."""

    def __init__(self, place, undisturbed):
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.victim", place.folder, undisturbed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def start(self, how, out, only=""):
        """Start one; returns its process id."""
        self._server.stdin.write(json.dumps([how, str(out), only]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def wait(self):
        """Wait for its end; returns the status as ``waitpid`` has it."""
        return int(self._server.stdout.readline().split()[1])

    def close(self):
        """No more."""
        self._server.communicate()


@pytest.fixture
def victims(place, undisturbed):
    """Makes processes to be killed."""
    made = Victims(place, undisturbed)
    yield made
    made.close()


def finished_trials(run):
    """Trials whose folder is in its place."""
    return {path.name for path in (run / "logs").glob("*") if path.is_dir()}


def nonces(run):
    """Nonce of every trial that is in its place: which launch it was."""
    return {path.parent.name: path.read_bytes() for path in (run / "logs").glob("*/job.json")}


@pytest.mark.slow
def test_killed_writer_loses_nothing(place, undisturbed, victims, replayed):
    """Killed at 50 random moments: each run goes on to the same tables, with every trial kept."""
    moments, stopped = random.Random(SEED), 0
    for name in ("warm", "timed"):
        victims.start("run", place.folder / name, "left")
        begun = time.monotonic()
        assert victims.wait() == 0
    length_s, wanted = time.monotonic() - begun, workplace.tables(place.folder / "timed")
    for number in range(KILLS):
        run = place.folder / f"killed{number}"
        pid = victims.start("run", run, "left")
        time.sleep(moments.uniform(0, length_s))
        with suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        stopped += victims.wait() == signal.SIGKILL
        if not (run / "run.json").exists():
            assert finished_trials(run) == set()
            continue
        kept = finished_trials(run)
        if number % 2:
            repair.repair(open_run(run))
            assert repair.examine(open_run(run)) == ()
            rows = {row.trial_id for row in open_run(run).read_rows(TrialRow)}
            assert kept == rows
        assert place.resume(run) == 0, number
        assert workplace.tables(run) == wanted, number
        assert open_run(run).read_record().state == "finished"
    assert stopped > KILLS / 3


class Stopper(workplace.Silent):
    """A user who stops the run at its n-th trial."""

    def __init__(self, at):
        self._left = at

    def trial_started(self, trial):
        """Interrupt when it is time."""
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 2, 5])
def test_interrupted_run_goes_on(place, undisturbed, tmp_path, monkeypatch, at):
    """After Ctrl-C the finished trials are kept as they are and the others run."""
    monkeypatch.setattr(workplace, "Silent", lambda: Stopper(at))
    with pytest.raises(Interrupted, match="--resume"):
        place.run(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("FDBENCH_CACHE", str(place.folder / "cache"))
    before = nonces(tmp_path / "run")

    assert len(before) == at - 1
    assert open_run(tmp_path / "run").read_record().state == "interrupted"
    assert repair.examine(open_run(tmp_path / "run")) == ()
    assert place.resume(tmp_path / "run") == 0
    assert workplace.tables(tmp_path / "run") == workplace.tables(undisturbed)
    assert before.items() <= nonces(tmp_path / "run").items()


def test_finished_run_has_nothing_to_resume(place, undisturbed, tmp_path):
    """Resuming a finished run runs nothing and says what it came to."""
    run = shutil.copytree(undisturbed, tmp_path / "run")

    assert place.resume(run) == 0
    assert nonces(run) == nonces(undisturbed)
    assert workplace.tables(run) == workplace.tables(undisturbed)


def test_cells_are_added_to_a_run(place, undisturbed, tmp_path, replayed):
    """Cells run one worker at a time, in any order, make the run of all of them."""
    place.run(tmp_path / "run", only="right")
    assert open_run(tmp_path / "run").read_record().not_chosen == (LEFT,)
    place.add(tmp_path / "run", only="left")

    assert open_run(tmp_path / "run").read_record().not_chosen == ()
    assert workplace.tables(tmp_path / "run") == workplace.tables(undisturbed)
    assert open_run(tmp_path / "run").read_record().cells == (LEFT, RIGHT)
    assert repair.examine(open_run(tmp_path / "run")) == ()


@pytest.mark.slow
def test_two_workers_lose_nothing(place, undisturbed, tmp_path, replayed):
    """Two processes that add different cells to one run at once leave both."""
    run = tmp_path / "run"
    place.run(run, only="left")
    for path in [*run.glob("*/*.parquet"), *run.glob("logs/*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(run / "captures")
    (run / "MANIFEST.jsonl").unlink()
    repair.repair(open_run(run))
    several = [Victims(place, undisturbed) for _ in range(2)]
    for one, only in zip(several, ("left", "right"), strict=True):
        one.start("add", run, only)
    statuses = [one.wait() for one in several]
    for one in several:
        one.close()

    assert set(statuses) <= {0, 4 << 8}, "the first to end sees the other's cell as incomplete"
    assert workplace.tables(run) == workplace.tables(undisturbed)
    assert open_run(run).read_record().state == "finished"
    assert repair.examine(open_run(run)) == ()


@pytest.mark.slow
def test_many_writers_of_one_table_lose_no_row(undisturbed, tmp_path):
    """Read, change and write back is one action: rows of six threads are all there."""
    run = shutil.copytree(undisturbed, tmp_path / "run")
    pair = open_run(run).read_rows(PairRow)[0]
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from harness.store.run import Store; from harness.records import PairRow\n"
        "s = Store(Path(sys.argv[1])); p = s.read_rows(PairRow)[0]\n"
        "for n in range(10): s.add_judgement(replace(p, cell_id=f'{sys.argv[2]}/{n}'), [])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, run, str(n)], cwd=Path.cwd())
        for n in range(3)
    ]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = {row.cell_id for row in open_run(run).read_rows(PairRow)}
    assert found == {LEFT, RIGHT} | {f"{w}/{n}" for w in range(3) for n in range(10)}
    assert pair in open_run(run).read_rows(PairRow)


@pytest.mark.slow
def test_cell_that_another_process_runs_is_refused(place, tmp_path, replayed):
    """The same cell is never run twice at once; nor is a run repaired under a writer."""
    place.run(tmp_path / "run", only="left")
    busy = pytest.raises(UsageFault, match="another process runs")
    with Store(tmp_path / "run").holding_cell(RIGHT), busy:
        place.add(tmp_path / "run", only="right")
    with Store(tmp_path / "run").holding_cell(LEFT), pytest.raises(UsageFault, match="another"):
        repair.repair(open_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("limit = 2.0", "limit = 3.0", r"fake\.toml changed .*limit", id="limit"),
        pytest.param("ar_steps = 2", "ar_steps = 3", r"fake\.toml changed .*ar_steps", id="job"),
        pytest.param("[[cells]]", "weights_seed = 1\n[[cells]]", "weights_seed", id="weights"),
        pytest.param('"left"', '"other"', "left: is not planned", id="cell-gone"),
    ],
)
def test_changed_suite_is_refused(place, tmp_path, replayed, old, new, said):
    """Trials of two plans never meet in one run; the message names file and field."""
    place.run(tmp_path / "run", only="left")
    before = place.suite.read_text()
    place.suite.write_text(before.replace(old, new, 1))
    try:
        with pytest.raises(UsageFault, match=said):
            place.resume(tmp_path / "run")
    finally:
        place.suite.write_text(before)


@pytest.mark.parametrize(
    ("packages", "edit", "said"),
    [
        pytest.param(("other==1",), "", "packages of environment left", id="packages"),
        pytest.param((), "# edited\n", "code of environment left", id="adapter"),
    ],
)
def test_changed_environment_is_refused(place, tmp_path, monkeypatch, packages, edit, said):
    """Trials of two environments or adapters never meet in one cell."""
    monkeypatch.setattr(workplace, "Silent", lambda: Stopper(3))
    with pytest.raises(Interrupted):
        place.run(tmp_path / "run", only="left")
    change_left(place, packages, edit)
    try:
        with pytest.raises(UsageFault, match=said):
            place.resume(tmp_path / "run")
    finally:
        workplace.declare(place, "left", 0.001)


def test_judged_cell_keeps_the_environment_it_ran_in(place, tmp_path, replayed):
    """A cell is added after an environment changed; the record has both environments."""
    place.run(tmp_path / "run", only="left")
    before = open_run(tmp_path / "run").read_record().environments["left"]
    change_left(place, (), "# edited\n")
    try:
        place.add(tmp_path / "run", only="/")
    finally:
        workplace.declare(place, "left", 0.001)
    record = open_run(tmp_path / "run").read_record()

    (kept,) = [name for name in record.environments if name.startswith("left@")]
    assert record.environments[kept] == before
    assert record.environments["left"].code_digest != before.code_digest
    assert [cell for cell in record.cells if cell in (LEFT, RIGHT)] == [LEFT, RIGHT]
    assert len(record.workers) == 2


def change_left(place, packages, edit):
    """Declare the environment ``left`` anew, its adapter edited."""
    workplace.declare(place, "left", 0.001, packages)
    with (place.environments_dir / "left" / "adapter.py").open("a") as adapter:
        adapter.write(edit)


def test_other_suite_is_refused(place, undisturbed, tmp_path):
    """Cells of another suite belong into another run."""
    run = shutil.copytree(undisturbed, tmp_path / "run")
    other = tmp_path / "other.toml"
    other.write_text(place.suite.read_text())
    with pytest.raises(UsageFault, match="a run of fake on cpu, not of other on cpu"):
        workplace.workflow.add_to_run(
            place.request(run, suite=other), workplace.Silent(), workplace.Limits()
        )


def test_resume_does_not_hide_a_loss(place, undisturbed, tmp_path):
    """A run whose evidence was altered does not go on."""
    run = shutil.copytree(undisturbed, tmp_path / "run")
    log = next((run / "logs").glob("*/log.txt"))
    log.write_bytes(log.read_bytes() + b"\n")
    with pytest.raises(IntegrityFault, match="fdbench fsck"):
        place.resume(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "x", "--suite", "smoke"], "leave out --suite"),
        (["--into", "x", "--out", "y", "--suite", "smoke", "--gpu", "cpu"], "give only one"),
        (["--gpu", "cpu"], "Missing --suite"),
        (["--resume", "no-such-run"], "is not a run"),
    ],
)
def test_flags_that_make_no_sense_are_refused(words, said):
    """Where a run is and what it runs is said once."""
    finished = fdbench("run", *words)

    assert finished.code == 2
    assert said in finished.err


@pytest.mark.parametrize("free_kib", [0, 8, 24, 48, 80, 120])
def test_full_disk_stops_the_run_cleanly(place, undisturbed, small_disk, replayed, free_kib):
    """Wherever the disk becomes full, folder and disk are named and the run goes on later."""
    run = small_disk / "run"
    place.run(run, only="left")
    before = nonces(run)
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.truncate(0)
        size = shutil.disk_usage(small_disk).free - free_kib * 1024
        ballast.write(b"x" * max(size, 0))
    with pytest.raises(EnvironmentFault, match=f"{run} cannot be.*disk at {small_disk}"):
        place.add(run, only="right")
    (small_disk / "ballast").unlink()

    assert place.add(run, only="right") == 0
    assert before.items() <= nonces(run).items()
    assert workplace.tables(run) == workplace.tables(undisturbed)
    assert repair.examine(open_run(run)) == ()


@pytest.mark.slow
def test_side_that_fills_the_disk_is_no_result(place, undisturbed, small_disk):
    """A trial that failed because the disk was full is run again, not judged."""
    run, full = small_disk / "run", place.folder / "full"
    place.run(run, only="left")
    full.touch()
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        place.add(run, only="right")
    full.unlink()

    assert place.resume(run) == 0
    place.add(run, only="right")
    assert workplace.tables(run) == workplace.tables(undisturbed)


@pytest.mark.slow
def test_nothing_left_is_said(place, undisturbed, tmp_path):
    """A finished run that is resumed or added to: nothing starts, its verdicts are shown."""
    run, envs = shutil.copytree(undisturbed, tmp_path / "run"), place.environments_dir
    resumed = fdbench("run", "--resume", run, "--envs", envs)
    words = ["--suite", place.suite, "--gpu", "cpu", "--only", "left"]
    added = fdbench("run", "--into", run, "--envs", envs, *words)

    for done in (resumed, added):
        assert done.code == 0
        assert done.out.startswith("nothing is left to run: every requested cell")
        assert "0 cells" not in done.out
        assert f"pass         {LEFT}" in done.out
    assert workplace.tables(run) == workplace.tables(undisturbed)


@pytest.mark.slow
def test_cell_with_its_verdict_is_not_begun_again(place, tmp_path):
    """Nor is another worker entered in a run of which other cells are open."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        place.run(run, watcher=Stopping("right"))
    words = ["--suite", place.suite, "--gpu", "cpu", "--envs", place.environments_dir]
    done = fdbench("run", "--into", run, *words, "--only", "left")

    assert done.out.startswith("nothing is left to run")
    assert done.code == 4
    assert len(open_run(run).read_record().workers) == 1
