"""Whether a run was left in order, by digests alone: what a resume of many trials can afford."""

from pathlib import Path

from harness.errors import IntegrityFault
from harness.machine.owners import is_claimed
from harness.records import TrialRow
from harness.store.manifest import read_manifest, unfinished_files
from harness.store.run import CAPTURES, LOGS, WORK, Store
from harness.store.tables import part_of
from harness.trials.trial_record import TRIAL_FILE


def is_settled(run_store: Store) -> bool:
    """Whether nothing is half done: each file is what the manifest says, each trial has its rows.

    Digests and rows of a trial enter the manifest together, so its tables are then what its
    evidence was worth when it ended; whether they still are, ``fdbench fsck`` derives anew.
    """
    folder = run_store.folder
    try:
        run_store.verify()
        entries = read_manifest(folder)
        stored = run_store.stored_parts(TrialRow)
    except IntegrityFault:
        return False
    recorded = {part_of(Path(name).parent.name) for name in entries if _is_trial(name)}
    kept = {
        part_of(path.name)
        for part in (LOGS, CAPTURES)
        for path in (folder / part).glob("*")
        if not is_claimed(folder / WORK / path.name)
    }
    return (
        recorded == stored
        and kept <= recorded
        and not run_store.unfinished_jobs()
        and not unfinished_files(folder)
    )


def _is_trial(name: str) -> bool:
    return name.startswith(f"{LOGS}/") and name.endswith(f"/{TRIAL_FILE}")
