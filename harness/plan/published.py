"""Figures published on FlashDreams' model page, and what each really measures.

None of them was measured by this project: they are shown as published, in tables of their own.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict

from harness.imported_records import Workload
from harness.plan.suites import SUITES_DIR
from harness.plan.toml_files import load_toml
from harness.units import speedup_percent


@dataclass(frozen=True, kw_only=True)
class PublishedRow(Workload):
    """One line of a published table."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    baseline: str
    upstream_ms: float
    flashdreams_ms: float
    measures: str
    """What the figures are, by the footnotes of the published charts."""
    source: str
    speedup_percent: int | None = None
    """As printed; the per-scene table prints none."""

    @property
    def recomputed_percent(self) -> float:
        """Speed-up from the two figures."""
        return speedup_percent(self.upstream_ms, self.flashdreams_ms)


@dataclass(frozen=True, kw_only=True)
class RawLog:
    """A log that FlashDreams' repository published beside its figures."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    path: str
    """Relative to the suites folder."""
    recipe: str
    device: str
    published_ms: float
    """The figure of the page that this log is behind."""
    command: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """All of ``published.toml``."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    own: str
    """Side that the page is about."""
    names: dict[str, str]
    """Sides that are no environment of this project, as people read them."""
    page_says: str
    """The page's own definition of its per-step figures."""
    per_step: list[PublishedRow] = field(default_factory=list)
    per_scene: list[PublishedRow] = field(default_factory=list)
    raw_logs: list[RawLog] = field(default_factory=list)


def load_published(path: Path = SUITES_DIR / "published.toml") -> Published:
    """Read the published tables.

    Raises:
        UsageFault: The file is not what it should be.
    """
    return load_toml(Published, path)
