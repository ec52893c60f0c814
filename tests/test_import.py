"""Logs made elsewhere: kept to the byte, parsed, beside what is measured and never taken for it."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import UsageFault
from harness.imported_records import ImportedStep, Origin
from harness.integrity import imports, repair
from harness.integrity.findings import Kind
from harness.logs import PARSERS, PUBLISHED
from harness.records import LogStep
from harness.store.dataframes import open_store
from harness.store.manifest import read_manifest
from harness.store.run import open_run
from runners.protocol.wire import sha256_file
from tests.fakes import workplace
from tests.fakes.command import fdbench
from tests.fakes.samples import step_line

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
LOG = GOLDEN / "flashdreams_h100_self_forcing_taehv_7_blocks.log"
RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
SAID = ("--recipe", RECIPE, "--gpu", "h100", "--side", "flashdreams")
STAGES = {"encode": 0.016, "diffuse": 343.706, "finalize": 74.226}
NAMES = {path.parent.name: path for path in sorted(GOLDEN.glob("*/*")) if path.is_file()}


def write_log(path, count=5, diffuse=343.706):
    """A log of FlashDreams' lines."""
    stages = STAGES | {"diffuse": diffuse}
    path.write_text("".join(step_line(ar, stages) + "\n" for ar in range(count)))
    return path


def files(run):
    """Every file of a run with its bytes; locks are no content."""
    found = [path for path in run.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.fixture
def run(tmp_path):
    """A folder with one imported log."""
    assert fdbench("import", LOG, "--into", tmp_path / "run", *SAID).code == 0
    return tmp_path / "run"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A measured run of one cell."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    workplace.make(tmp_path).run(tmp_path / "measured", only="left")
    return tmp_path / "measured"


def test_log_is_kept_and_every_row_is_its_line(run):
    """The raw log is there to the byte; the byte range of a row holds its line."""
    (kept,) = run.glob("imports/*/log.txt")
    frame = open_store(run).imported_steps()

    assert kept.read_bytes() == LOG.read_bytes()
    assert frame["ar"].tolist() == list(range(7))
    for row in frame.itertuples():
        line = kept.read_bytes()[row.byte_start : row.byte_end].decode()
        assert f"AR {row.ar} " in line
        assert f"diffuse {row.stages_ms['diffuse']:.3f} ms" in line
    assert set(frame["basis"]) == {"parsed from a log"}
    assert (set(frame["recipe"]), set(frame["device"])) == ({RECIPE}, {"h100"})
    assert (set(frame["side"]), set(frame["format"])) == ({"flashdreams"}, {"flashdreams"})
    assert frame["phase"].tolist() == ["filling"] * 7
    assert frame.attrs["units"]["total_ms"] == "ms"
    assert open_store(run).steps().empty, "nothing was measured"


def test_manifest_has_every_file(run):
    """What is imported is evidence like the rest: each file with its digest."""
    lines = [json.loads(line) for line in (run / "MANIFEST.jsonl").read_text().splitlines()[1:]]
    listed = {line["path"]: line["sha256"] for line in lines}

    assert set(listed) == set(files(run)) - {"MANIFEST.jsonl"}
    assert all(sha256_file(run / path) == digest for path, digest in listed.items())


def test_imported_logs_pass_no_gate(run):
    """A folder of imported logs plans no cell, so its check is incomplete and says why."""
    checked = fdbench("check", run)

    assert checked.code == 4
    assert "imported" in checked.out
    assert "nothing was measured" in checked.out


@pytest.mark.contract
def test_measured_verdict_does_not_change(measured, tmp_path):
    """An import beside measured cells adds rows of its own and touches none of theirs."""
    before = workplace.tables(measured)
    code = fdbench("check", measured).code
    faster = write_log(tmp_path / "fast.log", count=2, diffuse=0.001)
    said = ("--recipe", workplace.RECIPE, "--gpu", "cpu", "--side", "flashdreams")

    assert fdbench("import", faster, "--into", measured, *said).code == 0
    assert workplace.tables(measured) == before
    assert fdbench("check", measured).code == code
    assert repair.examine(open_run(measured)) == ()
    assert len(open_store(measured).imported_steps()) == 2
    assert not {"cell_id", "role", "trial_id"} & set(open_store(measured).imported_steps().columns)


@pytest.mark.contract
def test_measured_log_is_no_import(measured):
    """A log that the run measured itself would stand there twice, once as hearsay."""
    log = next(measured.glob("logs/*/log.txt"))
    before = files(measured)
    said = ("--recipe", workplace.RECIPE, "--gpu", "cpu", "--side", "flashdreams")
    done = fdbench("import", log, "--into", measured, *said)

    assert done.code == 2
    assert "which was measured in" in done.err
    assert files(measured) == before


@pytest.mark.parametrize("name", [*PARSERS, *PUBLISHED])
def test_every_format_can_be_imported(tmp_path, name):
    """Whatever ``parse`` reads, with its format found in the file."""
    path = LOG if name == "flashdreams" else NAMES.get(name)
    if path is None:  # no public log of that format is known
        path = tmp_path / "blocks.log"
        path.write_text(
            "".join(
                f"Block {n} completed in 15.00ms (12 frames) | denoise 10.00ms kv_update 5.00ms\n"
                for n in (1, 2, 3)
            )
        )
    done = fdbench("import", path, "--into", tmp_path / "run", *SAID, "--json")
    (record,) = json.loads(done.out)["imported"]
    figures = open_store(tmp_path / "run").imported_figures()

    assert (done.code, record["format"]) == (0, name)
    assert record["basis"] == ("published" if name in PUBLISHED else "parsed from a log")
    assert len(figures) == (record["rows"] if name in PUBLISHED else 0)
    assert repair.examine(open_run(tmp_path / "run")) == ()


def test_several_logs_of_one_call(tmp_path):
    """Each is an import of its own: a process of the same side."""
    logs = [write_log(tmp_path / f"{n}.log", diffuse=300.0 + n) for n in range(3)]
    done = fdbench("import", *logs, "--into", tmp_path / "run", *SAID)
    frame = open_store(tmp_path / "run").imported_steps()

    assert done.code == 0
    assert frame["import_id"].nunique() == 3
    assert len(frame) == 15


def test_same_log_twice_is_recognised(run):
    """In a second call and within one, under whatever file name."""
    before = files(run)
    done = fdbench("import", LOG, LOG, "--into", run, *SAID, "--json")
    answer = json.loads(done.out)

    assert (done.code, answer["imported"]) == (0, [])
    assert len(answer["known"]) == 2
    assert files(run) == before


def test_same_log_as_something_else_is_refused(run):
    """One log is of one side on one device."""
    before = files(run)
    done = fdbench("import", LOG, "--into", run, *SAID[:4], "--side", "official")

    assert done.code == 2
    assert str(LOG) in done.err
    assert "Nothing was imported" in done.err
    assert files(run) == before


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", bytes(range(256)) * 40], ids=["empty", "text", "binary"]
)
def test_unknown_format_is_one_message(tmp_path, content):
    """It names the file and the formats, and nothing is left behind, not even of the good log."""
    path = tmp_path / "mine.log"
    path.write_bytes(content)
    done = fdbench("import", LOG, path, "--into", tmp_path / "run", *SAID)

    assert (done.code, done.out) == (7, "")
    assert str(path) in done.err
    assert "self_forcing" in done.err
    assert not (tmp_path / "run").exists()


def test_torn_log_spares_what_is_there(run, tmp_path):
    """A damaged log in a call of two: the good one is not imported either."""
    good, torn = write_log(tmp_path / "good.log", diffuse=1.0), write_log(tmp_path / "torn.log")
    torn.write_bytes(torn.read_bytes()[:-50])
    before = files(run)
    done = fdbench("import", good, torn, "--into", run, *SAID)

    assert done.code == 7
    assert "torn.log" in done.err
    assert files(run) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(SAID[2:], "--recipe", id="no-recipe"),
        pytest.param((*SAID[:2], *SAID[4:]), "--gpu", id="no-device"),
        pytest.param(SAID[:4], "--side", id="no-side"),
        pytest.param(("--recipe", "self-forcing", *SAID[2:]), RECIPE, id="recipe"),
        pytest.param((*SAID[:4], "--side", "diffusers"), "official", id="side"),
        pytest.param((*SAID[:2], "--gpu", "h10", *SAID[4:]), "h100", id="device"),
        pytest.param((*SAID, "--scene", "384x384"), "has no scenes", id="scene"),
        pytest.param(
            ("--recipe", "flashvsr-v1.1-sparse-ratio-2.0", *SAID[2:]), "--scene", id="no-scene"
        ),
    ],
)
def test_what_is_said_of_a_log_must_be_known(tmp_path, words, said):
    """Exit 2 with what to say instead."""
    done = fdbench("import", LOG, "--into", tmp_path / "run", *words)

    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "run").exists()


def test_number_of_gpus_must_be_said_where_it_varies(tmp_path):
    """A log of one GPU is not the figure of four: the report keeps them apart."""
    log, run = NAMES["lingbot"], tmp_path / "run"
    said = ("--recipe", "lingbot-world-fast", "--gpu", "gb300", "--side", "official")
    refused = fdbench("import", log, "--into", run, *said)
    done = fdbench("import", log, "--into", run, *said, "--num-gpus", 4, "--json")
    (record,) = json.loads(done.out)["imported"]

    assert (refused.code, done.code) == (2, 0)
    assert "--num-gpus" in refused.err
    assert "4xgb300" in record["import_id"]
    assert set(open_store(run).imported_steps()["gpus"]) == {4}


def test_folder_that_is_no_run_is_refused(tmp_path):
    """Logs are not thrown into a folder of something else."""
    done = fdbench("import", LOG, "--into", tmp_path, *SAID)

    assert done.code == 2
    assert list(tmp_path.iterdir()) == []


def test_imported_folder_cannot_be_run(run):
    """There is nothing to resume, and that is said."""
    done = fdbench("run", "--resume", run)

    assert done.code == 2
    assert "imported logs" in done.err

    into = fdbench("run", "--into", run, "--suite", "smoke", "--gpu", "cpu")
    assert (into.code, done.err) == (2, into.err)


@pytest.mark.parametrize("spoil", ["cut", "gone", "other-rows", "unlisted"])
def test_rows_are_derived_again(run, spoil):
    """Whatever happens to the table of an import, its log gives it back."""
    (table,) = run.glob("imported_steps/*.parquet")
    before, entries = files(run), read_manifest(run)
    if spoil == "cut":
        table.write_bytes(table.read_bytes()[:-9])
    elif spoil == "gone":
        table.unlink()
    elif spoil == "other-rows":
        store = open_run(run)
        store.write_part(store.read_table(ImportedStep).slice(0, 3), ImportedStep, table.stem)
    else:
        (run / "MANIFEST.jsonl").unlink()
    found = {finding.kind for finding in repair.examine(open_run(run))}

    assert found == {Kind.DERIVABLE}
    assert repair.repair(open_run(run)).left == ()
    after = files(run)
    assert [after.pop("MANIFEST.jsonl"), before.pop("MANIFEST.jsonl")]
    assert after == before
    assert {name: entry.sha256 for name, entry in read_manifest(run).items()} == {
        name: entry.sha256 for name, entry in entries.items()
    }
    assert repair.examine(open_run(run)) == ()


@pytest.mark.parametrize("name", ["log.txt", "import.json"])
def test_altered_raw_file_is_lost_until_it_is_back(run, name):
    """A raw log or its record is never blessed again; put back, all is well."""
    (path,) = run.glob(f"imports/*/{name}")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"7", b"8"))

    for _ in range(2):
        assert Kind.LOST in {finding.kind for finding in repair.repair(open_run(run)).left}
    assert fdbench("check", run).code == 7
    path.write_bytes(content)
    assert repair.repair(open_run(run)).left == ()
    assert len(open_store(run).imported_steps()) == 7


def test_file_that_is_still_written_is_refused(tmp_path, monkeypatch):
    """What is kept is what was parsed."""
    log = write_log(tmp_path / "growing.log")
    origin = Origin(recipe=RECIPE, device="h100", side="flashdreams")
    candidates = imports.read_candidates([log], origin)
    write_log(log, count=9)

    with pytest.raises(UsageFault, match="changed while it was being read"):
        imports.import_logs(tmp_path / "run", candidates)
    assert list((tmp_path / "run").glob("imports/*")) == []
    assert repair.examine(open_run(tmp_path / "run")) == ()


def test_import_stopped_before_the_manifest_is_finished_by_the_next(run, tmp_path, monkeypatch):
    """Between the two renames a log stands there unlisted; the same call again enters it."""
    log = write_log(tmp_path / "more.log")
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.run.append_manifest", lambda *_: sys.exit(9))
        assert fdbench("import", log, "--into", run, *SAID).code == 9
    assert fdbench("check", run).code == 7
    again = fdbench("import", log, "--into", run, *SAID)

    assert again.code == 0
    assert repair.examine(open_run(run)) == ()
    assert len(open_store(run).imported_steps()) == 12


@pytest.mark.contract
@pytest.mark.slow
def test_killed_import_loses_nothing_good(run, tmp_path):
    """Killed at random moments: what was there stays, and the same call again ends well."""
    log = write_log(tmp_path / "large.log", count=30_000)
    command = [str(Path(sys.executable).with_name("fdbench")), "import", str(log), "--into"]
    start = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole"), *SAID], check=True, capture_output=True)
    whole_s, seeded = time.monotonic() - start, random.Random(3)
    for number in range(12):
        copy = shutil.copytree(run, tmp_path / f"copy{number}")
        victim = subprocess.Popen([*command, str(copy), *SAID], stdout=subprocess.DEVNULL)
        time.sleep(whole_s * seeded.uniform(0.4, 1.0))
        victim.kill()
        victim.wait()
        left = repair.repair(open_run(copy)).left
        assert left == ()
        assert len(open_store(copy).imported_steps()) in (7, 30_007)
        assert fdbench("import", log, "--into", copy, *SAID).code == 0
        assert len(open_store(copy).imported_steps()) == 30_007
        shutil.rmtree(copy)


def test_rows_are_those_of_the_parser(run):
    """An import adds what a row is of and changes nothing that the line says."""
    rows = open_run(run).read_rows(ImportedStep)
    names = LogStep.__dataclass_fields__
    wanted = PARSERS["flashdreams"](LOG.read_bytes(), "log")

    assert [LogStep(**{n: getattr(row, n) for n in names}) for row in rows] == list(wanted)
