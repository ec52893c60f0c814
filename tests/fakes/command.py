"""The ``fdbench`` command in this process, through its real entry point."""

import contextlib
import io
import sys
from dataclasses import dataclass

from harness.cli import main


@dataclass(frozen=True)
class Finished:
    """What a shell would see."""

    code: int
    out: str
    err: str


def fdbench(*arguments):
    """Run ``fdbench`` with arguments; a traceback of the command is one of the test."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["fdbench", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    finally:
        sys.argv = before
    return Finished(int(code), out.getvalue(), err.getvalue())
