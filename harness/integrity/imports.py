"""Logs that were made elsewhere: kept as they are, parsed, and never taken for a measurement.

Each stands in a folder of its own, ``imports/ID``, with a record that proves the raw log and
itself. Its rows go into tables of their own, so that no verdict can rest on one.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.errors import IntegrityFault, UsageFault
from harness.imported_records import Basis, ImportedFigure, ImportedStep, Origin
from harness.integrity.import_record import (
    LOG_FILE,
    RECORD_FILE,
    SUITE,
    ImportRecord,
    digest_of,
    read_records,
)
from harness.logs.detection import ParsedLog, read_log
from harness.logs.lines import NotThisFormatError
from harness.machine import fingerprint
from harness.plan import suites
from harness.plan.sampling import phase_at
from harness.plan.titles import declared_titles
from harness.records import Role
from harness.store.manifest import IMPORTS, read_manifest
from harness.store.run import LOGS, WORK, Store, create_run, open_run
from harness.store.run_record import RunRecord, RunState
from harness.store.schema import read_table, schema_of, to_table
from harness.store.tables import path_of
from harness.store.version import SCHEMA_VERSION
from harness.units import format_words
from runners.protocol import wire

_SCENE = re.compile(r"[1-9]\d{1,4}x[1-9]\d{1,4}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An import and the rows that its log gives."""

    record: ImportRecord
    table: pa.Table
    digests: dict[str, str]
    """Of every raw file, by its path in the run's folder."""

    @property
    def row_type(self) -> type:
        """Record that the rows are."""
        return row_type_of(self.record)

    @property
    def table_name(self) -> str:
        """Path of the rows in the run's folder."""
        return path_of(self.row_type, self.record.import_id)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A log that was read and could be imported."""

    path: Path
    record: ImportRecord
    parsed: ParsedLog


def row_type_of(record: ImportRecord) -> type:
    """Steps of a log, or figures of a published table."""
    return ImportedStep if record.basis == Basis.PARSED else ImportedFigure


def read_candidates(
    paths: Sequence[Path], origin: Origin, name: str | None = None
) -> list[Candidate]:
    """Read every log before any of them is imported.

    Raises:
        UsageFault: A file cannot be read, or what is said of it is unknown or incomplete.
        LogFormatError: A file is no log of a known format, or a damaged one.
    """
    return [_read_candidate(path, origin, name) for path in paths]


def import_logs(
    folder: Path, candidates: Sequence[Candidate]
) -> tuple[list[ImportRecord], list[ImportRecord]]:
    """Bring logs into a run's folder, which is made if it is not there.

    Returns:
        What was imported, and what was there already.

    Raises:
        UsageFault: A log is there as something else, is one that the run measured, or changed
            while it was read.
        IntegrityFault: The folder is damaged.
    """
    run_store = open_run(folder) if folder.exists() else _create(folder)
    with run_store.writing():
        known = {record.log_sha256: record for record in read_records(run_store)}
        _refuse_contradictions(run_store, candidates, known)
        added, old = [], []
        for candidate in candidates:
            record = known.get(candidate.record.log_sha256)
            if record is not None:
                old.append(record)
                _finish(run_store, record)
                continue
            _add(run_store, candidate)
            known[candidate.record.log_sha256] = candidate.record
            added.append(candidate.record)
    return added, old


def read_import(folder: Path, record: ImportRecord) -> Imported:
    """Derive an import's rows from its raw log.

    Raises:
        IntegrityFault: The log is missing or was altered.
    """
    log = folder / LOG_FILE
    if not log.is_file() or wire.sha256_file(log) != record.log_sha256:
        raise IntegrityFault(f"{log} is missing or was altered after the import")
    with log.open("rb") as opened:
        parsed = read_log(opened, str(log), record.format)
    digests = digests_of(folder, record)
    return Imported(record=record, table=table_of(parsed, record), digests=digests)


def fault_of_table(run_store: Store, imported: Imported) -> str:
    """How the stored rows of an import differ from what its log says; empty if they do not."""
    try:
        stored = read_table(run_store.folder / imported.table_name, imported.row_type)
    except IntegrityFault as error:
        return str(error)
    return "" if stored.equals(imported.table) else "its rows are not what its log says"


def digests_of(folder: Path, record: ImportRecord) -> dict[str, str]:
    """Digest of every file of an import by its path in the run's folder."""
    place = f"{IMPORTS}/{record.import_id}"
    return {
        f"{place}/{LOG_FILE}": record.log_sha256,
        f"{place}/{RECORD_FILE}": wire.sha256_file(folder / RECORD_FILE),
    }


def _read_candidate(path: Path, origin: Origin, name: str | None) -> Candidate:
    try:
        with path.open("rb") as opened:
            parsed = read_log(opened, str(path), name)
        digest = wire.sha256_file(path)
    except OSError as error:
        raise UsageFault(f"{path}: {error.strerror}") from error
    except NotThisFormatError as error:
        raise NotThisFormatError(f"{error}\nNothing was imported") from error
    full_at, has_graph = 0, False
    if parsed.table is None:
        origin, place = Origin(recipe="", device="", side=""), "figures"
    else:
        origin = _named(origin, path)
        recipe = suites.load_recipes().recipes[origin.recipe]
        full_at, has_graph = recipe.capture_ar, recipe.cuda_graph
        origin = replace(origin, gpus=origin.gpus or 1)
        device = f"{origin.gpus}x{origin.device}" if origin.gpus > 1 else origin.device
        place = ".".join(filter(None, (origin.recipe, device, origin.side, origin.scene)))
    record = ImportRecord(
        **asdict(origin),
        schema=SCHEMA_VERSION,
        import_id=f"{place}.{digest[:12]}",
        basis=Basis.PUBLISHED if parsed.table is None else Basis.PARSED,
        format=parsed.format,
        source=path.name,
        rows=len(parsed.figures) if parsed.table is None else parsed.table.num_rows,
        full_at=full_at,
        has_graph=has_graph,
        imported=_now(),
        log_sha256=digest,
    )
    return Candidate(path=path, record=replace(record, digest=digest_of(record)), parsed=parsed)


def _named(origin: Origin, path: Path) -> Origin:
    """What is said of a log, every name as it is known.

    Raises:
        UsageFault: One is unknown or not given.
    """
    said = {"--recipe": origin.recipe, "--gpu": origin.device, "--side": origin.side}
    missing = [flag for flag, value in said.items() if not value]
    if missing:
        lists = {"--gpu": "devices"}  # a recipe has its sides beside it
        see = {f"fdbench list {lists.get(flag, 'recipes')}": None for flag in missing}
        raise UsageFault(
            f"{path}: give {format_words(missing)} to say what was measured "
            f"(see: {format_words(list(see))})"
        )
    recipes, devices = suites.load_recipes().recipes, suites.load_devices()
    slug = suites.pick("recipe", origin.recipe, recipes)
    device = suites.pick("device", origin.device, devices)
    recipe = recipes[slug]
    if recipe.gpus > 1 and not origin.gpus:
        raise UsageFault(
            f"{path}: {slug} can run on several GPUs; give their number with --num-gpus"
        )
    candidates = [name for name, one in declared_titles().items() if one.role == Role.CANDIDATE]
    sides = {name.lower(): name for name in (*candidates, *recipe.baselines)}
    side = sides.get(origin.side.lower())
    if side is None:
        raise UsageFault(f"{slug} has no side {origin.side!r}; it has {', '.join(sides.values())}")
    is_scene = recipe.flavour == "super_resolution"
    if is_scene != bool(_SCENE.fullmatch(origin.scene)) or (origin.scene and not is_scene):
        takes = "needs --scene WIDTHxHEIGHT" if is_scene else "has no scenes; leave out --scene"
        raise UsageFault(f"{slug} {takes}{f', not {origin.scene!r}' if origin.scene else ''}")
    return replace(origin, recipe=slug, device=device, side=side)


def _refuse_contradictions(
    run_store: Store, candidates: Sequence[Candidate], known: Mapping[str, ImportRecord]
) -> None:
    """One log is of one side, and a log that was measured here is no import.

    Raises:
        UsageFault: There is such a log; nothing was imported.
    """
    measured = {
        entry.sha256: name.split("/")[1]
        for name, entry in read_manifest(run_store.folder).items()
        if name.startswith(f"{LOGS}/")
    }
    for candidate in candidates:
        wanted, there = candidate.record, known.get(candidate.record.log_sha256)
        if there is not None and there.import_id != wanted.import_id:
            raise UsageFault(
                f"{candidate.path} is already in {run_store.folder} as {there.import_id}, so it "
                f"cannot be {wanted.import_id} too\nNothing was imported; use another --into for it"
            )
        if wanted.log_sha256 in measured:
            raise UsageFault(
                f"{candidate.path} is the log of {measured[wanted.log_sha256]}, which was measured "
                f"in {run_store.folder} itself\nNothing was imported"
            )


def _add(run_store: Store, candidate: Candidate) -> None:
    """Copy a log into the run's folder and enter its rows.

    Raises:
        UsageFault: It is not what was read any more.
    """
    record = candidate.record
    with run_store.job_folder(f"{IMPORTS}.{record.import_id}") as work:
        work.mkdir()
        shutil.copyfile(candidate.path, work / LOG_FILE)
        if wire.sha256_file(work / LOG_FILE) != record.log_sha256:
            shutil.rmtree(work)
            raise UsageFault(
                f"{candidate.path} changed while it was being read; import it once it is complete"
            )
        wire.write_json(work / RECORD_FILE, record)
        place = run_store.folder / IMPORTS / record.import_id
        table, digests = table_of(candidate.parsed, record), digests_of(work, record)
        run_store.add_import(work, place, table, row_type_of(record), digests)
    with suppress(OSError):  # a trial runs now
        (run_store.folder / WORK).rmdir()


def _finish(run_store: Store, record: ImportRecord) -> None:
    """Enter what a killed import had moved to its place and not entered."""
    folder = run_store.folder / IMPORTS / record.import_id
    digests = digests_of(folder, record)
    if not digests.keys() <= read_manifest(run_store.folder).keys():
        table = read_import(folder, record).table
        run_store.add_import(folder, folder, table, row_type_of(record), digests)


def table_of(parsed: ParsedLog, record: ImportRecord) -> pa.Table:
    """Rows of an import, with what they are of in every one."""
    if parsed.table is None:
        labels = {name: getattr(record, name) for name in ("import_id", "basis", "format")}
        rows = [ImportedFigure(**vars(figure), **labels) for figure in parsed.figures]
        return to_table(rows, ImportedFigure)
    schema, steps = schema_of(ImportedStep), parsed.table
    columns = {
        name: steps[name]
        if name in steps.schema.names
        else pa.repeat(getattr(record, name), steps.num_rows)
        for name in schema.names
        if name != "phase"
    }
    return pa.table(columns | {"phase": _phases(steps, record)}, schema=schema)


def _phases(steps: pa.Table, record: ImportRecord) -> pa.Array:
    """Phase of every AR step; a progress bar is none."""
    if record.format == "tqdm":
        return pa.repeat("", steps.num_rows)
    indices, place = np.unique(steps["ar"].to_numpy(), return_inverse=True)
    names = [phase_at(int(ar), record.full_at, has_graph=record.has_graph) for ar in indices]
    return pa.array(names, pa.string()).take(pa.array(place))


def _create(folder: Path) -> Store:
    """A folder for logs alone: it plans no cell, so that it can pass no gate."""
    record = RunRecord(
        suite=SUITE,
        suite_file="",
        sources={},
        description="Logs that were made elsewhere; nothing in here was measured",
        device="",
        size="",
        weights="",
        weights_seed=0,
        started=_now(),
        state=RunState.FINISHED,
        machine=fingerprint.read_machine(),
        sandbox="",
        cells=(),
        plan=(),
        unsupported=(),
        environments={},
    )
    made = create_run(folder, "--into")
    made.write_record(record)
    return made


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
