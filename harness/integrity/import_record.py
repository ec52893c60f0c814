"""``import.json``: what is known of a log that was made elsewhere, beside the log itself."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import IntegrityFault, in_words
from harness.imported_records import Origin
from harness.store.manifest import IMPORTS
from harness.store.run import Store
from harness.store.version import check_version
from runners.protocol import wire

RECORD_FILE, LOG_FILE = "import.json", "log.txt"
SUITE = "imports"
"""What ``run.json`` calls a folder that holds imported logs and no measurement."""


@dataclass(frozen=True, kw_only=True)
class ImportRecord(Origin):
    """``import.json``."""

    schema: int
    import_id: str
    basis: str
    format: str
    source: str
    """Name of the file it was."""
    rows: int
    full_at: int
    """AR step from which the recipe's KV window is full, when it was imported."""
    has_graph: bool
    """Whether the recipe captures a CUDA graph there."""
    imported: str
    """UTC."""
    log_sha256: str
    digest: str = ""
    """Of this record without this field."""


def read_records(run_store: Store) -> list[ImportRecord]:
    """Every import of a run, by id.

    Raises:
        IntegrityFault: A record is missing or was altered.
    """
    return [read_record(folder) for folder in folders(run_store)]


def folders(run_store: Store) -> list[Path]:
    """Folder of every import."""
    return sorted((run_store.folder / IMPORTS).glob("*"))


def read_record(folder: Path) -> ImportRecord:
    """Read an import's record.

    Raises:
        IntegrityFault: It is missing, of another version, or was altered.
    """
    path = folder / RECORD_FILE
    try:
        check_version(path, json.loads(path.read_text("utf-8"))["schema"])
        record = wire.read_json(ImportRecord, path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityFault(f"{path} could not be read: {in_words(error)}") from error
    if record.digest != digest_of(record) or record.import_id != folder.name:
        raise IntegrityFault(f"{path} was altered: its content does not match its own digest")
    return record


def digest_of(record: ImportRecord) -> str:
    """Digest of a record without its own."""
    return hashlib.sha256(wire.to_json(replace(record, digest="")).encode()).hexdigest()
