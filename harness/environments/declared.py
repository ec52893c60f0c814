"""What ``upstream_envs/<name>/env.toml`` declares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict

from harness.errors import UsageFault
from harness.plan.suites import load_toml, pick
from harness.records import Driven, Source

PROJECT_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENTS_DIR = PROJECT_DIR / "upstream_envs"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an ``env.toml`` declares."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    description: str
    packages: list[str]
    """Requirements, resolved under the project's constraints."""
    command: list[str]
    """What to run; ``{slug}`` and ``{job}`` are filled in. The first word is in the environment."""
    recipes: list[str] = field(default_factory=list)
    """FlashDreams slugs that its adapter drives."""
    decoders: list[str] = field(default_factory=list)
    """Decoders of latents that its adapter drives for them; latents alone it always does."""
    why_no_decoder: str = ""
    """Why it drives no other."""
    no_deps: list[str] = field(default_factory=list)
    """Requirements installed without their declared dependencies."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of the process."""
    reason_no_deps: str = ""
    """Why declared dependencies are left out; kept with every trial."""
    source: Source | None = None
    """Upstream code that is no package."""


def command_words(declared: Environment, gpus: int) -> list[str]:
    """An environment's command, under ``torchrun`` where a trial has several GPUs."""
    if gpus == 1:
        return declared.command
    ranks = ["torchrun", f"--nproc_per_node={gpus}"]
    if declared.command[0] == "python":
        return [*ranks, *declared.command[1:]]
    return [*ranks, "--no-python", *declared.command]


def load_environments(folder: Path = ENVIRONMENTS_DIR) -> dict[str, Environment]:
    """Every declared environment by name.

    Raises:
        UsageFault: An ``env.toml`` is not what it should be.
    """
    return {
        path.parent.name: load_toml(Environment, path) for path in sorted(folder.glob("*/env.toml"))
    }


def declared_in(folder: Path, name: str) -> Environment:
    """What a folder declares under a name.

    Raises:
        UsageFault: Nothing; the message has what it declares, and how to do without it.
    """
    declared = load_environments(folder)
    if name not in declared and folder != ENVIRONMENTS_DIR:
        raise UsageFault(
            f"{folder} declares no environment {name!r}: no {name}/env.toml in it; "
            f"it has {', '.join(declared) or 'none'}\n"
            f"Copy one to start from: cp -r {ENVIRONMENTS_DIR / name} {folder}; or leave --envs out"
        )
    return declared[pick("env", name, declared)]


def driven(declared: Mapping[str, Environment]) -> dict[str, Driven]:
    """Environment to what its adapter drives."""
    return {
        name: Driven(
            recipes=tuple(one.recipes),
            decoders=tuple(one.decoders),
            why_no_decoder=one.why_no_decoder,
        )
        for name, one in declared.items()
    }
