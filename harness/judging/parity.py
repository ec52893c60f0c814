"""Distance between two trials' outputs, AR step by AR step."""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from harness.errors import IntegrityFault
from harness.records import ParityRow
from runners.protocol.wire import FRAMES, LATENTS, Capture, sha256_file

Array = NDArray[np.float64]


def relative_l2(candidate: Array, reference: Array) -> float:
    """Norm of the difference over the norm of the reference."""
    return float(np.linalg.norm(candidate - reference) / np.linalg.norm(reference))


def max_abs(candidate: Array, reference: Array) -> float:
    """Largest absolute difference."""
    return float(np.abs(candidate - reference).max())


def cosine(candidate: Array, reference: Array) -> float:
    """Cosine similarity of the flattened tensors."""
    norms = np.linalg.norm(candidate) * np.linalg.norm(reference)
    return float(np.vdot(candidate, reference) / norms)


METRICS: Final[Mapping[str, Callable[[Array, Array], float]]] = {
    "relative_l2": relative_l2,
    "max_abs": max_abs,
    "cosine": cosine,
}
"""Columns of the parity table; limits apply to ``relative_l2``."""

_ORDER: Final = {LATENTS: 0, FRAMES: 1}
"""What sides capture, in the order it is computed."""
_THREADS: Final = min(8, os.cpu_count() or 1)
"""AR steps compared at once; one of full-size frames needs half a GiB."""


def compare_captures(
    folders: tuple[Path, Path],
    captures: tuple[tuple[Capture, ...], tuple[Capture, ...]],
    labels: dict[str, Any],
) -> list[ParityRow]:
    """One row per AR step and kind of output that both trials captured, latents before frames.

    Args:
        folders: Where the candidate's and the reference's captures are.
        captures: What each trial's events say it wrote.
        labels: The other columns of each row.

    Raises:
        IntegrityFault: A captured file is missing, altered or not what its event says.
    """
    by_key = [{(c.ar, _ORDER[c.name]): c for c in side if c.name in _ORDER} for side in captures]
    pairs = [
        (by_key[0][key], by_key[1][key]) for key in sorted(by_key[0].keys() & by_key[1].keys())
    ]
    # Frames take seconds an AR step, most of them in NumPy, which lets other threads run.
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda pair: _compare(folders, pair, labels), pairs))


def _compare(
    folders: tuple[Path, Path], pair: tuple[Capture, Capture], labels: dict[str, Any]
) -> ParityRow:
    ar, capture = pair[0].ar, pair[0].name
    left, right = (_load(folder / c.path, c) for folder, c in zip(folders, pair, strict=True))
    if left.shape != right.shape:
        raise IntegrityFault(f"AR {ar}: captured shapes differ: {left.shape} and {right.shape}")
    with np.errstate(all="ignore"):  # a collapsed output gives NaN, which no limit lets pass
        values: dict[str, Any] = {name: metric(left, right) for name, metric in METRICS.items()}
        values |= {"candidate_std": float(left.std()), "reference_std": float(right.std())}
        if capture == FRAMES:
            values |= _worst_frame(ar, left, right)
    return ParityRow(ar=ar, capture=capture, **values, **labels)


def _worst_frame(ar: int, candidate: Array, reference: Array) -> dict[str, Any]:
    from harness.judging import videos  # noqa: PLC0415  takes a second to import, and few runs have frames

    if not videos.are_frames(reference):
        raise IntegrityFault(f"AR {ar}: captured frames have shape {reference.shape}, no video's")
    return videos.worst_frame(candidate, reference)


def within(error: float, floor: float, limit: float) -> bool:
    """Whether an error is at most ``limit`` times the noise floor; NaN and one of zero are not."""
    return math.isfinite(error) and math.isfinite(floor) and floor > 0 and error <= limit * floor


def _load(path: Path, capture: Capture) -> Array:
    if Path(capture.path).name != capture.path or not path.is_file():
        raise IntegrityFault(f"AR {capture.ar}: the captured file {capture.path!r} is not there")
    if sha256_file(path) != capture.sha256:
        raise IntegrityFault(f"AR {capture.ar}: {path.name} is not what the trial wrote")
    try:
        tensor = load_file(path)[capture.name]
    except (SafetensorError, KeyError) as error:
        raise IntegrityFault(f"AR {capture.ar}: {path.name} holds no {capture.name}") from error
    if tensor.shape != capture.shape or not tensor.size:
        raise IntegrityFault(f"AR {capture.ar}: {path.name} has shape {tensor.shape}")
    return tensor.astype(np.float64)
