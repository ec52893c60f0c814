"""Are two trials comparable? Settings in force, field by field; pure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from runners.protocol.weight_rules import FROM_FILE
from runners.protocol.wire import Job, Settings

FLOAT_TOLERANCE = 1e-6
"""Relative; tables computed in float32 and in float64 agree to 6e-8."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One setting in which two trials differ."""

    setting: str
    candidate: Any
    reference: Any
    reason: str
    """Why it is expected; empty if it is not, which invalidates the pair."""


def compare(
    candidate: Settings, reference: Settings, expected: Mapping[str, str]
) -> tuple[Difference, ...]:
    """Every setting in which two sides differ.

    Args:
        candidate: In force on the candidate's side.
        reference: In force on the other.
        expected: Setting to the reason why it may differ.
    """
    differences = []
    for item in fields(Settings):
        left, right = getattr(candidate, item.name), getattr(reference, item.name)
        if not _equal(left, right):
            reason = expected.get(item.name, "")
            differences.append(
                Difference(setting=item.name, candidate=left, reference=right, reason=reason)
            )
    return tuple(differences)


def disobeyed(
    job: Job, settings: Settings, ignored: Collection[str] = ()
) -> tuple[Difference, ...]:
    """Settings in force that are not what the job asked for."""
    wanted = {
        "weights_sha256": job.weights.sha256,
        "noise_sha256": job.noise.sha256,
        "text_sha256": job.text.sha256,
        "decoder_weights_sha256": job.decoder_weights.sha256 if job.decoder_weights else "none",
        "inputs_sha256": job.inputs.sha256 if job.inputs else "none",
        "latent_shape": (job.len_t, job.network.out_dim, job.latent_height, job.latent_width),
    }
    names = {item.name for item in fields(Settings)} & {item.name for item in fields(Job)}
    wanted |= {name: getattr(job, name) for name in names - set(ignored)}
    if not job.threads:
        wanted.pop("threads", None)
    if job.weights_from != FROM_FILE:  # each side makes them: only the sides can be compared
        wanted.pop("weights_sha256")
    return tuple(
        Difference(setting=name, candidate=getattr(settings, name), reference=value, reason="")
        for name, value in wanted.items()
        if not _equal(getattr(settings, name), value)
    )


def describe(difference: Difference) -> str:
    """A difference in one phrase."""
    left, right = _short(difference.candidate), _short(difference.reference)
    return f"{difference.setting}: {left} against {right}"


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return math.isclose(left, right, rel_tol=FLOAT_TOLERANCE)
    return bool(left == right)


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) < 24 else text[:12] + "…"
