"""Times the large kernels of one transformer forward alone: the floor that no runner gets under.

Run as ``python -m runners.protocol.kernel_timing request.json result.json``.

A forward is at least its attention and its matrix products, each as fast as this machine's
libraries run it by itself: what a runner takes beyond their sum is its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from runners.protocol import drive, wire
from runners.protocol.clock import Clock
from runners.protocol.kinds import KINDS
from runners.protocol.kinds.kind import PROMPT, WINDOW, Attention, Product
from runners.protocol.requests import KernelTimeRequest, KernelTimeResult

WARM_UP = 5
BATCHES, CALLS = 7, 12
"""Batches that are timed at a time, and calls in each."""
TIMED_S = 2.0
"""Least time for all kernels together: a GPU takes that long to settle at its clock under load."""
INPUT_SETS = 3
"""Input sets taken in turn, so that a small one is not read from the cache."""


def layer_kernels(
    request: KernelTimeRequest,
) -> dict[str, Callable[[], Callable[[int], Tensor]]]:
    """Kernels of one layer: name to what makes the inputs and returns the call on set ``i``."""
    layer = KINDS[request.network.kind].layer(request.network)
    attentions = {one.name: partial(_attention, request, one) for one in layer.attentions}
    products = {one.name: partial(_linear, request, one) for one in layer.products}
    return {**attentions, **products}


def _linear(request: KernelTimeRequest, product: Product) -> Callable[[int], Tensor]:
    fan_in, fan_out = product.fan_in, product.fan_out
    sets = [
        (_normal(request, request.tokens, fan_in), _normal(request, fan_out, fan_in))
        for _ in range(INPUT_SETS)
    ]
    return lambda i: linear(*sets[i])


def _attention(request: KernelTimeRequest, attention: Attention) -> Callable[[int], Tensor]:
    keys = {WINDOW: request.context, PROMPT: request.network.text_len}[attention.keys]
    heads = (attention.heads, attention.head_dim)
    sets = [
        tuple(
            _normal(request, 1, heads[0], rows, heads[1]) for rows in (request.tokens, keys, keys)
        )
        for _ in range(INPUT_SETS)
    ]
    return lambda i: scaled_dot_product_attention(*sets[i])


def _normal(request: KernelTimeRequest, *shape: int) -> Tensor:
    return torch.randn(shape, device=request.device, dtype=drive.torch_dtype(request.dtype))


def time_ms(
    call: Callable[[int], Tensor], clock: Clock, least_s: float = 0.0
) -> tuple[float, float]:
    """Milliseconds of a call, and seconds that it was timed: no less than ``least_s``.

    The median over batches, so that no gap between two marks counts.
    """
    for i in range(WARM_UP):
        call(i % INPUT_SETS)
    batches_ms: list[float] = []
    while not batches_ms or sum(batches_ms) < least_s * 1e3:
        batches_ms += _batches_ms(call, clock)
    return median(batches_ms) / CALLS, sum(batches_ms) / 1e3


def _batches_ms(call: Callable[[int], Tensor], clock: Clock) -> list[float]:
    """Some batches without a wait between them."""
    marks = [clock.mark()]
    for _ in range(BATCHES):
        for i in range(CALLS):
            call(i % INPUT_SETS)
        marks.append(clock.mark())
    clock.synchronize()
    return list(map(clock.elapsed_ms, marks, marks[1:]))


def main(request_path: str, result_path: str) -> None:
    """Time the kernels of one request."""
    request = wire.read_json(KernelTimeRequest, Path(request_path))
    torch.manual_seed(0)
    drive.choose_kernels(request.attention)
    clock = Clock(request.device)
    kernels = layer_kernels(request)
    least_s = TIMED_S / len(kernels)
    times = {name: time_ms(make(), clock, least_s) for name, make in kernels.items()}
    result = KernelTimeResult(
        kernels_ms={name: ms for name, (ms, _) in times.items()},
        torch=torch.__version__,
        timed_s=sum(timed_s for _, timed_s in times.values()),
    )
    wire.write_json(Path(result_path), result)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
