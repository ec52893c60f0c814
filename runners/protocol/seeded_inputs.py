"""Inputs that both sides share byte for byte: noise bank, prompt embeddings, weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from runners.protocol import solvers, wire


class InputMismatchError(RuntimeError):
    """A shared input is not the bytes or the shape that the job promises."""


def load_artifact(artifact: wire.Artifact, device: str = "cpu") -> dict[str, Tensor]:
    """Load a safetensors file after hashing it.

    Args:
        artifact: The file and its digest.
        device: Where the tensors go, straight from the file.

    Raises:
        InputMismatchError: The bytes are not those of the job.
    """
    found = wire.sha256_once(Path(artifact.path))
    if found != artifact.sha256:
        raise InputMismatchError(f"{artifact.path}: sha256 {found}, the job says {artifact.sha256}")
    return load_file(artifact.path, device)


_opened: set[str] = set()
"""Digests of the named inputs that this process has read."""


def load_inputs(job: wire.Job, device: str = "cpu") -> dict[str, Tensor]:
    """The job's named inputs by name; none where it has none."""
    if job.inputs is None:
        return {}
    _opened.add(job.inputs.sha256)
    return load_artifact(job.inputs, device)


def inputs_in_force(job: wire.Job) -> str:
    """Digest of the named inputs; ``none`` where this side has not read them."""
    return job.inputs.sha256 if job.inputs and job.inputs.sha256 in _opened else "none"


class NoiseBank:
    """Noise by (AR step, denoising step), the same tensor on both sides and on every device.

    Step 0 is the initial noise of an AR step, step k the noise mixed in before denoising step k.
    """

    def __init__(self, job: wire.Job, device: str, dtype: torch.dtype) -> None:
        """Load the whole bank onto the device, so that no copy falls into a timed span."""
        tensors = load_artifact(job.noise)
        self._tensors = {key: value.to(device, dtype) for key, value in tensors.items()}
        self._job = job
        self.draws = 0

    def tensor(self, ar: int, step: int) -> Tensor:
        """A fresh copy [T, C, H, W] of one noise tensor.

        Raises:
            InputMismatchError: A side draws more often than the recipe does.
        """
        key = noise_key(ar, step)
        if key not in self._tensors:
            raise InputMismatchError(f"the noise bank has no {key}: this side draws too often")
        # What is drawn for frames that are given has no effect, and one side draws it alone.
        self.draws += not solvers.is_given(self._job, ar)
        return self._tensors[key].clone()


def noise_key(ar: int, step: int) -> str:
    """Name of one noise tensor in the bank's file."""
    return f"ar{ar}.step{step}"


class BankedTorch:
    """Takes the place of the name ``torch`` in one module, so that its random draws hit the bank.

    Only the draws that the driven loops make are served; everything else falls through.
    """

    def __init__(self, draw: Callable[[tuple[int, ...]], Tensor]) -> None:
        """``draw(shape)`` returns the next noise tensor in the shape the module asked for."""
        self._draw = draw

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, *size: Any, **_: object) -> Tensor:
        """Stand-in for ``torch.randn``."""
        return self._draw(tuple(size[0] if len(size) == 1 else size))

    def randn_like(self, like: Tensor, **_: object) -> Tensor:
        """Stand-in for ``torch.randn_like``."""
        return self._draw(tuple(like.shape))

    def empty_like(self, like: Tensor) -> "_Unfilled":
        """Stand-in for ``torch.empty_like``, good only for the ``normal_`` that follows."""
        return _Unfilled(self._draw, tuple(like.shape))


class _Unfilled:
    def __init__(self, draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> None:
        self._draw, self._shape = draw, shape

    def normal_(self, **_: object) -> Tensor:
        return self._draw(self._shape)


def check_shape(noise: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``noise`` if it has the shape a loop asked for.

    Raises:
        InputMismatchError: It has another: the loop's draws changed.
    """
    if tuple(noise.shape) != shape:
        raise InputMismatchError(f"a loop draws {shape}, the noise bank has {tuple(noise.shape)}")
    return noise
