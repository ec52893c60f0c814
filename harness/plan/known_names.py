"""Names that a suite takes from the protocol's tables; an unknown one is told the nearest."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from runners.protocol import weight_rules
from runners.protocol.kinds import KINDS
from runners.protocol.named_inputs import INPUTS
from runners.protocol.solvers import SOLVERS


def nearest(name: str, names: Iterable[str], cutoff: float = 0.4) -> str:
    """Names like one that is unknown, or all where none is."""
    listed = sorted(names)
    return ", ".join(difflib.get_close_matches(name, listed, n=3, cutoff=cutoff) or listed)


def known(what: str, names: Iterable[str]) -> AfterValidator:
    """Accepts these names only."""
    sorted_names = sorted(names)

    def check(name: str) -> str:
        if name not in sorted_names:
            raise PydanticCustomError(
                "unknown_name",
                "unknown {what} '{name}'; nearest: {near}",
                {"what": what, "name": name, "near": nearest(name, sorted_names)},
            )
        return name

    return AfterValidator(check)


KindName = Annotated[str, known("kind of network", KINDS)]
SolverName = Annotated[str, known("solver", SOLVERS)]
InputName = Annotated[str, known("input", INPUTS)]

NAMED: dict[str, Any] = {
    "solver": SolverName,
    "input_names": tuple[InputName, ...],
    "weights_rule": Annotated[str, known("rule of weights", weight_rules.RULES)],
    "weights_from": Annotated[str, known("source of weights", weight_rules.SOURCES)],
}
"""Job field to the type of its names."""
