"""Faster loading: no random weights where a checkpoint replaces every one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import init

_FILLERS = [name for name in vars(init) if name.endswith("_") and not name.startswith("_")]
"""PyTorch's in-place initialisers, such as ``kaiming_uniform_``."""


@contextmanager
def no_random_weights() -> Iterator[None]:
    """Leave parameters unfilled inside the block; only for modules that a strict load fills after.

    Drawing 1.4 billion random numbers on the host takes longer than everything else of a start.
    """
    kept = {name: getattr(init, name) for name in _FILLERS}
    vars(init).update(dict.fromkeys(_FILLERS, _untouched))
    try:
        yield
    finally:
        vars(init).update(kept)


def _untouched(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor
