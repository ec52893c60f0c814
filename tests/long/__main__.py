"""Runs what takes hours, or one part of it: ``python -m tests.long [NAME [FILE ...]]``."""

import sys

from tests.long import coverage, fuzz, mutants, noise, page

TITLES = {
    "coverage": "Simulation: the interval of a speed-up",
    "noise": "Simulation: the parity gate against noise",
    "fuzz": "Fuzz",
    "mutants": mutants.TITLE,
}
FOUND = {
    "coverage": coverage.found,
    "noise": noise.found,
    "fuzz": fuzz.found,
    "mutants": mutants.found,
}


def main(name: str = "", *files: str) -> None:
    """Run one check or all, and write what it found so far."""
    for one in (name,) if name else FOUND:
        for text in FOUND[one](*files):
            page.write(TITLES, one, text)
            sys.stdout.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
