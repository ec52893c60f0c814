"""Sides of a cell, and what of a job a suite, a cell or a side may set."""

import dataclasses
import json
import re
import tomllib
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, PositiveInt, TypeAdapter, ValidationError

from harness.errors import UsageFault
from harness.plan.known_names import NAMED, nearest
from harness.records import Side
from runners.protocol import weight_rules
from runners.protocol.solvers import SOLVERS
from runners.protocol.wire import Job

OVERRIDES = {item.name for item in dataclasses.fields(Job)} - {
    "protocol",
    "nonce",
    "slug",
    "size",
    "network",
    "weights",
    "noise",
    "text",
    "decoder_weights",
    "inputs",
    "device",
}
"""Job fields that a suite, a cell or a side may set."""

_COUNTS = {
    "ar_steps",
    "denoising_steps",
    "len_t",
    "window_t",
    "latent_height",
    "latent_width",
    "gpus",
    "networks",
    "ranks",
}
"""Job fields of which there is at least one."""

_SIDE = re.compile(r"(?P<environment>[\w-]+)(?:\{(?P<overrides>.*)\})?")


def parse_side(text: str, where: str) -> Side:
    """Read a side such as ``flashdreams{dtype=float32,denoising_timesteps=[1000,500]}``.

    Raises:
        UsageFault: It is not of that form, or overrides something that is no job field.
    """
    match = _SIDE.fullmatch(text)
    if match is None:
        raise UsageFault(f"{where}: {text!r} is not of the form environment{{key=value,...}}")
    overrides = []
    for item in re.split(r",(?![^\[]*\])", match["overrides"] or ""):
        key, equals, value = item.partition("=")
        if item and not equals:
            raise UsageFault(f"{where}: {item!r} in {text!r} has no value")
        if item:
            overrides.append((key.strip(), _parse_value(value.strip())))
    check_overrides(dict(overrides), where)
    return Side(environment=match["environment"], overrides=tuple(overrides))


def check_overrides(overrides: dict[str, Any], where: str) -> None:
    """Refuse keys that are no job field a suite may set, and values that are none of the field.

    Raises:
        UsageFault: There is one; the message has the nearest names, or what is wrong.
    """
    for key, value in overrides.items():
        if key not in OVERRIDES:
            near = nearest(key, OVERRIDES, "see: docs/FORMAT.md, Job")
            raise UsageFault(f"{where}: cannot set {key!r}; {near}")
        _check_value(key, value, where)


@cache
def _adapter_of(key: str) -> TypeAdapter[Any]:
    """Validator of a job field; making one is slow."""
    wanted = PositiveInt if key in _COUNTS else NAMED.get(key, get_type_hints(Job)[key])
    return TypeAdapter(wanted, config=ConfigDict(allow_inf_nan=False))


def _check_value(key: str, value: Any, where: str) -> None:
    try:
        _adapter_of(key).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        if isinstance(value, str) and value.startswith("["):
            said += '; text in a list takes double quotes: ["name"]'
        raise UsageFault(f"{where}: {key} = {value!r}: {said}") from error


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def impossible(job: Job) -> str:
    """What no side can do in a job whose values are each allowed; empty if nothing."""
    least, steps = SOLVERS[job.solver].least_steps, range(job.ar_steps)
    strange = [ar for ar in (*job.capture_steps, *job.profile_steps) if ar not in steps]
    reasons = {
        weight_rules.fault(job.network, job.weights_rule, job.weights_gains): True,
        "as_shipped names timesteps: set timestep_rounding=as_shipped for them": (
            "timesteps" in job.as_shipped
        ),
        f"denoising_steps = {job.denoising_steps}: {job.solver} takes at least {least}": (
            job.denoising_steps < least
        ),
        f"context_noise = {job.context_noise}: a timestep is in [0, 1000]": (
            not 0 <= job.context_noise <= 1000
        ),
        f"weights_gains = {list(job.weights_gains)}: a gain is above 0": (
            any(gain <= 0 for gain in job.weights_gains)
        ),
        f"input_names = {list(job.input_names)}: one is named twice": (
            len(set(job.input_names)) < len(job.input_names)
        ),
        f"given_frames = {job.given_frames} and no input gives them: set input_names": (
            bool(job.given_frames) and not job.input_names
        ),
        f"given_frames = {job.given_frames}: of {job.ar_steps * job.len_t} 1 must be generated": (
            not 0 <= job.given_frames < job.ar_steps * job.len_t
        ),
        f"from_ar = {job.from_ar} does nothing without position_offset": (
            bool(job.from_ar) and not job.position_offset
        ),
        f"from_ar = {job.from_ar}: the last AR step is {job.ar_steps - 1}": (
            not 0 <= job.from_ar < job.ar_steps
        ),
        f"capture_steps, profile_steps: there is no AR step {strange[:1]}": bool(strange),
        f"ranks = {job.ranks} on a CPU: no side can split its work there": (
            job.device == "cpu" and job.ranks > 1
        ),
        f"ranks = {job.ranks} on {job.gpus} GPUs: each rank needs its own GPU": (
            job.device == "cuda" and job.ranks != job.gpus
        ),
    }
    return next((reason for reason, holds in reasons.items() if reason and holds), "")
