"""Seeded weights of a network: made once into a file, or by each process on its own device.

All values are representable in bfloat16 and made in it, so that a side in any dtype starts from the
same numbers and a precision floor measures arithmetic, not rounded inputs.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from runners.protocol import weight_rules, wire
from runners.protocol.kinds import KINDS
from runners.protocol.seeded_inputs import InputMismatchError, load_artifact
from runners.protocol.weight_rules import FLAT, FROM_FILE

Made = TypeVar("Made")

CHUNK = 1 << 24
"""Values whose checksum is taken at once: 128 MiB of 64-bit numbers, beside the weights."""
_ODD = (0x1E3779B97F4A7C15, 0x2545F4914F6CDD1D)

_digests: dict[str, str] = {}
"""Of the weights that this process made, by what they were made from."""


def make_weights(
    network: wire.Network,
    seed: int,
    rule: str = FLAT,
    gains: tuple[float, ...] = (),
    networks: int = 1,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Seeded bfloat16 weights by parameter name; of several networks with ``0.``, ``1.`` before it.

    Every parameter has its own generator, so the values depend on neither order nor subset.
    Matrices have variance 1 / fan-in, which keeps the residual stream finite. A GPU draws other
    values than a CPU.
    """
    prefixes = [f"{index}." for index in range(networks)] if networks > 1 else [""]
    makers = {
        prefix + name: _maker(
            prefix + name, shape, seed, weight_rules.gain(network, rule, gains, name), device
        )
        for prefix in prefixes
        for name, shape in KINDS[network.kind].shapes(network).items()
    }
    if device == "cpu":
        return in_threads(makers)
    return {name: make() for name, make in makers.items()}


def _maker(
    name: str, shape: tuple[int, ...], seed: int, gain: float, device: str
) -> Callable[[], Tensor]:
    def make() -> Tensor:
        values = normal(shape, f"weights/{seed}/{name}", device)
        if name.endswith(".bias"):
            values *= 0.01
        elif len(shape) == 1 or name.endswith(".gamma"):  # a norm
            values.mul_(0.02).add_(1.0)
        elif name.endswith("modulation"):
            values *= shape[-1] ** -0.5
        else:
            values *= torch.Size(shape[1:]).numel() ** -0.5
        if gain != 1.0:
            values *= gain
        return values.to(torch.bfloat16)

    return make


def parameter(name: str, shape: tuple[int, ...], seed: int) -> Callable[[], Tensor]:
    """What makes one parameter on the CPU; its name decides scale and seed."""
    return _maker(name, shape, seed, 1.0, "cpu")


def in_threads(makers: dict[str, Callable[[], Made]]) -> dict[str, Made]:
    """Call every maker, as many at once as there are cores: random numbers leave the GIL."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda make: make(), makers.values())
        return dict(zip(makers, made, strict=True))


def normal(shape: tuple[int, ...], label: str, device: str = "cpu") -> Tensor:
    """Standard normal values from a generator of the device, seeded by a label."""
    generator = torch.Generator(device).manual_seed(seed_of(label))
    return torch.randn(shape, generator=generator, device=device)


def seed_of(label: str) -> int:
    """Seed of a generator from what it is for."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little", signed=True)


def load_weights(job: wire.Job, device: str) -> dict[str, Tensor]:
    """The job's weights on a device, from their file or made there.

    Raises:
        InputMismatchError: The file is not that of the job, or another rank made other weights.
    """
    if job.weights_from == FROM_FILE:
        return load_artifact(job.weights, device)
    made = make_weights(
        job.network, job.weights_seed, job.weights_rule, job.weights_gains, job.networks, device
    )
    _digests[_recipe(job)] = _agreed(digest(made))
    return made


def sha256_in_force(job: wire.Job) -> str:
    """Digest of the weights this process loaded.

    Raises:
        InputMismatchError: They are made on the device, and were not made yet.
    """
    if job.weights_from == FROM_FILE:
        return wire.sha256_once(job.weights.path)
    if _recipe(job) not in _digests:
        raise InputMismatchError("the job's weights are made on the device, and nobody made them")
    return _digests[_recipe(job)]


def _recipe(job: wire.Job) -> str:
    drawn = (job.weights_seed, job.weights_rule, job.weights_gains)
    return repr((job.network, job.networks, *drawn, job.device))


def digest(weights: dict[str, Tensor]) -> str:
    """Digest of weights where they lie, without a copy to the host.

    Two position-dependent checksums a tensor, which say that two processes made the same values;
    they are no proof against somebody who wants another tensor to have them.
    """
    whole = hashlib.sha256()
    for name, values in sorted(weights.items()):
        sums = [_checksum(values, odd) for odd in _ODD]
        whole.update(repr((name, tuple(values.shape), str(values.dtype), sums)).encode())
    return whole.hexdigest()


def _checksum(values: Tensor, odd: int) -> int:
    bits = values.contiguous().view(torch.int16).flatten()
    total = torch.zeros((), dtype=torch.int64, device=values.device)
    for start in range(0, bits.numel(), CHUNK):
        part = bits[start : start + CHUNK].to(torch.int64)
        places = torch.arange(start + 1, start + 1 + part.numel(), device=values.device)
        mixed = (part + 0x10001) * (places * odd)  # 64-bit numbers wrap
        total += ((mixed ^ (mixed >> 29)) * odd).sum()
    return int(total)


def _agreed(own: str) -> str:
    """This rank's digest, if every rank has the same.

    Raises:
        InputMismatchError: One has another.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return own
    every: list[str] = [""] * distributed.get_world_size()
    distributed.all_gather_object(every, own)
    if len(set(every)) > 1:
        listed = ", ".join(f"rank {rank} {one[:12]}" for rank, one in enumerate(every))
        raise InputMismatchError(f"ranks made different weights: {listed}")
    return own
