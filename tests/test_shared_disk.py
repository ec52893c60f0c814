"""Machines that share a disk: file locks may keep nobody out, and other hosts' work is theirs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environments.built import build_environment, cache_dir, stage_code
from harness.errors import EnvironmentFault
from harness.integrity import gc, repair
from harness.machine.owners import claimed, is_claimed, is_orphan, owner_label
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store import staging
from harness.store.manifest import read_manifest
from harness.store.run import create_run, open_run
from tests.fakes import samples, stored

pytestmark = pytest.mark.contract

TRIALS = 40
WRITER = """
import fcntl, sys, time
from dataclasses import replace
from pathlib import Path
if sys.argv[3] == "broken":
    fcntl.flock = lambda descriptor, operation: None  # as on many a Lustre and NFS
from harness.records import StepRow
from harness.store.run import open_run
from runners.protocol.wire import sha256_file
from tests.fakes import samples
from tests.test_store import PAIR
run, mine = open_run(Path(sys.argv[1])), sys.argv[2]
print("up", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[4])):
    name, cell = f"{mine}.{number}", f"{mine}/{number // 8}"
    with run.job_folder(name) as work:
        work.mkdir()
        (work / "log.txt").write_text(name)
        (work / "latents_ar000.safetensors").write_text(name)
        digests = {f"logs/{name}/log.txt": sha256_file(work / "log.txt"),
                   f"captures/{name}/latents_ar000.safetensors": sha256_file(work / "log.txt")}
        row = replace(samples.trial_row(), trial_id=name, cell_id=cell)
        steps = {StepRow: [samples.step_row(trial_id=name, cell_id=cell)]}
        run.add_trial(work, row, steps, digests)
    run.write_record(replace(run.read_record(), description=name))
    if number % 8 == 7:
        run.add_judgement(replace(PAIR, cell_id=cell), [samples.parity_row(cell_id=cell)])
"""


@pytest.fixture(autouse=True)
def named(monkeypatch):
    """This machine has a name and an id, which not every container gives it."""
    monkeypatch.setattr("harness.machine.owners._host", lambda: "here:0123456789abcdef")


def write_at_once(run, locks, writers=2):
    """Several processes that add trials to one run at once; statuses."""
    words = [sys.executable, "-c", WRITER, str(run)]
    started = [
        subprocess.Popen(
            [*words, f"w{n}", locks, str(TRIALS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for n in range(writers)
    ]
    for one in started:
        assert one.stdout.readline() == "up\n"
    for one in started:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in started:
        one.communicate()
    return [one.returncode for one in started]


@pytest.mark.slow
@pytest.mark.parametrize("locks", ["sound", "broken"])
def test_two_writers_lose_nothing(tmp_path, locks):
    """Rows of both are all there, and the manifest has every file, whether or not locks work."""
    made = create_run(tmp_path / "run")
    made.write_record(stored.record())
    assert write_at_once(made.folder, locks) == [0, 0]

    run = open_run(made.folder)
    names = {f"w{writer}.{number}" for writer in range(2) for number in range(TRIALS)}
    assert {row.trial_id for row in run.read_rows(TrialRow)} == names
    assert {row.trial_id for row in run.read_rows(StepRow)} == names
    assert len(run.read_rows(PairRow)) == len(run.read_rows(ParityRow)) == 2 * TRIALS // 8
    run.verify()
    assert len([name for name in read_manifest(run.folder) if name.startswith("trials/")]) == 80
    assert list((run.folder / ".staging").iterdir()) == []


def on_another_host(words):
    """A label of a process elsewhere."""
    return ["another:host", "another-boot", *words[2:]]


def before_a_restart(words):
    """A label of a process of this host that a restart ended."""
    return [words[0], "another-boot", *words[2:]]


def ended(words):
    """A label of a process of this host that is gone."""
    return [*words[:4], "1"]


def labelled(change):
    """This process's label, changed."""
    return " ".join(change(owner_label().split(" ")))


def test_gc_leaves_what_another_host_makes(tmp_path, monkeypatch):
    """In a cache that machines share, only what this one's dead processes began is removed."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path))
    for name, change in (
        ("making-here", ended),
        ("making-before", before_a_restart),
        ("making-there", on_another_host),
        ("making-now", lambda words: words),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "owner").write_text(labelled(change))
        (tmp_path / name / "weights").write_text("half")
    (tmp_path / "making-older").mkdir()
    older = " ".join(["boot", *owner_label().split(" ")[2:]])  # of an fdbench without hosts
    (tmp_path / "making-older" / "owner").write_text(older)
    removed = [what for what in gc.collect(()) if str(tmp_path) in what]

    assert removed == [f"folder {tmp_path / name}" for name in ("making-before", "making-here")]
    left = {path.name for path in tmp_path.glob("making-*")}
    assert left == {"making-there", "making-now", "making-older"}
    assert (tmp_path / "making-there" / "weights").read_text() == "half"


@pytest.mark.parametrize("how", ["gc", "repair", "resume"])
def test_trial_that_another_host_runs_is_left_alone(place, tmp_path, how):
    """Its job folder is none that was never finished, though its lock is not seen here."""
    run = tmp_path / "run"
    place.run(run, only="left")
    (trial, *_) = next(c for c in open_run(run).read_plan() if "left" in c.cell_id).trials
    work = run / "work" / trial.trial_id
    work.mkdir(parents=True)
    (work / "log.txt").write_text("AR 0")
    work.with_name(f"{work.name}.owner").write_text(labelled(on_another_host))
    change = run / ".staging" / "x"
    change.mkdir()
    (change / "owner").write_text(labelled(on_another_host))
    if how == "gc":
        assert not [what for what in gc.collect((run,)) if str(run) in what]
    elif how == "repair":
        assert repair.examine(open_run(run)) == ()
        assert repair.repair(open_run(run)).mended == ()
    else:
        assert place.add(run, only="right") == 0

    assert (work / "log.txt").read_text() == "AR 0"
    assert change.is_dir()


def test_trial_is_not_run_twice_at_once(tmp_path):
    """Where its cell's lock keeps nobody out, the second process says so and touches nothing."""
    run = create_run(tmp_path / "run")
    with run.job_folder("t") as work:
        work.mkdir()
        (run.folder / "work" / "t.owner").write_text(labelled(on_another_host))
        with (
            pytest.raises(EnvironmentFault, match=r"is being made by process .* on another"),
            run.job_folder("t"),
        ):
            pass
        assert work.is_dir()


def test_trial_that_another_process_has_stored_is_kept(tmp_path):
    """The later of two is told, and the stored one stays as it is."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record())
    for text in ("first", "second"):
        with run.job_folder("t") as work:
            work.mkdir()
            (work / "log.txt").write_text(text)
            row = samples.trial_row(trial_id="t", reason=text)
            if text == "first":
                run.add_trial(work, row, {}, {})
                continue
            with pytest.raises(EnvironmentFault, match="already exists"):
                run.add_trial(work, row, {}, {})

    assert (run.folder / "logs" / "t" / "log.txt").read_text() == "first"
    assert [row.reason for row in run.read_rows(TrialRow)] == ["first"]


@pytest.mark.parametrize(
    ("change", "is_over"),
    [
        pytest.param(ended, True, id="dead"),
        pytest.param(before_a_restart, True, id="restarted"),
        pytest.param(on_another_host, False, id="another-host"),
        pytest.param(lambda _: ["nobody"], False, id="no-label"),
    ],
)
def test_claim_of_a_dead_process_is_taken_over(tmp_path, change, is_over):
    """One of another host's is not: whether that lives cannot be seen from here."""
    place, claim = tmp_path / "x", tmp_path / "x.owner"
    claim.write_text(labelled(change))
    assert is_claimed(place) == (not is_over)
    if is_over:
        with claimed(place):
            assert claim.read_text() == owner_label()
        assert not claim.exists()
    else:
        with pytest.raises(EnvironmentFault, match=f"rm {claim}"), claimed(place):
            pass
        assert claim.read_text() == labelled(change)


def test_environment_that_another_host_makes_is_not_made_again(place):
    """Half a folder of packages is what it looks like while somebody fills it."""
    folder = build_environment("left", print, place.environments_dir).folder
    (marker,) = folder.glob("*.json")
    marker.unlink()
    folder.with_name(f"{folder.name}.owner").write_text(labelled(on_another_host))

    with pytest.raises(EnvironmentFault, match="is being made by process"):
        build_environment("left", print, place.environments_dir)
    assert (folder / "bin" / "python").exists()


def test_staged_code_is_whole_or_not_there(place):
    """It is made beside its place: what another host stages meanwhile is not touched."""
    digest, code = stage_code(place.environments_dir / "left")
    assert stage_code(place.environments_dir / "left") == (digest, code)
    (code / "adapter.py").write_text("edited")
    assert stage_code(place.environments_dir / "left") == (digest, code)

    assert "edited" not in (code / "adapter.py").read_text()
    assert list(cache_dir().glob("making-*")) == []


def test_label_of_an_earlier_fdbench_is_judged_where_it_can_be():
    """It names no host: after a restart, or from another one, nothing is known of it."""
    _, boot, namespace, pid, started = owner_label().split(" ")

    assert not is_orphan(f"{boot} {namespace} {pid} {started}")
    assert is_orphan(f"{boot} {namespace} {pid} 1")
    assert not is_orphan(f"another-boot {namespace} {pid} {started}")


def test_machine_without_an_id_is_not_told_from_another_by_its_name(monkeypatch):
    """Containers of several machines may all have one name: nothing is known of an earlier boot."""
    monkeypatch.setattr("harness.machine.owners._host", lambda: "localhost:")

    assert not is_orphan(labelled(before_a_restart))
    assert is_orphan(labelled(ended))


def test_record_of_two_writers_is_the_one_that_is_there(tmp_path, monkeypatch):
    """One enters its version between another's entry and rename; the manifest has the last."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record(description="first"))
    other, rename = open_run(run.folder), staging.publish

    def late(folder, staged, name):
        monkeypatch.setattr("harness.store.run.publish", rename)
        monkeypatch.setattr(other, "_lock", nullcontext_lock())
        other.write_record(stored.record(description="of the other"))
        rename(folder, staged, name)

    monkeypatch.setattr("harness.store.run.publish", late)
    run.write_record(stored.record(description="of this one"))

    run.verify()
    assert run.read_record().description == "of this one"
    assert repair.examine(run) == ()


class nullcontext_lock:  # noqa: N801  stands for an object
    """A lock that keeps nobody out."""

    is_locked = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_change_that_another_host_entered_is_ended(tmp_path, monkeypatch):
    """Killed between entry and rename: what the manifest has is published, whoever wrote it."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record())
    row = samples.trial_row(trial_id="t")
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.run.publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.write_rows([row], TrialRow, "t")
    (change,) = (run.folder / ".staging").iterdir()
    (change / "owner").write_text(labelled(on_another_host))
    (change / "half").write_text("not entered")

    run.verify()
    assert run.read_rows(TrialRow) == [row]
    assert (change / "half").read_text() == "not entered"


def interrupt(*_arguments):
    """Stand in for a step at which a writer dies."""
    raise KeyboardInterrupt


def test_captures_that_another_host_is_moving_are_left(fake_run, tmp_path):
    """They are in their place before the logs are; whoever looks meanwhile touches neither."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    (trial, *_) = open_run(run).read_plan()[0].trials
    name = f"{trial.trial_id}.again"
    (run / "captures" / name).mkdir()
    (run / "captures" / name / "latents_ar000.safetensors").write_text("x")
    (run / "work" / name).mkdir(parents=True)
    (run / "work" / f"{name}.owner").write_text(labelled(on_another_host))
    repair.settle(open_run(run))

    assert (run / "captures" / name / "latents_ar000.safetensors").exists()


def test_repair_adds_to_the_manifest(fake_run, tmp_path):
    """What another writer enters meanwhile stays: nothing that can be read is written anew."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    before = (run / "MANIFEST.jsonl").read_bytes()
    (part,) = list((run / "trials").iterdir())[:1]
    part.unlink()
    assert repair.repair(open_run(run)).left == ()
    assert repair.prune(open_run(run)) > 0

    assert (run / "MANIFEST.jsonl").read_bytes().startswith(before)
    assert repair.examine(open_run(run)) == ()


def test_claim_that_a_full_disk_cut_short_is_none(small_disk, monkeypatch):
    """Nobody could tell whose an empty one is."""
    monkeypatch.setattr("harness.machine.owners.owner_label", lambda: "x" * (4 << 20))
    with pytest.raises(OSError, match="No space left"), claimed(small_disk / "x"):
        pass

    assert not (small_disk / "x.owner").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", None], ids=["no-text", "empty", "folder"])
def test_label_that_cannot_be_read_stops_nothing(tmp_path, content):
    """Nobody knows whose it is, so what it marks stays."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record())
    change = run.folder / ".staging" / "x"
    (change / "owner" if content is None else change).mkdir(parents=True)
    if content is not None:
        (change / "owner").write_bytes(content)
    run.verify()

    assert change.is_dir()


def test_folder_that_nobody_signed_goes_after_a_while(tmp_path):
    """Its writer was killed before it could; it has written nothing yet."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record())
    change = run.folder / ".staging" / "x"
    change.mkdir()
    run.verify()
    assert change.is_dir()
    os.utime(change, (0, 0))
    run.verify()

    assert not change.exists()


def test_change_that_is_being_made_is_not_settled(tmp_path):
    """Not even by another thread of its process, whom a broken lock lets in."""
    run = create_run(tmp_path / "run")
    run.write_record(stored.record())
    with staging.staging(run.folder) as change:
        (change / "x").write_text("half")
        open_run(run.folder).verify()
        assert (change / "x").read_text() == "half"
