"""One word for one meaning: names are unique, and words that were given up do not come back."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cli
from harness.environments.declared import PROJECT_DIR

pytestmark = pytest.mark.unit

PACKAGES = ("harness", "reports", "runners", "upstream_envs")
NAMED_FOR_SOMETHING_ELSE = {
    "cli": "a file a command",
    "logs": "a file a format, which has its maker's name",
    "upstream_envs": "an adapter an environment",
    "drivers": "a file a family",
    "kinds": "a file a kind of network",
}
"""Folders whose files are named from outside: a file of another may be called so, too."""

WORDS = ("noise floor", "kernel time", "frame", "worker", "part", "trial", "cell", "control")
GIVEN_UP = {
    r"roofline": "kernel time",
    r"sittings?": "worker",
    r"pandas frames?": "dataframe",
    r"floor of (a|the) machine": "kernel time",
}
"""What a word was, to the word that stands for its meaning now."""
FLOOR = re.compile(r"(?<!noise )(?<!noise\n)(?<!noise\n  )(?<![`\w{-])\bfloors?\b", re.IGNORECASE)
PROSE = ("README.md", *(f"docs/{name}.md" for name in ("METHODOLOGY", "ADDING", "CONTAINERS")))


def sources(*packages):
    """Every Python file of some packages."""
    return [path for name in packages for path in sorted((PROJECT_DIR / name).rglob("*.py"))]


def where(path):
    """Path in the project."""
    return path.relative_to(PROJECT_DIR)


def test_no_two_modules_have_one_name():
    """A name in a message or an import says which file is meant."""
    found = defaultdict(list)
    for path in sources(*PACKAGES):
        parts = set(where(path).parts[:-1])
        if path.stem != "__init__" and not parts & NAMED_FOR_SOMETHING_ELSE.keys():
            found[path.stem].append(str(where(path)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_no_two_classes_have_one_name():
    """Nor does a class of one package have the name of another's."""
    found = defaultdict(list)
    for path in sources(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(where(path)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_every_package_says_what_lives_there():
    """In one sentence, in its own file."""
    for path in sources("harness", "reports", "runners"):
        if path.name == "__init__.py":
            said = ast.get_docstring(ast.parse(path.read_text()))
            assert said, where(path)
            assert said.split("\n\n")[0].count(". ") == 0, where(path)


def test_few_modules_stand_beside_the_packages():
    """A stranger reads the names of the first level and knows where to go."""
    beside = [path.name for path in (PROJECT_DIR / "harness").glob("*.py")]

    assert len(beside) <= 8, beside


def glossary():
    """Word to meaning, as the methodology has them."""
    text = (PROJECT_DIR / "docs" / "METHODOLOGY.md").read_text()
    table = text.split("## Words\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    return {word: meaning for word, meaning in rows if word != "word"}


@pytest.mark.parametrize("word", WORDS)
def test_glossary_has_the_word(word):
    """With a meaning that is a phrase of its own."""
    assert len(glossary()[word].split()) > 3


def test_glossary_gives_no_word_twice():
    """One row a word, and no two words with one meaning."""
    meanings = list(glossary().values())

    assert len(set(meanings)) == len(meanings)


def texts():
    """Everything that a reader meets, by where it stands."""
    found = {str(where(path)): path.read_text() for path in sources(*PACKAGES)}
    for pattern in ("README.md", "docs/*.md", "docs/results/README.md", "templates/*.j2"):
        found |= {str(where(path)): path.read_text() for path in PROJECT_DIR.glob(pattern)}
    for name in cli.COMMANDS:
        shown = CliRunner().invoke(cli.fdbench, [name, "--help"]).output
        assert "Usage" in shown
        found[f"fdbench {name} --help"] = shown
    # What older runs called it is said where they are read, and where that is documented.
    found["harness/store/run_record.py"] = re.sub(
        r"_FORMER_NAMES.*?\n", "", found["harness/store/run_record.py"], count=1
    )
    found["docs/FORMAT.md"] = re.sub(
        r"## Runs of schema 2.*?\n## ", "## ", found["docs/FORMAT.md"], flags=re.DOTALL
    )
    return found


@pytest.mark.parametrize("word", GIVEN_UP)
def test_word_that_was_given_up_does_not_come_back(word):
    """Neither in code nor in what it prints or documents."""
    pattern = re.compile(rf"\b{word}\b", re.IGNORECASE)
    found = {place: pattern.findall(text) for place, text in texts().items()}

    assert [place for place, hits in found.items() if hits] == [], f"say {GIVEN_UP[word]}"


@pytest.mark.parametrize("name", PROSE)
def test_floor_in_a_sentence_is_the_noise_floor(name):
    """There is one: what a machine cannot go below is its kernel time."""
    text = (PROJECT_DIR / name).read_text()
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)

    assert FLOOR.findall(prose) == []


def test_modules_are_where_the_import_map_says():
    """The map lists every package and module of the first level, each once."""
    listed = re.search(
        r"layers = \[(.*?)\]", Path(PROJECT_DIR / "pyproject.toml").read_text(), re.DOTALL
    )
    names = re.findall(r"[a-z_]+", listed[1])
    there = {path.stem for path in (PROJECT_DIR / "harness").iterdir() if "__" not in path.name}

    assert sorted(names) == sorted(there)
