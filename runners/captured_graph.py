"""Sees in which AR steps the library captured its CUDA graph; the settings say only that it may."""

from collections.abc import Iterable
from typing import Any

from flashdreams.infra.cuda_graph import CUDAGraphWrapper

from runners.protocol.wire import CAPTURED_AT, NEVER


class GraphWatch:
    """Looks at the library's wrappers of the networks after each AR step.

    The wrapper (``flashdreams.infra.cuda_graph``, 0.1.0) runs eagerly at first, and after every
    change of a tensor's shape: a graph that was asked for need not have been captured. It tells
    nobody, hence the look at its own attributes.
    """

    def __init__(self, calls: Iterable[Any]) -> None:
        """Watch how the networks are called; what is no graph wrapper is nothing to watch."""
        self._wrappers = [one for one in calls if isinstance(one, CUDAGraphWrapper)]
        self._graphs: list[Any] = [None] * len(self._wrappers)
        self._captured_at: list[int] = []

    def look(self, ar: int) -> None:
        """After AR step ``ar``: note it if it left another graph than the step before."""
        graphs = [wrapper._graph for wrapper in self._wrappers]  # noqa: SLF001
        pairs = zip(graphs, self._graphs, strict=True)
        if any(graph is not None and graph is not before for graph, before in pairs):
            self._captured_at.append(ar)
        self._graphs = graphs

    def facts(self) -> dict[str, str]:
        """AR steps of the captures, for the end of a trial; nothing where there is no graph."""
        if not self._wrappers:
            return {}
        return {CAPTURED_AT: ", ".join(map(str, self._captured_at)) or NEVER}
