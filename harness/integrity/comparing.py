"""Where stored rows are not what the raw evidence says."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TypeVar

from harness.records import StepRow, TelemetryRow, TrialRow
from runners.protocol import wire

Stored = TypeVar("Stored", StepRow, TelemetryRow)
_TEXTS = ("reason", "invalid")
"""Columns whose words may differ from one version of fdbench to the next."""


def compare(stored: Sequence[Stored], derived: Sequence[Stored]) -> Iterator[str]:
    """Where stored rows are not what the raw evidence says."""
    if len(stored) != len(derived):
        yield f"has {len(stored)} rows, the log shows {len(derived)}"
        return
    for row, wanted in zip(stored, derived, strict=True):
        if row != wanted:
            names = [f.name for f in fields(row) if getattr(row, f.name) != getattr(wanted, f.name)]
            yield f"{_place_of(row)} not say that ({', '.join(names)})"


def _place_of(row: StepRow | TelemetryRow) -> str:
    """Where the raw evidence of a row is."""
    if isinstance(row, StepRow):
        bytes_ = f"bytes {row.byte_start} to {row.byte_end}"
        return f"AR {row.ar}, rank {row.rank}: {bytes_} of the log do"
    return "the raw samples do"


def differ(stored: TrialRow, derived: TrialRow) -> str:
    """Columns in which a row is not what its evidence says; empty if there is none."""
    names = [f.name for f in fields(stored) if f.name not in _TEXTS]
    wrong = [name for name in names if _value(stored, name) != _value(derived, name)]
    if bool(stored.invalid) != bool(derived.invalid):
        wrong.append("invalid")
    return f"its evidence shows another {', '.join(wrong)}" if wrong else ""


def _value(row: TrialRow, name: str) -> object:
    """A column's value; settings as a record, whose later fields stored ones do not spell out."""
    value = getattr(row, name)
    if name != "settings" or not value:
        return value
    try:
        return wire.from_json(wire.Settings, value, "settings")
    except wire.WireError:
        return value
