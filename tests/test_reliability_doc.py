"""docs/RELIABILITY.md names tests that exist."""

import re

import pytest

from harness.environments.declared import PROJECT_DIR

pytestmark = pytest.mark.unit

TEXT = (PROJECT_DIR / "docs" / "RELIABILITY.md").read_text()


def test_every_row_has_its_test():
    """A fault without a test is not in the table, and each test is there."""
    sources = "".join(path.read_text() for path in (PROJECT_DIR / "tests").glob("test_*.py"))
    table = TEXT.partition("## Not run")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]

    assert len(rows) >= 30
    assert [row for row, tests in zip(rows, named, strict=True) if len(tests) != 1] == []
    assert [test for (test,) in named if f"def {test}(" not in sources] == []
