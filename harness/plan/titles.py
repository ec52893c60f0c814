"""Title and role of every declared environment: all that a report needs to know of them."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.plan.suites import SUITES_DIR
from harness.records import Role

_DECLARED = SUITES_DIR.parent / "upstream_envs"


@dataclass(frozen=True, kw_only=True)
class Titled:
    """What an environment is called and what it is for."""

    title: str
    role: str


@cache
def declared_titles(folder: Path = _DECLARED) -> dict[str, Titled]:
    """Title and role by name; a run keeps its own, and older runs have none.

    A file that cannot be read declares nothing here: whoever runs it is told what is wrong.
    """
    found = {}
    for path in sorted(folder.glob("*/env.toml")):
        try:
            declared = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        title, role = declared.get("title", ""), declared.get("role", Role.REFERENCE.value)
        found[path.parent.name] = Titled(title=str(title), role=str(role))
    return found
