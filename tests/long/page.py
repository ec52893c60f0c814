"""``docs/long_tests.md``: one section a check, each written by the run that made its figures."""

import datetime

from harness.environments.declared import PROJECT_DIR
from harness.machine.fingerprint import read_machine

PAGE = PROJECT_DIR / "docs" / "long_tests.md"
HEAD = (
    "# Tests that take hours\n\n"
    "`make test-long` runs them and writes this page; `python -m tests.long NAME` runs one and "
    "writes its section.\n"
)


def table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table: the first column is text, figures follow."""
    lines = [columns, ("---", *["---:"] * (len(columns) - 1)), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def write(titles: dict[str, str], name: str, text: str) -> None:
    """Put a section in place of its former one; a check that never ran says so in its section.

    Args:
        titles: Title of each check by its name, in the order of the page.
        name: Of the check that ran.
        text: What it found.
    """
    sections = _sections(PAGE.read_text("utf-8") if PAGE.exists() else "")
    here = read_machine()
    sections[titles[name]] = (
        f"Written by `python -m tests.long {name}` on {today()}, Python {here.python}, "
        f"{here.cpu}, {here.cores} cores.\n\n{text}"
    )
    parts = [f"## {title}\n\n{sections.get(title, _never(one))}" for one, title in titles.items()]
    PAGE.write_text("\n".join([HEAD, *parts]), "utf-8")


def today() -> str:
    """The date, as the page has it."""
    return str(datetime.datetime.now(datetime.UTC).date())


def rows(title: str) -> list[tuple[str, ...]]:
    """Rows of the tables of a section as it stands."""
    text = _sections(PAGE.read_text("utf-8") if PAGE.exists() else "").get(title, "")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [tuple(line.strip("| ").split(" | ")) for line in lines]


def _never(name: str) -> str:
    return f"Has not run to its end yet: `python -m tests.long {name}`.\n"


def _sections(page: str) -> dict[str, str]:
    """Text of each section by its title."""
    _, *parts = page.split("\n## ")
    split = (part.partition("\n\n") for part in parts)
    return {title: text.rstrip("\n") + "\n" for title, _, text in split}
