"""An integration of FlashDreams as it is shipped, driven by a job as this project's runners are.

Run as ``python -m runners.shipped slug job.json`` with the integrations' pinned source in
``FDBENCH_SOURCE`` and its import roots on the path. The pipeline's configuration is theirs; their
own loop, which reads prompts and writes videos, is not run.
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


import importlib
import importlib.util
import os
import pkgutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType

from flashdreams.infra.runner import RunnerConfig

from runners import drivers, matched
from runners.video import StreamingRunnerConfig, VideoRunnerConfig

GROUP = "flashdreams.runner_configs"
"""Entry points by which an integration registers its slugs."""
MEDIA = ("cv2", "mediapy")
"""What their loops read images and write videos with; a job needs neither."""


class UnknownSlugError(LookupError):
    """No integration of the pinned source registers this slug."""


def places(source: Path) -> dict[str, str]:
    """Slug to ``module:ATTRIBUTE`` of every integration, as its own ``pyproject.toml`` says."""
    found: dict[str, str] = {}
    for path in sorted(source.glob("integrations/*/pyproject.toml")):
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        found |= project.get("entry-points", {}).get(GROUP, {})
    return found


def published(slug: str, source: Path) -> RunnerConfig:
    """An integration's own configuration of a slug.

    Raises:
        UnknownSlugError: No integration has it.
    """
    known = places(source)
    if slug not in known:
        raise UnknownSlugError(f"{source} registers no {slug!r}; it has {', '.join(known)}")
    module, attribute = known[slug].split(":")
    config: RunnerConfig = getattr(importlib.import_module(module), attribute)
    return config


def stand_in(names: tuple[str, ...]) -> list[str]:
    """Put empty modules in the place of those that are not installed; returns which."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    sys.modules.update({name: ModuleType(name) for name in absent})
    return absent


def as_ours(theirs: RunnerConfig, job: Path) -> VideoRunnerConfig:
    """The same pipeline under this project's runner, which a job can drive."""
    kind = StreamingRunnerConfig if hasattr(theirs, "total_blocks") else VideoRunnerConfig
    return kind(
        runner_name=theirs.runner_name,
        description=theirs.description,
        pipeline=theirs.pipeline,
        job=job,
    )


def main(slug: str, job: str) -> None:
    """Run one job."""
    for found in pkgutil.iter_modules(drivers.__path__):
        register = getattr(
            importlib.import_module(f"{drivers.__name__}.{found.name}"), "register", None
        )
        if register is not None:
            register()
    absent = stand_in(MEDIA)
    theirs = published(slug, Path(os.environ["FDBENCH_SOURCE"]))
    facts = {
        "integrations_commit": os.environ.get("FDBENCH_SOURCE_COMMIT", "not told"),
        "integrations_configuration": f"{type(theirs).__module__}.{type(theirs).__name__}",
        "stand_ins": ", ".join(absent) or "none",
    }
    matched.run(as_ours(theirs, Path(job)).setup().pipeline, Path(job), facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
