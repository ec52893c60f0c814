"""Ctrl-C: once to finish the running trial, twice to stop it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the user asked to stop after the running trial."""

    asked = False

    def raise_if_asked(self) -> None:
        """Stop here, where nothing is half done.

        Raises:
            KeyboardInterrupt: The user asked for it.
        """
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def stopping(note: Callable[[str], None]) -> Iterator[Stop]:
    """Take the first Ctrl-C as a wish; the second one, and SIGTERM, interrupt at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def first(_number: int, _frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        note("stopping after this trial; Ctrl-C again to stop it now")

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, first),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.default_int_handler),
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
