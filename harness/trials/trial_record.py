"""``trial.json``: what only the harness knows about a trial, with the digest of every file of it.

With that and the record's own digest a trial's folder proves itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import IntegrityFault, in_words
from harness.store.durable import files_in
from harness.store.version import check_version
from runners.protocol import wire

TRIAL_FILE = "trial.json"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """When a line of a side's events reached the harness."""

    at_s: float
    """On the machine's monotonic clock."""
    energy_j: float | None
    """Energy counters of the trial's GPUs at that moment, summed; None without telemetry."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """``trial.json``: what only the harness knows about a trial."""

    schema: int
    trial_id: str
    cell_id: str
    role: str
    side: str
    process: int
    outcome: str
    """As the process ended, before its evidence was read."""
    reason: str
    exit_status: int
    wall_s: float
    first_step_s: float | None
    """Seconds from launch to the end of the first AR step; None if there was none."""
    started: str
    """UTC."""
    ended: str
    environment_digest: str
    code_digest: str
    files: dict[str, str]
    """Digest of each file of the folder, by path."""
    captures: dict[str, str]
    """Digest of each captured tensor's file, by name."""
    digest: str = ""
    """Of this record without this field."""
    launched_at_s: float | None = None
    """On the machine's monotonic clock, as the sides' events; None in older records."""
    arrivals: tuple[Arrival, ...] = ()
    """Of each line of the events, in order; empty where the kernel did not tell, or the side
    changed a line that it had written."""
    waited_us: dict[str, int] | None = None
    """Microseconds of the trial in which some task of the host waited for a resource: ``cpu``,
    ``memory``, ``io``. None where the kernel does not count them."""


def write_record(folder: Path, record: TrialRecord) -> TrialRecord:
    """Complete a record with the digests of what lies in a job folder, and write it there."""
    captures = {path.name: wire.sha256_file(path) for path in folder.glob("*.safetensors")}
    files = {
        str(path.relative_to(folder)): wire.sha256_file(path)
        for path in files_in(folder)
        if path.name not in captures or path.parent != folder
    }
    record = replace(record, files=files, captures=captures, digest="")
    record = replace(record, digest=_digest(asdict(record)))
    wire.write_json(folder / TRIAL_FILE, record)
    return record


def read_record(folder: Path) -> TrialRecord:
    """Read ``trial.json`` of a trial's folder.

    Raises:
        IntegrityFault: It is missing, damaged, of another version, or was altered.
    """
    path = folder / TRIAL_FILE
    try:
        text = path.read_text("utf-8")
        values = json.loads(text)
        check_version(path, values["schema"])
        record = wire.from_json(TrialRecord, text, str(path))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityFault(f"{path} cannot be read: {in_words(error)}") from error
    # Of what was read: a record of before a field came does not have it, nor does its digest.
    if record.digest != _digest(values):
        raise IntegrityFault(f"{path} was altered: its content is not what its own digest says")
    return record


def digests_of(record: TrialRecord, folder: Path) -> dict[str, str]:
    """Digest of every file of a trial by its path in the run's folder, ``trial.json`` included."""
    name = record.trial_id
    files = {f"logs/{name}/{path}": digest for path, digest in record.files.items()}
    files |= {f"captures/{name}/{path}": digest for path, digest in record.captures.items()}
    return files | {f"logs/{name}/{TRIAL_FILE}": wire.sha256_file(folder / TRIAL_FILE)}


def _digest(values: Mapping[str, Any]) -> str:
    """Digest of a record's JSON as it stands in the file, but for the digest itself."""
    text = json.dumps({**values, "digest": ""}, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
