"""Makes a run's tables agree with its raw evidence again; never says an altered file is good."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness.errors import IntegrityFault
from harness.integrity.findings import Finding, Kind
from harness.integrity.fsck import Inspection, inspect
from harness.integrity.settled import is_settled
from harness.records import PairRow, ParityRow, TrialRow
from harness.store.durable import files_in
from harness.store.manifest import (
    MANIFEST_FILE,
    PARTS,
    RUN_COPY_FILE,
    RUN_FILE,
    Entry,
    misplaced,
    read_manifest,
    write_manifest,
)
from harness.store.run import CAPTURES, Store
from harness.store.schema import TABLES


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
            f"Move it out of the run, then: fdbench fsck --repair {run_store.folder}"
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
                f"See everything: fdbench fsck {run_store.folder}"
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
                f"Repair it first: fdbench fsck --repair {run_store.folder}"
            )
        judged = {pair.cell_id for pair in run_store.read_rows(PairRow)}
        rows = run_store.read_rows(TrialRow)
        needed = {f"{CAPTURES}/{row.trial_id}" for row in rows if row.cell_id not in judged}
        entries = read_manifest(run_store.folder)
        for name, entry in entries.items():
            if name.startswith(f"{CAPTURES}/") and name.rpartition("/")[0] not in needed:
                entries[name] = Entry(path=name, sha256=entry.sha256, pruned=True)
        # The manifest first: a kill in between leaves files that may be absent, not missing ones.
        write_manifest(run_store.folder, entries.values())
        folders = (run_store.folder / CAPTURES).glob("*")
        unneeded = [one for one in folders if f"{CAPTURES}/{one.name}" not in needed]
        captures = [path for folder in unneeded for path in files_in(folder)]
        freed = sum(path.stat().st_size for path in captures)
        run_store.write_run(run_store.read_run() | {"pruned": True})
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
    if not before.findings or not before.is_plan_known:
        return Repaired(mended=(), left=tuple(before.findings))
    run_store.remove(
        run_store.folder / finding.path
        for finding in before.findings
        if finding.kind is Kind.LEFTOVER
    )
    _restore_manifest(run_store, before)
    _restore_tables(run_store, before)
    after = inspect(run_store).findings
    lost = [finding for finding in before.findings if finding.kind is Kind.LOST]
    left = tuple(dict.fromkeys([*lost, *after]))
    mended = tuple(finding for finding in before.findings if finding not in left)
    return Repaired(mended=mended, left=left)


def _restore_manifest(run_store: Store, found: Inspection) -> None:
    """Keep what it says of raw files; add only digests that a sealed file vouches for."""
    if found.manifest is None:
        run_store.remove([run_store.folder / MANIFEST_FILE])
    entries = dict(found.manifest or {})
    is_pruned = bool(found.run.get("pruned"))
    vouched = [result.digests for result in found.results.values()]
    vouched += [imported.digests for imported in found.imports.values()]
    for digests in vouched:
        for name, digest in digests.items():
            gone = is_pruned and not (run_store.folder / name).exists()
            pruned = gone and name.startswith(f"{CAPTURES}/")
            entries.setdefault(name, Entry(path=name, sha256=digest, pruned=pruned))
    derived = {
        f"{TABLES[row_type]}/{name}.parquet"
        for name, result in found.results.items()
        for row_type, rows in result.parts.items()
        if rows
    }
    derived |= {imported.table_name for imported in found.imports.values()}
    entries = {n: e for n, e in entries.items() if n.split("/")[0] not in PARTS or n in derived}
    write_manifest(run_store.folder, entries.values())
    if {RUN_FILE, RUN_COPY_FILE} & {f.path for f in found.findings} or RUN_FILE not in entries:
        run_store.write_run(found.run)


def _restore_tables(run_store: Store, found: Inspection) -> None:
    """Write each table that is not what it should be."""
    _restore_parts(run_store, found)
    judged = found.judged.values()
    if found.results:
        run_store.write_rows([result.row for result in found.results.values()], TrialRow)
    if judged:
        run_store.write_rows([row.pair for row in judged], PairRow)
        run_store.write_rows([row for one in judged for row in one.parity], ParityRow)


def _restore_parts(run_store: Store, found: Inspection) -> None:
    """The tables of one trial or import each; one that belongs to none goes."""
    known = read_manifest(run_store.folder)
    for path in [path for part in PARTS for path in (run_store.folder / part).glob("*.parquet")]:
        if str(path.relative_to(run_store.folder)) not in known:
            run_store.remove([path])
    wrong = {finding.path for finding in found.findings}
    for name, result in found.results.items():
        for row_type, rows in result.parts.items():
            part = f"{TABLES[row_type]}/{name}.parquet"
            if rows and (part in wrong or part not in known):
                run_store.write_rows(rows, row_type, part=name)
    for name, imported in found.imports.items():
        if imported.table_name in wrong or imported.table_name not in known:
            run_store.write_part(imported.table, imported.row_type, name)
