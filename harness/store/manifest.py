"""``MANIFEST.jsonl``: the digest of every file of a run that is evidence."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import IntegrityFault
from harness.store.durable import BESIDE, files_in, write_text
from harness.store.schema import SCHEMA_VERSION, check_version

MANIFEST_FILE, RUN_FILE, RUN_COPY_FILE = "MANIFEST.jsonl", "run.json", "run.copy.json"
IMPORTS = "imports"
IMPORTED = ("imported_steps", "imported_figures")
PARTS = ("steps", "telemetry", *IMPORTED)
"""Tables of many files, one for each trial or import."""
EVIDENCE = (*PARTS, "logs", "captures", IMPORTS)
"""Folders in which every file must stand in the manifest; what a report added does not."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file."""

    path: str
    """Relative to the run's folder."""
    sha256: str
    pruned: bool = False
    """Removed on purpose; its digest stays."""


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Entries by path; a run that is being made has none yet.

    Raises:
        IntegrityFault: It is damaged or of another version.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return {}
    try:
        head, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        version = head["schema"]
        entries = [Entry(**line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityFault(f"{path}: not a manifest ({error})") from error
    check_version(path, version)
    return {entry.path: entry for entry in entries}


def write_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Write all entries in place of those before."""
    lines: list[dict[str, object]] = [{"schema": SCHEMA_VERSION}]
    for entry in sorted(entries, key=lambda entry: entry.path):
        line: dict[str, object] = {"path": entry.path, "sha256": entry.sha256}
        lines.append(line | ({"pruned": True} if entry.pruned else {}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_text(folder / MANIFEST_FILE, text)


def evidence_files(folder: Path) -> list[Path]:
    """Every file that must stand in the manifest."""
    below = [path for name in EVIDENCE for path in files_in(folder / name)]
    copy = folder / RUN_COPY_FILE
    return [folder / RUN_FILE, *[copy] * copy.exists(), *sorted(folder.glob("*.parquet")), *below]


def misplaced(folder: Path) -> dict[Path, str]:
    """Folders where a run keeps a file, and files where it keeps a folder, with what each is."""
    files = [folder / name for name in (MANIFEST_FILE, RUN_FILE, RUN_COPY_FILE)]
    files += [path for part in (".", *PARTS) for path in (folder / part).glob("*.parquet")]
    folders = [folder / name for name in EVIDENCE]
    found = {path: "is a folder where a file belongs" for path in files if path.is_dir()}
    return found | {path: "is a file where a folder belongs" for path in folders if path.is_file()}


def unfinished_files(folder: Path) -> list[Path]:
    """Tables and run files that lie beside their places, written and not yet renamed to them."""
    return [path for part in (".", *PARTS) for path in (folder / part).glob(f"*{BESIDE}")]
