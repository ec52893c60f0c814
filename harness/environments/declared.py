"""What ``upstream_envs/<name>/env.toml`` declares."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, ValidationInfo
from pydantic_core import PydanticCustomError

from harness.errors import UsageFault
from harness.plan.known_names import known
from harness.plan.suites import pick
from harness.plan.toml_files import load_toml
from harness.records import Driven, Role, Source

PROJECT_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENTS_DIR = PROJECT_DIR / "upstream_envs"
ROLES = (Role.CANDIDATE.value, Role.REFERENCE.value)
"""What an environment may be for."""
_ATTRIBUTE = re.compile(r"[\w.]+:\w+")


def _of_a_candidate(slugs: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    if slugs and info.data.get("role") == Role.REFERENCE:
        raise PydanticCustomError("slugs", "only an environment with role candidate can have slugs")
    for slug, place in slugs.items():
        if not _ATTRIBUTE.fullmatch(place):
            raise PydanticCustomError(
                "slugs",
                "{slug} is at '{place}', expected module:ATTRIBUTE",
                {"slug": slug, "place": place},
            )
    return slugs


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What an ``env.toml`` declares."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str = ""
    """As people read it; the folder's name where there is none."""
    description: str
    role: Annotated[str, known("role", ROLES)] = Role.REFERENCE.value
    """One of ``ROLES``: a candidate is a FlashDreams, and makes what the sides of a cell share."""
    packages: list[str]
    """Requirements, resolved under the project's constraints."""
    command: list[str]
    """What to run; ``{slug}`` and ``{job}`` are filled in. The first word is in the environment."""
    slugs: Annotated[dict[str, str], AfterValidator(_of_a_candidate)] = field(default_factory=dict)
    """Slug to ``module:ATTRIBUTE`` of its runner's configuration; only a candidate has them."""
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

    @property
    def runner_configs(self) -> str:
        """Its slugs as the library's own variable takes them."""
        return ",".join(f"{slug}={place}" for slug, place in self.slugs.items())


def command_words(declared: Environment, num_ranks: int) -> list[str]:
    """An environment's command, under ``torchrun`` where a trial has several GPUs."""
    if num_ranks == 1:
        return declared.command
    ranks = ["torchrun", f"--nproc_per_node={num_ranks}"]
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
        copied = shlex.join(["cp", "-r", str(ENVIRONMENTS_DIR / name), str(folder)])
        raise UsageFault(
            f"{folder} declares no environment {name!r} (no {name}/env.toml); "
            f"it has {', '.join(declared) or 'none'}\n"
            f"Leave out --envs, or start from a copy: {copied}"
        )
    return declared[pick("env", name, declared)]


def driven(declared: Mapping[str, Environment]) -> dict[str, Driven]:
    """Environment to what its adapter drives."""
    return {
        name: Driven(
            recipes=tuple(one.recipes),
            is_candidate=one.role == Role.CANDIDATE,
            decoders=tuple(one.decoders),
            why_no_decoder=one.why_no_decoder,
        )
        for name, one in declared.items()
    }
