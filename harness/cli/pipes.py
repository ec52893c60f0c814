"""A reader that has read enough, such as ``head``: the command ends quietly, its code stands.

click and rich would exit with 1, which for fdbench is a verdict.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from harness.errors import ExitCode

CLOSED: Final = 128 + signal.SIGPIPE
"""What a shell sees of a command that its reader ended before the code was known."""


@contextmanager
def answering(code: ExitCode) -> Iterator[None]:
    """Print an answer whose code is known, whether or not anybody reads all of it; then exit."""
    try:
        yield
    except BrokenPipeError:
        if not hush():
            raise
    except SystemExit as error:
        if not is_of_a_pipe(error):
            raise
        hush()
    click.get_current_context().exit(code)


def is_of_a_pipe(error: SystemExit) -> bool:
    """Whether rich left because nobody reads what it prints."""
    return isinstance(error.__context__, BrokenPipeError)


def hush() -> bool:
    """Print nowhere from now on what nobody reads; whether there is such a stream.

    Python flushes its streams once more at its end, and would complain.
    """
    unread = [number for number in (1, 2) if _has_no_reader(number)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in unread:
        os.dup2(nothing, number)
    os.close(nothing)
    return bool(unread)


def _has_no_reader(number: int) -> bool:
    watched = select.poll()
    watched.register(number, 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))
