"""What differs between families of pipelines: how each is driven, shrunk and mended.

A family registers itself for its kind of transformer; nothing here or in ``matched`` names one.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flashdreams.infra.config import derive_config
from flashdreams.infra.diffusion.model import DiffusionModel, DiffusionModelConfig
from flashdreams.infra.pipeline import StreamInferencePipelineConfig
from torch import Tensor, nn

from runners.protocol import drive, wire

TIMESTEPS = "timesteps"
"""The mended part that every family has."""


class Driver(Protocol):
    """Runs a family's pipeline from a job."""

    def changes(self, job: wire.Job) -> dict[str, Any]:
        """Values of the pipeline's configuration that the job fixes, nested."""

    def open(self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor]) -> Any:
        """The pipeline's cache at the start of a rollout, from encoded inputs by name."""

    def control(self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor], ar: int) -> Any:
        """What steers an AR step, as the library's encoder would give it; None for nothing."""

    def in_force(self, pipeline: Any, cache: Any) -> dict[str, Any]:
        """Settings that only the family can read back, from the built pipeline and its cache."""

    def networks(self, pipeline: Any) -> tuple[nn.Module, ...]:
        """The networks, as they are called."""

    def graphs(self, pipeline: Any) -> tuple[Any, ...]:
        """The library's CUDA-graph wrappers of the networks; nothing where there is no graph."""


class MendedPart(Protocol):
    """Something that the library computes wrongly, and how it is put right from outside."""

    classes: Mapping[type, type]
    """Library class to the mended subclass that is built in its place."""

    def mend(self, model: DiffusionModel[Any]) -> None:
        """Put right in a built model what its classes alone do not."""

    def is_in_force(self, model: DiffusionModel[Any]) -> bool:
        """Whether a built model is mended, by its own objects."""


@dataclass(frozen=True)
class MendedClasses:
    """A part that subclasses put right."""

    classes: Mapping[type, type]

    def mend(self, model: DiffusionModel[Any]) -> None:
        """Nothing is left to do."""

    def is_in_force(self, model: DiffusionModel[Any]) -> bool:
        """Whether no class is built that has a mended one."""
        built = {type(model.scheduler), type(model.transformer)}
        mended = set(self.classes.values())
        return bool(built & mended) and not built & self.classes.keys()


@dataclass(frozen=True, kw_only=True)
class Family:
    """Pipelines with one kind of transformer."""

    parts: Mapping[str, MendedPart]
    """Name to what is mended; each can be left as shipped."""
    smaller: Mapping[type, Mapping[str, Any]]
    """Configuration to the values that are about size, at tiny size."""
    driver: Driver | None = None
    """None where no matched trial is driven yet."""


_families: dict[type, Family] = {}


def register(transformer: type, family: Family) -> None:
    """Let a family stand for a class of transformer configuration."""
    _families[transformer] = family


def registered() -> tuple[Family, ...]:
    """Every family."""
    return tuple(_families.values())


def family_of(transformer: Any) -> Family:
    """The family of a transformer's configuration.

    Raises:
        NotImplementedError: Nobody has registered one.
    """
    for kind in type(transformer).__mro__:
        if kind in _families:
            return _families[kind]
    raise NotImplementedError(
        f"{type(transformer).__name__} belongs to no family: register it as runners/drivers do, "
        "or run with --timesteps as-shipped"
    )


def driver_of(pipeline: StreamInferencePipelineConfig) -> Driver:
    """How a pipeline is driven from a job.

    Raises:
        drive.UnsupportedJobError: It is not.
    """
    driver = family_of(pipeline.diffusion_model.transformer).driver
    if driver is None:
        raise drive.UnsupportedJobError(
            f"{pipeline.name} has no matched trial: its family has no driver; "
            f"run flashdreams-run {pipeline.name} without --job"
        )
    return driver


def left_by(job: wire.Job, config: DiffusionModelConfig) -> tuple[str, ...]:
    """Parts that a job wants as the library ships them.

    Raises:
        drive.UnsupportedJobError: The family has no such part.
    """
    known = [part for part in family_of(config.transformer).parts if part != TIMESTEPS]
    for name in job.as_shipped:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise drive.UnsupportedJobError(
                f"job.as_shipped names {name!r}, which is not mended; "
                + (f"the nearest is {near[0]!r}" if near else "only timesteps are")
            )
    rounded = (TIMESTEPS,) if job.timestep_rounding == "as_shipped" else ()
    return (*rounded, *job.as_shipped)


def mended(config: DiffusionModelConfig, left: Collection[str] = ()) -> DiffusionModelConfig:
    """The configuration with the mended classes of every part but those left.

    Raises:
        NotImplementedError: A class whose timesteps nobody has mended yet.
    """
    changes: dict[str, Any] = {}
    for name, part in family_of(config.transformer).parts.items():
        if name in left:
            continue
        targets = {p: getattr(config, p)._target for p in ("scheduler", "transformer")}  # noqa: SLF001
        missing = [target for target in targets.values() if target not in part.classes]
        if part.classes and (len(missing) == len(targets) or (missing and name == TIMESTEPS)):
            what = "exact timesteps" if name == TIMESTEPS else f"mended {name}"
            raise NotImplementedError(
                f"{missing[0].__name__} has no {what}: add a subclass to its family's parts, or "
                "leave them as shipped"
            )
        for place, target in targets.items():
            if target in part.classes:
                changes[place] = {"_target": part.classes[target]}
    return derive_config(config, **changes)


def as_shipped(model: DiffusionModel[Any]) -> tuple[str, ...]:
    """Parts of a built model that are as the library ships them."""
    parts = family_of(model.config.transformer).parts
    return tuple(name for name, part in parts.items() if not part.is_in_force(model))


def mend(model: DiffusionModel[Any], left: Collection[str] = ()) -> None:
    """Put right in a built model what its classes alone do not."""
    for name, part in family_of(model.config.transformer).parts.items():
        if name not in left:
            part.mend(model)
