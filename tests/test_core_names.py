"""The core names no family, no upstream and no environment: it asks for roles and titles."""

import ast
import re
from pathlib import Path

import pytest

from harness.environments.declared import PROJECT_DIR, load_environments
from harness.plan import suites

pytestmark = pytest.mark.unit

PARSERS = PROJECT_DIR / "harness" / "logs"
"""A format has its maker's name."""
CORE = [
    path
    for package in ("harness", "reports")
    for path in sorted((PROJECT_DIR / package).rglob("*.py"))
    if PARSERS not in path.parents
]
NAMES = (
    r"\bwan(?![a-z])",
    r"cosmos",
    r"self.?forcing",
    r"causal.?forcing",
    r"lingbot",
    r"flashvsr",
    r"hy.?worldplay",
    r"omni.?dreams",
    r"taehv",
    r"fastvideo",
    r"lightx2v",
    r"diffusers",
    r"infinity.?rope",
    r"sana.?wm",
)
"""Families, their decoders and upstreams, as regular expressions."""
NAMED = re.compile("|".join(NAMES), re.IGNORECASE)
EXAMPLE = re.compile(r"^ *Example: .*(?:\n +(?:fdbench|--).*)*", re.MULTILINE)
"""A command's help shows what to type."""


def lines_that_name(text: str) -> list[str]:
    """Lines with a family's or an upstream's name, examples of commands left out."""
    return [line.strip() for line in EXAMPLE.sub("", text).splitlines() if NAMED.search(line)]


def environments_in(text: str) -> list[str]:
    """Declared environments that a module's own strings name."""
    strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return sorted(set(load_environments()) & {value for value in strings if isinstance(value, str)})


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(Path(path).relative_to(PROJECT_DIR)))
def test_core_module_names_nobody(path):
    """What differs between families and upstreams is data: suites, declarations, runners."""
    text = path.read_text()

    assert lines_that_name(text) == []
    assert environments_in(text) == []


def test_every_family_and_environment_that_there_is_would_be_noticed():
    """A new one is added to the names above, or the check looks past it."""
    missed = [name for name in load_environments() if not NAMED.search(name)]
    missed = [name for name in missed if environments_in(f"x = {name!r}") != [name]]
    missed += [slug for slug in suites.load_recipes().recipes if not NAMED.search(slug)]

    assert missed == []


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("if solver == 'self_forcing':", id="solver"),
        pytest.param("# as in Wan 2.1", id="comment"),
        pytest.param("WAN_VAE_WIDTH = 96", id="constant"),
        pytest.param('"""Example of diffusers."""', id="prose"),
    ],
)
def test_a_name_is_noticed(line):
    """In code, comments and constants."""
    assert lines_that_name(line) == [line]


def test_what_only_looks_like_a_name_is_none():
    """Words that contain one, and examples of commands."""
    help_text = "    Example: fdbench env build diffusers\n             fdbench env rm fastvideo\n"

    assert lines_that_name(f"wanted = swan\n{help_text}") == []
    assert environments_in("built['candidate']") == []
