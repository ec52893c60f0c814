"""Sees in which AR steps the library captured its CUDA graph; the settings say only that it may."""

from typing import Any

from runners.protocol.wire import CAPTURED_AT, NEVER


class GraphWatch:
    """Looks at the library's wrapper of the network after each AR step.

    The wrapper (``flashdreams.infra.cuda_graph``, 0.1.0) runs eagerly at first, and after every
    change of a tensor's shape: a graph that was asked for need not have been captured. It tells
    nobody, hence the look at its own attributes.
    """

    def __init__(self, transformer: Any) -> None:
        """Watch a ``Wan21Transformer``; one without a CUDA graph has nothing to watch."""
        has_graph = transformer.config.use_cuda_graph
        self._wrapper = transformer._network_call if has_graph else None  # noqa: SLF001
        self._graph: Any = None
        self._captured_at: list[int] = []

    def look(self, ar: int) -> None:
        """After AR step ``ar``: note it if it left another graph than the step before."""
        graph = None if self._wrapper is None else self._wrapper._graph  # noqa: SLF001
        if graph is not None and graph is not self._graph:
            self._captured_at.append(ar)
        self._graph = graph

    def facts(self) -> dict[str, str]:
        """AR steps of the captures, for the end of a trial; nothing where there is no graph."""
        if self._wrapper is None:
            return {}
        return {CAPTURED_AT: ", ".join(map(str, self._captured_at)) or NEVER}
