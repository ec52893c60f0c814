"""Slugs whose code an environment pins: ``flashdreams-run`` finds it where that is built.

The library's registry calls each entry point at every start, for ``--help`` and for other slugs
too. Therefore an integration is imported only for its own slug, and of a missing one the user is
told: raised, it would be a traceback in the log.
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


import importlib
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchSchedulerConfig
from flashdreams.infra.diffusion.transformer.base import TransformerConfig
from flashdreams.infra.pipeline import StreamInferencePipelineConfig
from flashdreams.infra.runner import RunnerConfig

DECLARED = Path(__file__).resolve().parents[1] / "upstream_envs"
BAD_USAGE = 2
"""Exit code of a slug whose code is not here."""


class NotBuiltError(Exception):
    """The environment that pins a slug's code is not built or not complete; says what to do."""


@dataclass(frozen=True)
class PinnedRunner:
    """One slug; called without arguments it gives its configuration, as the registry wants it."""

    slug: str

    def __call__(self) -> RunnerConfig:
        """The integration's own configuration for its own slug, else a line for ``--help``."""
        if next((word for word in sys.argv[1:] if not word.startswith("-")), "") != self.slug:
            return _line(self.slug)
        try:
            return self.load()
        except NotBuiltError as error:
            if os.environ.get("LOCAL_RANK", "0") == "0":
                print(error, file=sys.stderr)  # noqa: T201  it is a command's answer
            raise SystemExit(BAD_USAGE) from None

    def load(self) -> RunnerConfig:
        """The integration's own configuration.

        Raises:
            NotBuiltError: Its code is not here.
        """
        name, declared = _pinned_by(self.slug)
        source, build = declared["source"], f"fdbench env build {name}"
        staged = _sources() / f"{name}-{source['tree_sha256'][:12]}"
        if not staged.is_dir():
            raise NotBuiltError(
                f"{self.slug}: its code is that of the environment {name}, which is not built here "
                f"(no {staged}). Type: {build}"
            )
        roots = [str(staged / root) for root in source["roots"]]
        sys.path += [root for root in roots if root not in sys.path]
        sys.dont_write_bytecode = True  # the source stays as it was verified
        module, attribute = declared["slugs"][self.slug].split(":")
        try:
            config: RunnerConfig = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise NotBuiltError(
                f"{self.slug}: its code needs {error.name}, which is not installed beside "
                f"FlashDreams. Type: pip install {error.name}"
            ) from error
        return config


def _sources() -> Path:
    """Where fdbench keeps the sources that environments pin."""
    cache = os.environ.get("FDBENCH_CACHE") or Path.home() / ".cache" / "fdbench"
    return Path(cache).resolve() / "sources"


def _pinned_by(slug: str) -> tuple[str, dict[str, Any]]:
    """Name and declaration of the environment that pins a slug's code."""
    for path in sorted(DECLARED.glob("*/env.toml")):
        declared = tomllib.loads(path.read_text("utf-8"))
        if "source" in declared and slug in declared.get("slugs", {}):
            return path.parent.name, declared
    raise NotBuiltError(f"{slug}: no environment in {DECLARED} pins its code")


def _line(slug: str) -> RunnerConfig:
    """What stands for a slug that is not the one to run: a name and nothing to build."""
    return RunnerConfig(
        runner_name=slug,
        description="FlashDreams' own integration, from the environment that pins it.",
        pipeline=StreamInferencePipelineConfig(
            name=slug,
            diffusion_model=DiffusionModelConfig(
                transformer=TransformerConfig(), scheduler=FlowMatchSchedulerConfig()
            ),
        ),
    )


HY_WORLDPLAY = PinnedRunner("hy-worldplay-wan-i2v-5b")
OMNIDREAMS = PinnedRunner("omnidreams-sv-2steps-chunk2-loc6-lightvae-lighttae")
OMNIDREAMS_PERF = PinnedRunner("omnidreams-sv-2steps-chunk2-loc6-lightvae-lighttae-perf")
