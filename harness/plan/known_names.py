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

MOST = 3
"""Suggestions for an unknown name: more is a list, which nobody reads in a message."""


def nearest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """What to say of an unknown name: the nearest that are known, whatever their case.

    Args:
        name: As it was typed.
        names: Those that are known.
        otherwise: Said where none is like it and there are too many to name.
    """
    exact = {known.lower(): known for known in sorted(names)}
    typed = name.lower()
    close = difflib.get_close_matches(typed, exact, n=MOST, cutoff=0.5)
    close = close or [known for known in exact if typed and typed in known][:MOST]
    if close:
        return f"nearest: {', '.join(exact[known] for known in close)}"
    if len(exact) <= MOST or not otherwise:
        return f"known: {', '.join(exact.values())}"
    return otherwise


def known(what: str, names: Iterable[str]) -> AfterValidator:
    """Accepts these names only."""
    sorted_names = sorted(names)

    def check(name: str) -> str:
        if name not in sorted_names:
            raise PydanticCustomError(
                "unknown_name",
                "unknown {what} '{name}'; {near}",
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
