"""The version that every file of a run carries, and those that are read."""

from pathlib import Path

from harness.errors import IntegrityFault

SCHEMA_VERSION = 3
"""Raised whenever a column, a key of ``run.json`` or the layout of a run changes meaning."""
READABLE = (2, SCHEMA_VERSION)
"""Versions that this fdbench reads. In 2, three tables were one file each (``WHOLE``), and three
keys of ``run.json`` had other names; columns are the same."""


def check_version(path: Path, found: object) -> None:
    """Refuse a file of another version.

    Raises:
        IntegrityFault: It is of another version, or says none; the message has both.
    """
    if found not in READABLE:
        said = f"of schema {found}" if found is not None else "without a schema version"
        versions = " and ".join(map(str, READABLE))
        raise IntegrityFault(f"{path} is {said}; this fdbench reads schema {versions}")
