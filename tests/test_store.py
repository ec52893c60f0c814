"""A run's folder: what is written is read back, and what was altered is named."""

import json
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import IntegrityFault, UsageFault
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store.dataframes import open_store
from harness.store.manifest import MANIFEST_FILE, RUN_FILE
from harness.store.run import create_run, open_run
from harness.store.schema import schema_of
from harness.store.version import SCHEMA_VERSION
from runners.protocol.wire import sha256_file
from tests.fakes import samples, stored

pytestmark = pytest.mark.unit

NAN = float("nan")
PAIR = PairRow(
    cell_id=samples.CELL,
    recipe="self-forcing",
    device="cpu",
    baseline="fastvideo",
    candidate="flashdreams",
    reference="fastvideo",
    floor="flashdreams against flashdreams{dtype=float32}",
    documented_ar_steps=7,
    limit=2.0,
    limit_origin="a test",
    verdict="pass",
    exit_code=0,
    reason="every AR step within 2x its floor — worst 1.50x",
    settings_differences="[]",
)
ROWS = {
    StepRow: samples.step_row(),
    TrialRow: samples.trial_row(),
    PairRow: PAIR,
    ParityRow: samples.parity_row(),
}
NAMES = {StepRow: "steps", TrialRow: "trials", PairRow: "pairs", ParityRow: "parity"}
_TRIAL = {"trial_id", "cell_id", "role", "side", "process"}
COLUMNS = {
    "steps": _TRIAL
    | {"ar", "rank", "stages_ms", "total_wo_finalize_ms", "total_ms", "memory_peak_gib"}
    | {"byte_start", "byte_end", "phase", "denoise_ms", "clock_total_ms", "wall_ms", "kernels"}
    | {"began_s", "ended_s", "told_s", "arrival_s", "energy_j", "preempted", "allocator_peak_gib"},
    "trials": _TRIAL
    | {"outcome", "reason", "invalid", "exit_status", "wall_s", "ar_steps", "log_sha256"}
    | {"marks", "first_step_s", "sm_mhz", "power_w", "temperature_c", "energy_j"}
    | {"environment_digest", "code_digest", "settings", "facts", "gpu_memory_peak_gib"}
    | {"cpu_waited_percent", "memory_waited_percent", "io_waited_percent"},
    "pairs": {"cell_id", "recipe", "device", "baseline", "candidate", "reference", "floor"}
    | {
        "documented_ar_steps",
        "limit",
        "limit_origin",
        "verdict",
        "exit_code",
        "reason",
        "settings_differences",
    },
    "parity": {"cell_id", "comparison", "candidate_trial", "reference_trial", "ar"}
    | {"relative_l2", "max_abs", "cosine", "reference_std", "candidate_std"}
    | {"capture", "psnr_db", "ssim"},
}
each_type = pytest.mark.parametrize("row_type", list(ROWS), ids=NAMES.get)
text = st.text(st.characters(codec="utf-8"), max_size=20)
number = st.floats(allow_nan=False)
VALUES = {
    str: text,
    int: st.integers(-(2**63), 2**63 - 1),
    float: number,
    float | None: st.none() | number,
    int | None: st.none() | st.integers(-(2**63), 2**63 - 1),
    str | None: st.none() | text,
    dict[str, float]: st.dictionaries(text, number, max_size=5),
    tuple[float, ...]: st.lists(number, max_size=5).map(tuple),
}


def rows_of(row_type):
    """Random rows of a record type."""
    values = {item.name: VALUES[item.type] for item in fields(row_type)}
    return st.lists(st.builds(row_type, **values), max_size=4)


@pytest.fixture
def run(tmp_path):
    """A new run's folder."""
    made = create_run(tmp_path / "run")
    made.write_record(stored.record())
    return made


@pytest.fixture
def filled(run, tmp_path):
    """A run with one of every table and one committed trial."""
    for row_type, row in ROWS.items():
        run.write_rows([row], row_type, part_for(row))
    add_trial(run)
    return run


def part_for(row):
    """The part that a row belongs to."""
    return row.trial_id if isinstance(row, StepRow | TrialRow) else row.cell_id


def add_trial(run, *more, name="t"):
    """Store a finished trial, with more files in its job folder."""
    work = job_folder(run, name)
    for file in more:
        (work / file).parent.mkdir()
        (work / file).write_text("[]")
    digests = {
        f"{'captures' if path.suffix == '.safetensors' else 'logs'}/{name}/"
        f"{path.relative_to(work)}": sha256_file(path)
        for path in work.rglob("*")
        if path.is_file()
    }
    step = samples.step_row(trial_id=name)
    run.add_trial(work, samples.trial_row(trial_id=name), {StepRow: [step]}, digests)


def job_folder(run, name):
    """The job folder of a finished trial."""
    work = run.folder / "work" / name
    work.mkdir(parents=True)
    for file in ("job.json", "log.txt", "latents_ar000.safetensors"):
        (work / file).write_text(file)
    return work


def manifest(run):
    """Path to digest, as it stands in the manifest; of two lines the later holds."""
    head, *lines = (run.folder / MANIFEST_FILE).read_text().splitlines()
    assert json.loads(head) == {"schema": SCHEMA_VERSION}
    return {json.loads(line)["path"]: json.loads(line)["sha256"] for line in lines}


def files(run):
    """Every file in the folder but the manifest."""
    paths = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    return {path for path in paths if not path.startswith(".locks")} - {MANIFEST_FILE}


@each_type
def test_rows_round_trip(tmp_path_factory, row_type):
    """Every record comes back as it was, in its order."""

    @settings(max_examples=settings.default.max_examples // 6)
    @given(rows_of(row_type))
    def check(rows):
        made = create_run(tmp_path_factory.mktemp("store") / "run")
        made.write_rows(rows, row_type, "t")
        read = made.read_rows(row_type)
        assert read == rows
        assert [list(vars(row).items()) for row in read] == [
            list(vars(row).items()) for row in rows
        ]

    check()


def test_stages_keep_their_order(run):
    """Stage order is the order they ran, which is not alphabetical."""
    row = samples.step_row(stages_ms={"pad": 1.0, "bicubic": 2.0, "projector": 3.0, "color": 0.5})
    run.write_rows([row], StepRow, part="t")

    assert list(run.read_rows(StepRow)[0].stages_ms) == ["pad", "bicubic", "projector", "color"]


def test_nan_is_kept(run):
    """A NaN is evidence: it is neither refused nor turned into a null."""
    run.write_rows([samples.parity_row(relative_l2=NAN)], ParityRow, "t")

    assert str(run.read_rows(ParityRow)[0].relative_l2) == "nan"


@each_type
def test_table_that_was_never_written_is_empty(run, row_type):
    """A run that stopped early has no rows, not an error."""
    assert run.read_rows(row_type) == []


@each_type
def test_schema_is_the_record(row_type):
    """Columns are the record's fields in order, with a unit and a schema version."""
    schema = schema_of(row_type)

    assert schema.names == [item.name for item in fields(row_type)]
    assert schema.metadata == {b"fdbench_schema": b"3"}
    assert all(b"unit" in schema.field(name).metadata for name in schema.names)


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("stages_ms", "ms"),
        ("total_ms", "ms"),
        ("total_wo_finalize_ms", "ms"),
        ("denoise_ms", "ms"),
        ("memory_peak_gib", "GiB"),
        ("byte_start", "byte"),
        ("byte_end", "byte"),
        ("ar", ""),
    ],
)
def test_columns_carry_their_unit(run, column, unit):
    """The unit stands in the file itself, not only in a name."""
    run.write_rows([samples.step_row()], StepRow, part="t")
    schema = pq.read_schema(run.folder / "steps" / "t.parquet")

    assert schema.field(column).metadata[b"unit"] == unit.encode()


def test_columns_are_frozen():
    """Renaming, adding or removing a column is a visible edit, with SCHEMA_VERSION beside it."""
    assert SCHEMA_VERSION == 3
    assert {name: set(schema_of(t).names) for t, name in NAMES.items()} == COLUMNS


@each_type
def test_altered_table_is_refused(run, row_type):
    """A table with a byte changed, cut or of other columns is named, even without the manifest."""
    run.write_rows([ROWS[row_type]], row_type, "t")
    (path,) = (run.folder / name for name in files(run) if name.endswith(".parquet"))
    for spoiled in (path.read_bytes()[:-9], b"", b"PAR1", b"\0" * 99):
        path.write_bytes(spoiled)
        with pytest.raises(IntegrityFault, match=path.name):
            run.read_rows(row_type)


def test_flipped_data_byte_is_refused(run):
    """Page checksums find a changed figure that is still valid Parquet."""
    run.write_rows([samples.step_row(total_ms=1234.5)], StepRow, part="t")
    path = run.folder / "steps" / "t.parquet"
    content = path.read_bytes()
    at = content.index(b"candidate.flashdreams.0")
    path.write_bytes(content[:at] + b"C" + content[at + 1 :])

    with pytest.raises(IntegrityFault, match=r"t\.parquet"):
        run.read_rows(StepRow)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(schema_of(ParityRow).remove(0), id="lost-column"),
        pytest.param(schema_of(ParityRow).append(pa.field("more", pa.string())), id="more-columns"),
        pytest.param(
            schema_of(ParityRow).with_metadata({"fdbench_schema": "4"}), id="other-version"
        ),
        pytest.param(schema_of(ParityRow).remove_metadata(), id="no-version"),
    ],
)
def test_table_of_another_schema_is_refused(run, schema):
    """Rows of another version are not guessed at."""
    (run.folder / "parity").mkdir()
    pq.write_table(schema.empty_table(), run.folder / "parity" / "t.parquet")

    with pytest.raises(IntegrityFault, match=r"parity/t\.parquet.*schema (2 and )?3"):
        run.read_rows(ParityRow)


def test_existing_folder_is_refused(tmp_path):
    """A run never writes into another one, nor into any folder with something in it."""
    (tmp_path / "run").mkdir()

    with pytest.raises(UsageFault, match="choose another --out"):
        create_run(tmp_path / "run")


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    """A parent that is a file is the user's mistake, not a traceback."""
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageFault, match="run"):
        create_run(tmp_path / "file" / "run")


def test_folder_that_is_no_run_is_refused(tmp_path):
    """Only a folder with a run file is a run."""
    with pytest.raises(UsageFault, match="fdbench run"):
        open_run(tmp_path)


def test_writer_that_was_killed_is_no_altered_file(filled, monkeypatch):
    """Between manifest and rename: whoever looks next finishes it, and finds nothing wrong."""

    class Killed(BaseException):
        """Not an error that anything catches."""

    def die(*_place):
        raise Killed

    row = filled.read_rows(TrialRow)[0]
    with monkeypatch.context() as patch:
        patch.setattr("harness.store.run.publish", die)
        with pytest.raises(Killed):
            filled.write_rows([replace(row, wall_s=row.wall_s + 1)], TrialRow, row.trial_id)

    open_run(filled.folder).verify()
    assert filled.read_rows(TrialRow)[0].wall_s == row.wall_s + 1


def test_run_file_is_read_back(filled):
    """What was asked for comes back, and the file says which version it is."""
    assert open_run(filled.folder).read_record() == stored.record()
    assert json.loads((filled.folder / RUN_FILE).read_text())["schema"] == SCHEMA_VERSION


def test_part_that_is_written_again_replaces_its_rows(run):
    """A line more in the manifest, and the later one holds; nothing that stood there changes."""
    run.write_rows([PAIR], PairRow, PAIR.cell_id)
    before, text = manifest(run), (run.folder / MANIFEST_FILE).read_text()
    run.write_rows([replace(PAIR, verdict="fail")], PairRow, PAIR.cell_id)

    assert manifest(run).keys() == before.keys()
    assert manifest(run)["pairs/self-forcing.cpu.fastvideo.parquet"] != before.popitem()[1]
    assert (run.folder / MANIFEST_FILE).read_text().startswith(text)
    assert [row.verdict for row in run.read_rows(PairRow)] == ["fail"]
    run.verify()


def test_trial_writes_nothing_that_was_written(run):
    """Adding a trial leaves every file of others as it lies there; the manifest grows."""
    add_trial(run)
    before = {name: (run.folder / name).stat() for name in files(run)}
    text = (run.folder / MANIFEST_FILE).read_bytes()
    add_trial(run, name="u")

    assert {name: (run.folder / name).stat() for name in before} == before
    assert (run.folder / MANIFEST_FILE).read_bytes().startswith(text)
    assert (run.folder / "trials" / "u.parquet").is_file()


def test_parts_are_read_together(run):
    """The step table is a part a trial, each in the manifest."""
    for name in ("b", "a"):
        run.write_rows([samples.step_row(trial_id=name)], StepRow, part=name)

    assert [row.trial_id for row in run.read_rows(StepRow)] == ["a", "b"]
    assert {"steps/a.parquet", "steps/b.parquet"} <= manifest(run).keys()


def test_nothing_unfinished_is_left(filled):
    """No temporary file and no job folder stay behind."""
    assert [name for name in files(filled) if name.endswith((".tmp", ".part"))] == []
    assert not (filled.folder / "work" / "t").exists()


def test_failed_write_keeps_what_was_there(run):
    """A table that cannot be written leaves the former one whole, in file and manifest."""
    run.write_rows([PAIR], PairRow, PAIR.cell_id)
    with pytest.raises((pa.ArrowException, TypeError)):
        run.write_rows([replace(PAIR, limit="two")], PairRow, PAIR.cell_id)

    run.verify()
    assert run.read_rows(PairRow) == [PAIR]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema": 3', '"schema": 4', "of schema 4; this fdbench reads schema 2 and 3"),
        ('"smoke"', '"smoky"', "was altered"),
    ],
)
def test_run_file_proves_itself(filled, old, new, said):
    """A run file of another version, or with a letter changed, is refused by name."""
    path = filled.folder / RUN_FILE
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(IntegrityFault, match=rf"run\.json.*{said}"):
        filled.read_record()


def test_dataframes_have_dicts_and_units(filled):
    """Analysis gets the rows as pandas dataframes, with the units beside them."""
    steps = open_store(filled.folder).steps()
    tables = open_store(str(filled.folder))

    assert steps.stages_ms[0] == samples.step_row().stages_ms
    assert steps.attrs["units"]["total_ms"] == "ms"
    assert (len(tables.trials()), len(tables.pairs()), len(tables.parity())) == (2, 1, 1)
    assert tables.pairs().verdict.tolist() == ["pass"]


def test_dataframes_of_an_altered_run_are_refused(filled):
    """Nobody analyses what was changed afterwards without knowing."""
    (filled.folder / "logs" / "t" / "log.txt").write_text("other")

    with pytest.raises(IntegrityFault, match=r"log\.txt was altered"):
        open_store(filled.folder)


@pytest.mark.parametrize("is_named", [True, False], ids=["manifest-has-it", "manifest-lacks-it"])
def test_next_writer_settles_what_a_killed_one_left(filled, monkeypatch, is_named):
    """A rename that the manifest announced is done; anything else half-written is dropped."""
    later = replace(PAIR, verdict="fail")
    broken = "publish" if is_named else "append_manifest"
    with monkeypatch.context() as patch:
        patch.setattr(f"harness.store.run.{broken}", stop)
        with pytest.raises(KeyboardInterrupt):
            filled.write_rows([later], PairRow, PAIR.cell_id)
    assert any((filled.folder / ".staging").iterdir())
    with filled.writing():
        pass

    filled.verify()
    assert filled.read_rows(PairRow) == [later if is_named else PAIR]
    assert list((filled.folder / ".staging").iterdir()) == []


def stop(*_arguments):
    """Stand in for a step at which a writer dies."""
    raise KeyboardInterrupt
