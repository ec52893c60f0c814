"""Runs the installed ``fdbench`` command."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FDBENCH = Path(sys.executable).with_name("fdbench")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ran to its end."""

    code: int
    text: str
    """Standard output, then standard error."""
    folder: Path
    """Folder of the run, whether or not the command made it."""


def fdbench(*words: object, folder: Path = Path(), **variables: str) -> Finished:
    """Run the installed ``fdbench`` as a user would, in a pipe."""
    done = subprocess.run(
        [str(FDBENCH), *map(str, words)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(code=done.returncode, text=done.stdout + done.stderr, folder=folder)
