"""From the stored verdicts of a run to its exit code."""

from harness.errors import ExitCode, worst
from harness.records import PairRow
from harness.store.run import Store, pointing_to_fsck


def check(run_store: Store) -> ExitCode:
    """Verify a run's files and return the exit code its stored verdicts add up to.

    Raises:
        IntegrityFault: A file is missing or was altered.
    """
    with pointing_to_fsck(run_store.folder):
        run_store.verify()
        cells = run_store.read_record().cells
        judged = {pair.cell_id: pair.code for pair in run_store.read_rows(PairRow)}
    return worst(judged.get(cell_id, ExitCode.INCOMPLETE) for cell_id in cells)
