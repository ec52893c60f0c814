"""A terminal of so many columns, for commands in this process."""

import contextlib
import io
import sys

import pytest
from rich.text import Text

from harness.cli import main

COLOURS = ("\x1b[31m", "\x1b[32m", "\x1b[33m")
"""What a terminal is sent before red, green and yellow."""


class Screen(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        """It says so."""
        return True

    @property
    def plain(self) -> str:
        """What was written, without colours."""
        return Text.from_ansi(self.getvalue()).plain


def on_terminal(patch: pytest.MonkeyPatch, columns: int, *words: object) -> Screen:
    """Run ``fdbench`` with its standard output on a terminal of so many columns."""
    screen = look_like_terminal(patch, columns)
    patch.setattr(sys, "argv", ["fdbench", *map(str, words)])
    with contextlib.redirect_stdout(screen), pytest.raises(SystemExit):
        main()
    return screen


def look_like_terminal(patch: pytest.MonkeyPatch, columns: int) -> Screen:
    """A screen, and what the environment of a shell on it says."""
    patch.setenv("COLUMNS", str(columns))
    patch.setenv("TERM", "xterm-256color")
    patch.delenv("FORCE_COLOR", raising=False)
    patch.delenv("TTY_INTERACTIVE", raising=False)
    return Screen()
