"""fdbench's own clock: CUDA events on a GPU, the monotonic clock on a CPU."""

import time
from collections.abc import Callable
from typing import Any

import torch

Mark = Any
"""A point in time: a ``torch.cuda.Event`` or seconds as a float."""


class Clock:
    """Records points in time cheaply and turns them into milliseconds afterwards."""

    def __init__(self, device: str) -> None:
        """Pick the clock of ``device`` (``cpu`` or ``cuda``)."""
        self._is_cuda = device.startswith("cuda")
        self.mark: Callable[[], Mark] = _cuda_mark if self._is_cuda else time.perf_counter

    def synchronize(self) -> None:
        """Wait until every mark has happened; call once per AR step, outside the timed span."""
        if self._is_cuda:
            torch.cuda.synchronize()

    def elapsed_ms(self, start: Mark, end: Mark) -> float:
        """Milliseconds between two marks; synchronize first."""
        return float(start.elapsed_time(end)) if self._is_cuda else (end - start) * 1e3


def _cuda_mark() -> Mark:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
