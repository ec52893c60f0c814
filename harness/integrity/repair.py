"""Makes a run's tables agree with its raw evidence again; never says an altered file is good."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import IntegrityFault, fdbench_command
from harness.integrity.findings import Finding, Kind
from harness.integrity.fsck import Inspection, inspect
from harness.integrity.settled import is_settled
from harness.records import PairRow, ParityRow, TrialRow
from harness.store.durable import files_in
from harness.store.manifest import (
    MANIFEST_FILE,
    PARTS,
    RUN_FILE,
    RUN_FILES,
    Entry,
    append_manifest,
    misplaced,
    read_manifest,
    write_manifest,
)
from harness.store.run import CAPTURES, Store
from harness.store.run_record import RunRecord
from harness.store.schema import WHOLE
from harness.store.tables import path_of


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair did."""

    mended: tuple[Finding, ...]
    left: tuple[Finding, ...]
    """What is lost, or not for fdbench to decide."""


def examine(run_store: Store) -> tuple[Finding, ...]:
    """Everything that is wrong with a run.

    Raises:
        UsageFault: A process is writing to it.
    """
    with _alone(run_store), run_store.writing():
        return tuple(inspect(run_store).findings)


def repair(run_store: Store) -> Repaired:
    """Derive again what can be, remove what was never finished, and say what is lost.

    Raises:
        UsageFault: A process is writing to the run.
        IntegrityFault: A folder stands where a file belongs, or the other way round.
    """
    wrong = misplaced(run_store.folder)
    if wrong:
        # What somebody put there is not fdbench's to delete, and nothing can be written over it.
        path, what = next(iter(wrong.items()))
        raise IntegrityFault(
            f"{path} {what}; nothing was repaired\n"
            f"Move it out of the run, then: {fdbench_command('fsck', '--repair', run_store.folder)}"
        )
    with _alone(run_store), run_store.writing():
        return _mend(run_store, inspect(run_store))


def settle(run_store: Store) -> None:
    """Bring a run that was stopped at any moment into order before it goes on.

    Raises:
        IntegrityFault: Evidence is lost: going on would hide that.
    """
    with run_store.writing():
        if is_settled(run_store):
            return
        kept = (Kind.LOST, Kind.FOREIGN)
        found = inspect(run_store)
        bad = [finding for finding in found.findings if finding.kind in kept]
        left = bad or list(_mend(run_store, found).left)
        if left:
            raise IntegrityFault(
                f"{run_store.folder}: {left[0].path} {left[0].problem}; nothing was run\n"
                f"See all problems: {fdbench_command('fsck', run_store.folder)}"
            )


def prune(run_store: Store) -> int:
    """Remove captures and keep their digests; returns the number of bytes freed.

    Those of cells without a verdict stay: it could not be reached without them.

    Raises:
        IntegrityFault: The run is not sound: captures may be needed to repair it.
        UsageFault: A process is writing to it.
    """
    with _alone(run_store), run_store.writing():
        findings = inspect(run_store).findings
        if findings:
            raise IntegrityFault(
                f"{run_store.folder}: nothing was pruned: "
                f"{findings[0].path} {findings[0].problem}\n"
                f"Repair it first: {fdbench_command('fsck', '--repair', run_store.folder)}"
            )
        judged = {pair.cell_id for pair in run_store.read_rows(PairRow)}
        rows = run_store.read_rows(TrialRow)
        needed = {f"{CAPTURES}/{row.trial_id}" for row in rows if row.cell_id not in judged}
        pruned = [
            replace(entry, pruned=True)
            for name, entry in read_manifest(run_store.folder).items()
            if name.startswith(f"{CAPTURES}/") and name.rpartition("/")[0] not in needed
        ]
        # The manifest first: a kill in between leaves files that may be absent, not missing ones.
        append_manifest(run_store.folder, pruned)
        folders = (run_store.folder / CAPTURES).glob("*")
        unneeded = [one for one in folders if f"{CAPTURES}/{one.name}" not in needed]
        captures = [path for folder in unneeded for path in files_in(folder)]
        freed = sum(path.stat().st_size for path in captures)
        run_store.write_record(replace(run_store.read_record(), pruned=True))
        run_store.remove(captures)
        return freed


@contextmanager
def _alone(run_store: Store) -> Iterator[None]:
    """Hold every cell, so that no trial runs meanwhile."""
    with ExitStack() as held:
        try:
            cells = run_store.read_plan()
        except IntegrityFault:  # so damaged that none of its cells can run
            cells = ()
        for cell in cells:
            held.enter_context(run_store.holding_cell(cell.cell_id))
        yield


def _mend(run_store: Store, before: Inspection) -> Repaired:
    if not before.findings or before.record is None:
        return Repaired(mended=(), left=tuple(before.findings))
    run_store.remove(
        run_store.folder / finding.path
        for finding in before.findings
        if finding.kind is Kind.LEFTOVER
    )
    _restore_manifest(run_store, before.record, before)
    _restore_tables(run_store, before)
    after = inspect(run_store).findings
    lost = [finding for finding in before.findings if finding.kind is Kind.LOST]
    left = tuple(dict.fromkeys([*lost, *after]))
    mended = tuple(finding for finding in before.findings if finding not in left)
    return Repaired(mended=mended, left=left)


def _restore_manifest(run_store: Store, record: RunRecord, found: Inspection) -> None:
    """Keep what it says of raw files; add only digests that a sealed file vouches for."""
    before = found.manifest or {}
    vouched: dict[str, str] = {}
    for result in found.results.values():
        vouched |= result.digests
    for imported in found.imports.values():
        vouched |= imported.digests
    added = {
        name: Entry(path=name, sha256=digest, pruned=_is_pruned(run_store, record, name))
        for name, digest in vouched.items()
        if name not in before
    }
    wrong = {finding.path for finding in found.findings}
    # Tables of schema 2 that nothing vouches for any more; parts take their place.
    stale = {name for name in WHOLE.values() if name in wrong or name not in before}
    derived = _tables_of(found).keys() | {one.table_name for one in found.imports.values()}
    dropped = {
        name: replace(entry, dropped=True)
        for name, entry in before.items()
        if (name not in derived and name.split("/")[0] in PARTS) or name in stale
    }
    if found.manifest is None:
        run_store.remove([run_store.folder / MANIFEST_FILE])
        write_manifest(run_store.folder, added.values())
    elif added or dropped:
        append_manifest(run_store.folder, [*added.values(), *dropped.values()])
    run_store.remove(run_store.folder / name for name in stale)
    if wrong & {*RUN_FILES} or RUN_FILE not in before:
        run_store.write_record(record)


def _is_pruned(run_store: Store, record: RunRecord, name: str) -> bool:
    """Whether a file that the manifest lacks is absent on purpose."""
    is_capture = name.startswith(f"{CAPTURES}/")
    return record.pruned and is_capture and not (run_store.folder / name).exists()


def _tables_of(found: Inspection) -> dict[str, tuple[type[Any], Sequence[Any]]]:
    """Every part that the run should have, by path: the record that its rows are, and the rows."""
    tables: dict[str, tuple[type[Any], Sequence[Any]]] = {}
    for name, result in found.results.items():
        for row_type, rows in {**result.parts, TrialRow: [result.row]}.items():
            if rows:
                tables[path_of(row_type, name)] = row_type, rows
    for name, judged in found.judged.items():
        tables[path_of(ParityRow, name)] = ParityRow, judged.parity
        tables[path_of(PairRow, name)] = PairRow, [judged.pair]
    return tables


def _wrong_files(found: Inspection) -> set[str]:
    """Files that are to be written anew: a verdict and its distances go together."""
    wrong = {finding.path for finding in found.findings}
    for cell_id in found.judged:
        both = {path_of(row_type, cell_id) for row_type in (PairRow, ParityRow)}
        if wrong & {*both, WHOLE[PairRow], WHOLE[ParityRow]}:
            wrong |= both
    return wrong


def _restore_tables(run_store: Store, found: Inspection) -> None:
    """Write each part that is not what it should be; one that belongs to nothing goes."""
    # The files first: what is among them and was entered since is nobody's leftover.
    there = [path for part in PARTS for path in (run_store.folder / part).glob("*.parquet")]
    known = read_manifest(run_store.folder)
    for path in there:
        if str(path.relative_to(run_store.folder)) not in known:
            run_store.remove([path])
    wrong = _wrong_files(found)
    for name, (row_type, rows) in _tables_of(found).items():
        is_in_whole = WHOLE.get(row_type) in known
        if name in wrong or (name not in known and not is_in_whole):
            run_store.write_rows(rows, row_type, Path(name).stem)
    for name, imported in found.imports.items():
        if imported.table_name in wrong or imported.table_name not in known:
            run_store.write_part(imported.table, imported.row_type, name)
