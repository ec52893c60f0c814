"""Whatever happens to a file of a run is named; what can be derived again is, the rest is lost."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from harness.errors import IntegrityFault
from harness.integrity import repair
from harness.integrity.findings import Kind
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store.run import open_run
from harness.store.run_record import dump_record
from tests.fakes.command import fdbench
from tests.fakes.stored import drop_lines, forget, manifest_of, write_rows

pytestmark = pytest.mark.contract

PARITY = "parity/*.parquet"


@pytest.fixture
def run(fake_run, tmp_path):
    """A finished run of one cell, to spoil."""
    return shutil.copytree(fake_run, tmp_path / "run")


def cut(path):
    """Lose the end of a file."""
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def kinds(findings):
    """Path and kind of each finding."""
    return {(finding.path, finding.kind) for finding in findings}


def files(run):
    """Every file that the manifest has, by what may be done about it."""
    return sorted(manifest_of(run))


def only(run, pattern):
    """Path in the run of the one file that matches."""
    (path,) = run.glob(pattern)
    return str(path.relative_to(run))


def entry_of(run, name):
    """Line of the manifest about a file."""
    return [line for line in (run / "MANIFEST.jsonl").read_text().splitlines() if name in line]


def rows(run):
    """Every row, times included: nothing runs again in a repair."""
    return [open_run(run).read_rows(t) for t in (StepRow, TrialRow, PairRow, ParityRow)]


def test_untouched_run_is_sound(run):
    """Nothing is found where nothing is wrong, and a repair changes nothing."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    assert repair.examine(open_run(run)) == ()
    assert repair.repair(open_run(run)) == repair.Repaired(mended=(), left=())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [cut, flip, os.unlink], ids=["truncated", "bit-flipped", "gone"])
def test_every_table_is_derived_again(fake_run, run, spoil):
    """Steps, trials, verdicts and distances come back from the raw evidence, row for row."""
    for name in [name for name in files(run) if name.endswith(".parquet")]:
        spoil(run / name)
        assert name in {finding.path for finding in repair.examine(open_run(run))}
        done = repair.repair(open_run(run))
        assert done.left == (), name
        assert name in {finding.path for finding in done.mended}
        assert rows(run) == rows(fake_run), name
        assert repair.examine(open_run(run)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [cut, flip, os.unlink], ids=["truncated", "bit-flipped", "gone"])
def test_every_raw_file_is_lost_and_never_blessed(fake_run, run, spoil):
    """An altered or missing log, event, setting or job stays a finding, and its trial invalid."""
    raw = [name for name in files(run) if name.startswith("logs/")][:5]
    for name in raw:
        copy = (run / name).read_bytes()
        digest = entry_of(run, name)
        spoil(run / name)
        for _ in range(2):
            left = repair.repair(open_run(run)).left
            assert (name, Kind.LOST) in kinds(left)
        assert entry_of(run, name) == digest
        trial = next(t for t in open_run(run).read_rows(TrialRow) if t.trial_id in name)
        assert trial.invalid, name
        assert open_run(run).read_rows(PairRow)[0].exit_code == 7
        with pytest.raises(IntegrityFault):
            open_run(run).verify()
        (run / name).write_bytes(copy)
        assert repair.repair(open_run(run)).left == (), "put back from a copy, it is good again"
        assert rows(run) == rows(fake_run)


def test_missing_folder_of_logs_is_lost(run):
    """A trial whose evidence is gone altogether keeps a row that says so."""
    gone = min((run / "logs").iterdir())
    shutil.rmtree(gone)
    left = repair.repair(open_run(run)).left

    assert (f"logs/{gone.name}/log.txt", Kind.LOST) in kinds(left)
    row = next(t for t in open_run(run).read_rows(TrialRow) if t.trial_id == gone.name)
    assert "lost" in row.invalid
    assert open_run(run).read_rows(PairRow)[0].exit_code == 7


def test_lost_manifest_is_written_again(fake_run, run):
    """Each trial vouches for its own files, so the manifest can be had again."""
    (run / "MANIFEST.jsonl").unlink()

    assert repair.repair(open_run(run)).left == ()
    assert rows(run) == rows(fake_run)
    assert files(run) == files(fake_run)


def test_altered_log_is_found_without_the_manifest(run):
    """Losing the manifest does not hide what was altered."""
    (run / "MANIFEST.jsonl").unlink()
    log = next((run / "logs").glob("*/log.txt"))
    flip(log)

    assert (str(log.relative_to(run)), Kind.LOST) in kinds(repair.repair(open_run(run)).left)


def test_capture_that_is_altered_is_lost(run):
    """Distances computed before stay; the tensor itself is lost."""
    capture = next((run / "captures").glob("*/*"))
    flip(capture)
    before = open_run(run).read_rows(ParityRow)

    assert kinds(repair.repair(open_run(run)).left) == {(str(capture.relative_to(run)), Kind.LOST)}
    assert open_run(run).read_rows(ParityRow) == before


@pytest.mark.parametrize("spoil", [cut, flip, os.unlink], ids=["truncated", "bit-flipped", "gone"])
@pytest.mark.parametrize("name", ["run.json", "run.copy.json"])
def test_run_file_comes_back_from_its_copy(fake_run, run, name, spoil):
    """No log repeats the plan, so it is kept twice; either mends the other, byte for byte."""
    spoil(run / name)
    assert (name, Kind.DERIVABLE) in kinds(repair.examine(open_run(run)))
    done = repair.repair(open_run(run))

    assert done.left == ()
    assert (run / name).read_bytes() == (fake_run / name).read_bytes()
    assert rows(run) == rows(fake_run)


def test_run_file_without_a_copy_is_lost(run):
    """Without the plan nothing is judged again, and that is said."""
    flip(run / "run.json")
    cut(run / "run.copy.json")
    left = repair.repair(open_run(run)).left

    assert ("run.json", Kind.LOST) in kinds(left)


def test_run_that_never_had_a_copy_is_sound(run):
    """A run of an earlier fdbench has one run file and is none the worse."""
    (run / "run.copy.json").unlink()
    drop_lines(run, "run.copy.json")

    assert repair.examine(open_run(run)) == ()
    open_run(run).verify()


def test_copy_that_says_something_else_is_found(run):
    """A copy with a good digest of its own, but of another run."""
    other = replace(open_run(run).read_record(), description="another")
    (run / "run.copy.json").write_text(dump_record(other))

    assert ("run.copy.json", Kind.DERIVABLE) in kinds(repair.examine(open_run(run)))
    assert repair.repair(open_run(run)).left == ()
    assert json.loads((run / "run.copy.json").read_text())["description"] == "fake"


@pytest.mark.parametrize(
    "leftover",
    [
        "trials.parquet.tmp",
        "steps/x.parquet.tmp",
        "MANIFEST.jsonl.123.tmp",
        "work/x/job.json",
        "captures/x/y",
    ],
)
def test_half_written_files_are_removed(fake_run, run, leftover):
    """What was never finished is no evidence."""
    (run / leftover).parent.mkdir(parents=True, exist_ok=True)
    (run / leftover).write_text("half")

    assert repair.repair(open_run(run)).left == ()
    assert not (run / leftover).exists()
    assert rows(run) == rows(fake_run)


def test_foreign_file_is_named_and_left(run):
    """A file that nobody vouches for is neither believed nor deleted."""
    (run / "logs" / "note.txt").write_text("mine")
    left = repair.repair(open_run(run)).left

    assert kinds(left) == {("logs/note.txt", Kind.FOREIGN)}
    assert (run / "logs" / "note.txt").exists()


def test_step_row_must_be_its_line(run):
    """A step table with a good checksum that says something else than the log is found."""
    store = open_run(run)
    trial = store.read_rows(TrialRow)[0].trial_id
    steps = [row for row in store.read_rows(StepRow) if row.trial_id == trial]
    faster = [replace(row, total_ms=1.0) for row in steps]
    store.write_rows(faster, StepRow, part=trial)
    (first, *_) = repair.examine(store)

    assert "AR 0" in first.problem
    assert "total_ms" in first.problem
    assert repair.repair(store).left == ()
    assert [row for row in store.read_rows(StepRow) if row.trial_id == trial] == steps


def test_verdict_without_its_trials_is_found(run):
    """A pair that passes on trials that are not there does not pass."""
    name = f"trials/{min(path.name for path in (run / 'trials').iterdir())}"
    forget(run, name)

    assert kinds(repair.examine(open_run(run))) == {(name, Kind.DERIVABLE)}


def test_pruned_run_is_sound(fake_run, run):
    """Captures may go: their digests stay, check and fsck accept that, and tables can be mended."""
    freed = repair.prune(open_run(run))
    lines = manifest_of(run).values()

    assert freed > 0
    assert list((run / "captures").rglob("*.safetensors")) == []
    assert {line["path"] for line in lines if line.get("pruned")} == {
        name for name in files(fake_run) if name.startswith("captures/")
    }
    open_run(run).verify()
    assert repair.examine(open_run(run)) == ()
    cut(next((run / "trials").iterdir()))
    assert repair.repair(open_run(run)).left == ()
    assert rows(run) == rows(fake_run)


def test_distances_of_a_pruned_run_are_lost(run):
    """Nothing is made up where the captures are gone."""
    repair.prune(open_run(run))
    name = only(run, PARITY)
    cut(run / name)

    assert (name, Kind.LOST) in kinds(repair.repair(open_run(run)).left)


def scale_distances(run, factor):
    """Alter every distance, and have the manifest vouch for it."""
    store = open_run(run)
    altered = [
        replace(
            row,
            relative_l2=row.relative_l2 * factor if row.comparison == "pair" else row.relative_l2,
        )
        for row in store.read_rows(ParityRow)
    ]
    write_rows(store, altered, ParityRow)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda run: (run / only(run, PARITY)).unlink(), id="gone"),
        pytest.param(lambda run: forget(run, only(run, PARITY)), id="gone-with-its-entry"),
        pytest.param(lambda run: flip(run / only(run, PARITY)), id="flipped"),
        pytest.param(lambda run: scale_distances(run, 1 / 3), id="altered-with-the-manifest"),
    ],
)
def test_pruned_run_without_its_distances_passes_nothing(run, spoil):
    """Before and after a repair: what no distance bears out is no verdict."""
    repair.prune(open_run(run))
    name = only(run, PARITY)
    spoil(run)
    before = repair.examine(open_run(run))
    after = repair.repair(open_run(run)).left

    assert (name, Kind.LOST) in kinds(before) & kinds(after)
    assert fdbench("check", run).code == 7
    assert fdbench("fsck", run).code == 7


def test_altered_distances_are_taken_from_the_captures_again(fake_run, run):
    """While the captures are there, a verdict that does not follow is settled by them."""
    scale_distances(run, 1 / 3)
    found = repair.examine(open_run(run))

    assert kinds(found) == {(only(run, PARITY), Kind.DERIVABLE)}
    assert repair.repair(open_run(run)).left == ()
    assert rows(run) == rows(fake_run)


def test_damaged_run_is_not_pruned(run):
    """Captures are kept while they may be needed."""
    cut(run / only(run, PARITY))
    with pytest.raises(IntegrityFault, match="nothing was pruned"):
        repair.prune(open_run(run))
    assert list((run / "captures").rglob("*.safetensors"))


def test_command_says_what_to_do(run):
    """Fsck exits 0 or 7 and prints each finding with what to do; the same as JSON."""
    assert fdbench("fsck", run).code == 0
    name = f"trials/{min(path.name for path in (run / 'trials').iterdir())}"
    cut(run / name)
    finished = fdbench("fsck", run)
    listed = json.loads(fdbench("fsck", run, "--json").out)

    assert finished.code == listed["exit_code"] == 7
    assert name in finished.out
    assert "fdbench fsck --repair" in finished.out
    assert listed["findings"][0]["kind"] == "derivable"
    assert fdbench("fsck", "--repair", run).code == 0
    assert fdbench("fsck", "--prune", run).code == 0
    assert fdbench("check", run).code == 0
