"""Stands between harness and side: if the harness dies, the side's whole process group dies.

Run as ``python warden.py PARENT COMMAND...``; ends as the command ends, by its signal if by one.
The kernel tells only a direct child of its parent's death, and a side may have children.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1
_OWN = signal.SIGUSR2
"""What the kernel sends when the harness is gone."""
_THE_SIDES = (signal.SIGTERM, signal.SIGABRT, signal.SIGINT, signal.SIGHUP)
"""Signals to the group that are meant for the side."""


def _kill_all(_number: int, _frame: FrameType | None) -> None:
    os.killpg(0, signal.SIGKILL)


def _leave_to_side(_number: int, _frame: FrameType | None) -> None:
    """A handler, because what is ignored would be ignored by the side, too."""


def main() -> None:
    """Start the command and wait for its end."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(_OWN, _kill_all)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(_OWN))
    if os.getppid() != parent:
        _kill_all(0, None)
    for number in _THE_SIDES:
        signal.signal(number, _leave_to_side)
    side = os.fork()
    if not side:
        _become(command)
    _, status = os.waitpid(side, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) in _THE_SIDES:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


if __name__ == "__main__":
    main()
