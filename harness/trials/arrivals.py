"""When each event of a running side arrived: the kernel tells, nobody asks again and again."""

import hashlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from inotify_simple import Event, INotify, flags

from harness.machine.telemetry import Counter
from harness.sandboxes import untrusted
from harness.trials.trial_record import Arrival
from runners.protocol import wire

_APPEARED = flags.CREATE | flags.MOVED_TO
_GREW = flags.MODIFY | flags.DONT_FOLLOW


class Arrivals:
    """Stamps each line of a side's events file while the block runs.

    What the side wrote is data: a file that is no file, or that holds other bytes in the end than
    were seen to arrive, has no arrivals, whatever was stamped.
    """

    def __init__(
        self, folder: Path, most: int, ring: Callable[[], object], counter: Counter | None
    ) -> None:
        """Nothing is watched yet.

        Args:
            folder: Job folder, which the side may write.
            most: Lines of an honest side; one that writes more has no arrivals.
            ring: Called when lines have arrived.
            counter: Reads the GPUs' energy.
        """
        self._folder, self._path = folder, folder / wire.EVENTS_FILE
        self._most, self._ring, self._counter = most, ring, counter
        self._seen, self._num_bytes = hashlib.sha256(), 0
        self._found: list[Arrival] = []
        self._inotify: INotify | None = None
        self._stop = -1
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Arrivals":
        """Begin; where the kernel has no watch left to give, nothing is stamped."""
        with suppress(OSError):
            self._inotify = INotify()
            self._inotify.add_watch(self._folder, _APPEARED)
            self._stop = os.eventfd(0)
            args = (self._inotify, self._stop)
            self._thread = threading.Thread(target=self._follow, args=args, name="arrivals")
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stamp what the kernel has told already, and end."""
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._stop)
        if self._inotify is not None:
            self._inotify.close()

    def found(self) -> tuple[Arrival, ...]:
        """One for each line of the events file, in order; call when nothing runs any more."""
        content = untrusted.read_growing(self._path)
        same = hashlib.sha256(content).digest() == self._seen.digest()
        return tuple(self._found) if same and not self._is_flooded else ()

    @property
    def _is_flooded(self) -> bool:
        return len(self._found) > self._most

    def _follow(self, inotify: INotify, stop: int) -> None:
        poller, is_over = select.poll(), False
        poller.register(inotify, select.POLLIN)
        poller.register(stop, select.POLLIN)
        while not is_over and not self._is_flooded:
            is_over = any(descriptor == stop for descriptor, _ in poller.poll())
            self._heed(inotify, inotify.read(timeout=0))

    def _heed(self, inotify: INotify, events: Iterable[Event]) -> None:
        """Read on, if any of these is about the events file."""
        about = [one for one in events if one.name in ("", wire.EVENTS_FILE)]
        if any(one.name or one.mask & flags.Q_OVERFLOW for one in about):
            with suppress(OSError):  # gone again
                inotify.add_watch(self._path, _GREW)
        if about:
            self._read_on()

    def _read_on(self) -> None:
        new = untrusted.read_growing(self._path, self._num_bytes)
        num_lines = new.count(b"\n")
        # Stamped when it can be read, and before the GPU is asked, which takes a while.
        at_s = time.monotonic()
        self._seen.update(new)
        self._num_bytes += len(new)
        if not num_lines:
            return
        energy_j = self._counter() if self._counter else None
        arrival = Arrival(at_s=at_s, energy_j=energy_j)
        self._found += [arrival] * min(num_lines, self._most + 1)
        self._ring()
