"""Reads a TOML file into a dataclass, strictly: what is wrong is named by file, line and key."""

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageFault
from harness.plan.known_names import nearest

Entry = TypeVar("Entry")
Place = Sequence[str | int]
"""Keys and numbers that lead to a value, from the outside in."""

_UNKNOWN = "unexpected_keyword_argument"


def load_toml(
    entry_type: type[Entry],
    path: Path,
    fill_in: Callable[[dict[str, Any]], dict[str, Any]] = lambda tables: tables,
) -> Entry:
    """Read a TOML file into a dataclass, strictly.

    Args:
        entry_type: The dataclass.
        path: The file.
        fill_in: Applied to the tables before they are checked.

    Raises:
        UsageFault: It cannot be read, or a key is unknown, missing or of the wrong type.
    """
    text = _read(path)
    try:
        tables = fill_in(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageFault(f"{path} is not TOML: {error}") from error
    try:
        # Only from JSON takes a strict dataclass a table. A date becomes a number: no entry is one.
        content = json.dumps(tables, default=lambda _: 0)
        entry: Entry = _adapter(entry_type).validate_json(content, strict=True)
    except ValidationError as error:
        # A misspelt key is also one that is missing: what was typed says more.
        first = min(error.errors(), key=lambda one: one["type"] != _UNKNOWN)
        place = first["loc"]
        what = f"{path}:{line_of(text, place)}: {'.'.join(map(str, place))}"
        if first["type"] == _UNKNOWN:
            known = _keys_at(entry_type, place[:-1])
            raise UsageFault(f"{what}: unknown key; {nearest(str(place[-1]), known)}") from error
        said = "this key is missing" if first["type"] == "missing" else first["msg"]
        raise UsageFault(f"{what}: {said}") from error
    return entry


def line_of(text: str, place: Place) -> int:
    """Line of a key, or of the table that lacks it: the last header and key that its path names."""
    lines, found = text.splitlines(), 0
    for number, part in enumerate(place):
        if isinstance(part, int):
            headers = [
                n for n, line in enumerate(lines) if line.strip() == f"[[{place[number - 1]}]]"
            ]
            found = headers[part] if part < len(headers) else found
            continue
        own = re.compile(rf"""\s*(\[.*\b)?["']?{re.escape(part)}["']?\s*(=|\]|\.)""")
        found = next((n for n in range(found, len(lines)) if own.match(lines[n])), found)
    return found + 1


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageFault(f"{path}: there is no such file") from error
    except OSError as error:
        raise UsageFault(f"{path} could not be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is not TOML: it is not UTF-8 text") from error


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(entry_type: Any) -> TypeAdapter[Any]:
    """Made once for all files of a kind."""
    if entry_type not in _ADAPTERS:
        _ADAPTERS[entry_type] = TypeAdapter(entry_type)
    return _ADAPTERS[entry_type]


def _keys_at(entry_type: Any, place: Place) -> list[str]:
    """Keys that the table at a place may have."""
    for part in place:
        entry_type = _inside(entry_type, part)
    return [item.name for item in fields(entry_type)]


def _inside(entry_type: Any, part: str | int) -> Any:
    """Type of one value in a table, a dictionary or a list."""
    inner = get_type_hints(entry_type)[part] if is_dataclass(entry_type) else None  # type: ignore[index]
    inner = inner or get_args(entry_type)[-1]
    if get_origin(inner) in (Union, UnionType):
        inner = next(one for one in get_args(inner) if is_dataclass(one))
    return inner
