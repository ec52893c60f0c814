"""Everything fdbench refuses to do, with the exit code a script sees.

FdbenchError
├── UsageFault (2)        the request makes no sense: unknown name, bad file, bad flag
├── EnvironmentFault (5)  the machine or an environment cannot do it
├── IntegrityFault (7)    evidence is missing, altered or contradicts itself
│   └── LogFormatError        a log that is not what its parser reads
└── Interrupted (4)       stopped by the user; what was finished is kept

A failed gate is not an error but a result: see ``ExitCode`` and ``harness.judging.gates``.
"""

import shlex
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What ``fdbench`` returns to the shell."""

    PASS = 0
    SLOWER = 1
    USAGE = 2
    PARITY = 3
    INCOMPLETE = 4
    ENVIRONMENT = 5
    INCONCLUSIVE = 6
    INTEGRITY = 7


WORST_FIRST = (
    ExitCode.INTEGRITY,
    ExitCode.ENVIRONMENT,
    ExitCode.PARITY,
    ExitCode.INCOMPLETE,
    ExitCode.SLOWER,
    ExitCode.INCONCLUSIVE,
    ExitCode.PASS,
)
"""Order in which one code hides another; usage errors end the command before there is a result."""


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that stands for several results; no result at all is incomplete."""
    present = set(codes)
    return next((code for code in WORST_FIRST if code in present), ExitCode.INCOMPLETE)


def fdbench_command(*words: object) -> str:
    """A command for a message, quoted so that it can be pasted into a shell."""
    return shlex.join(["fdbench", *map(str, words)])


def in_words(error: Exception) -> str:
    """What an error says, without the number and the path that the system adds."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


class FdbenchError(Exception):
    """Base of every error that fdbench reports in one message; never raised itself."""

    exit_code: ExitCode


class UsageFault(FdbenchError):
    """The request names something unknown, or a file of the user's is not what it should be."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(FdbenchError):
    """The machine, a package index or an environment does not provide what a trial needs."""

    exit_code = ExitCode.ENVIRONMENT


class IntegrityFault(FdbenchError):
    """Evidence is missing, altered or contradicts itself; nothing may be concluded from it."""

    exit_code = ExitCode.INTEGRITY


class LogFormatError(IntegrityFault):
    """A log has no step, lost one, or contradicts itself."""


class Interrupted(FdbenchError):
    """The user stopped the run; finished trials are stored."""

    exit_code = ExitCode.INCOMPLETE
