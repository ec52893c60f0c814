"""What ran where: settings of the sides, facts, trials, environments and machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.machine.fingerprint import Machine
from harness.records import Role, TrialRow
from harness.store.run_record import EnvironmentRecord
from harness.units import format_counted, format_words
from reports.run_view import CellView, RunView
from reports.side_names import sentence_case

SHORT_DIGEST = 12
"""Hex digits of a digest shown where the whole one would not fit."""

_MAX_ITEMS = 6
"""Entries of a list setting that are shown where the sides agree."""


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One setting in force, side by side."""

    setting: str
    values: tuple[str, ...]
    """One per side, in the table's order."""
    mark: str
    """Empty, ``expected`` or ``differs``: candidate against reference."""
    note: str
    """Why a difference is expected."""


@dataclass(frozen=True, kw_only=True)
class SettingsTable:
    """Settings of a cell's sides."""

    cell_id: str
    sides: tuple[str, ...]
    missing: str
    """Sides that reported no settings, in words."""
    rows: tuple[SettingRow, ...]


@dataclass(frozen=True, kw_only=True)
class TrialLine:
    """One process launch in the table of trials."""

    trial: TrialRow
    side: str
    log_url: str
    """Relative to the run's folder; empty if there is no log."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A version or identity that is kept and not compared."""

    name: str
    value: str
    sides: str


def settings_table(cell: CellView) -> SettingsTable:
    """Settings of each side's first process that reported any, reference first."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for trial in sorted(cell.trials, key=lambda trial: (_ORDER[trial.role], trial.process)):
        if settings := reported(trial):
            first.setdefault((trial.role, trial.side), settings)
    silent = {cell.names.display(t.side) for t in cell.trials if (t.role, t.side) not in first}
    reasons = _differences(cell)
    names = dict.fromkeys(name for settings in first.values() for name in settings)
    return SettingsTable(
        cell_id=cell.cell_id,
        sides=tuple(_headed(role, side, cell) for role, side in first),
        missing=format_words(sorted(silent)),
        rows=tuple(_setting_row(name, list(first.values()), reasons) for name in names),
    )


def reported(trial: TrialRow) -> dict[str, Any]:
    """Settings in force, as the side itself read them back; empty where it said nothing."""
    return _json_object(trial.settings)


def trial_lines(folder: Path, cell: CellView) -> tuple[TrialLine, ...]:
    """Trials of a cell in stored order, each with the way to its log."""
    return tuple(
        TrialLine(trial=trial, side=cell.names.display(trial.side), log_url=_log_url(folder, trial))
        for trial in cell.trials
    )


def facts(cells: Sequence[CellView]) -> tuple[Fact, ...]:
    """Facts of every side, equal ones once."""
    sides: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        for trial in cell.trials:
            for name, value in _json_object(trial.facts).items():
                owners = sides.setdefault((name, str(value)), {})
                owners[cell.names.display(trial.side)] = None
    return tuple(
        Fact(name=name, value=value, sides=format_words(list(owners)))
        for (name, value), owners in sorted(sides.items())
    )


def environments_by_name(view: RunView) -> dict[str, EnvironmentRecord]:
    """Environments of the run as they are displayed: packages in the version that ran."""
    found: dict[str, EnvironmentRecord] = {}
    for name, described in view.record.environments.items():
        title = view.names.display(name)
        found[f"{title} ({name})" if title in found else title] = replace(
            described, packages=_as_installed(described.packages, described.installed)
        )
    return found


def _as_installed(declared: Sequence[str], installed: Sequence[str]) -> tuple[str, ...]:
    """Declared packages as they ran: with the host's own packages a version may be another."""
    versions = {
        canonicalize_name(name): version
        for name, _, version in (one.partition("==") for one in installed)
    }
    lines = []
    for one in declared:
        named, _, pinned = one.partition("==")
        found = versions.get(canonicalize_name(Requirement(one).name), pinned)
        lines.append(one if found == pinned else f"{named}=={found} ({pinned} declared)")
    return tuple(lines)


def machine_lines(view: RunView) -> tuple[tuple[str, str], ...]:
    """Fingerprint of the machine, labelled; of every machine where workers differ."""
    record = view.record
    machines = [record.machine, *(worker.machine for worker in record.workers)]
    labelled = [_machine_values(machine) for machine in machines]
    lines = [
        (label, "; ".join(dict.fromkeys(values[label] for values in labelled)))
        for label in labelled[0]
    ]
    return (*lines, ("Sandbox", record.sandbox))


def _machine_values(machine: Machine) -> dict[str, str]:
    return {
        "GPU": format_counted(machine.gpus) or "none",
        "NVIDIA driver": machine.driver or "none",
        "CPU": f"{machine.cpu}, {machine.cores} cores",
        "Memory": f"{machine.memory_gib} GiB",
        "System": machine.system,
        "Python of the harness": machine.python,
        "fdbench": machine.fdbench,
    }


_ROLES = (Role.REFERENCE, Role.CANDIDATE, Role.FLOOR, Role.CONTROL)
_ORDER = {role.value: number for number, role in enumerate(_ROLES)}


def _headed(role: str, side: str, cell: CellView) -> str:
    name, names = cell.names.display(side), cell.names.pair([cell.reference], [cell.candidate])
    heading = sentence_case((*names, "noise floor", "control")[_ORDER[role]])
    return name if name == heading else f"{heading}: {name}"


def _setting_row(
    name: str, reported: Sequence[dict[str, Any]], reasons: Mapping[str, str]
) -> SettingRow:
    is_different = name in reasons
    return SettingRow(
        setting=name,
        values=tuple(
            _shown(side[name], in_full=is_different) if name in side else "" for side in reported
        ),
        mark=("expected" if reasons[name] else "differs") if is_different else "",
        note=reasons.get(name, ""),
    )


def _differences(cell: CellView) -> dict[str, str]:
    """Settings the matching found to differ, with the reason that expects it, or none."""
    if cell.pair is None:
        return {}
    try:
        return {
            str(entry[0]): str(entry[3]) for entry in json.loads(cell.pair.settings_differences)
        }
    except (ValueError, TypeError, IndexError, KeyError):
        return {"(unreadable list of differences)": ""}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {"(unreadable)": text}
    return value if isinstance(value, dict) else {"(not an object)": text}


def _shown(value: Any, *, in_full: bool) -> str:
    if isinstance(value, list):
        items = [_shown(item, in_full=in_full) for item in value]
        if len(items) > _MAX_ITEMS and not in_full:
            items = [*items[: _MAX_ITEMS - 2], "…", items[-1]]
            return f"[{', '.join(items)}] ({len(value)} values)"
        return f"[{', '.join(items)}]"
    if isinstance(value, float):
        return f"{value:.9g}"
    return json.dumps(value) if value is None or isinstance(value, bool | dict) else str(value)


def _log_url(folder: Path, trial: TrialRow) -> str:
    if not (folder / "logs" / trial.trial_id / "log.txt").is_file():
        return ""
    return f"logs/{quote(trial.trial_id, safe='')}/log.txt"
