"""Every property of the suite again, with many more examples; and mutated logs for minutes."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator

from harness.environments.declared import PROJECT_DIR
from tests import conftest
from tests.long.page import table

TESTS = {
    "logs: any bytes, damaged and jumbled logs": ("hostile_logs", "log_parser"),
    "logs: columns against single lines": ("log_columns",),
    "wire between harness and sides": ("wire",),
    "manifest and tables of a run": ("manifest", "store"),
    "gates, noise floors, statistics, schedules": ("gates", "parity", "stats", "plan"),
}
EXAMPLES = conftest.LONG_EXAMPLES


def found() -> Iterator[str]:
    """Run all; a failing example is in what pytest prints, and a table of all is made anyway."""
    said = (
        f"Hypothesis' profile `long` of `tests/conftest.py`: {EXAMPLES:,} examples a property, of "
        "some properties a multiple or a part; and for minutes real logs with random damage, read "
        "as every format. Every other test of these modules runs along.\n\n"
    )
    rows: list[tuple[object, ...]] = []
    for what, names in TESTS.items():
        rows.append((what, *_outcome(names)))
        yield said + table(("what", "tests", "failed", "seconds"), rows)


def _outcome(names: tuple[str, ...]) -> tuple[object, ...]:
    """Tests, failures and seconds of the properties of some modules."""
    begun = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--hypothesis-profile=long"),
            *(f"tests/test_{name}.py" for name in names),
        ],
        cwd=PROJECT_DIR,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    sys.stdout.write(done.stdout)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", _last(done.stdout))}
    failed = counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0)
    if done.returncode not in (0, 1):
        failed = f"pytest ended with {done.returncode}"
    return counts.get("passed", 0) + counts.get("failed", 0), failed, _seconds(begun)


def _last(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


def _seconds(begun: float) -> str:
    return f"{time.monotonic() - begun:,.0f}"
