"""FlashDreams runners, registered through the entry-point group ``flashdreams.runner_configs``.

Importing this package imports no torch: adapters of other environments import
``runners.protocol`` from it.
"""

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flashdreams.infra.runner import RunnerConfig

RUNNERS = {
    "self-forcing-wan2.1-t2v-1.3b": "runners.self_forcing:WAN_VAE",
    "self-forcing-wan2.1-t2v-1.3b-taehv": "runners.self_forcing:TAEHV",
    "self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope": "runners.self_forcing:SINK",
    "causal-forcing-wan2.1-t2v-1.3b-chunkwise": "runners.causal_forcing:CHUNKWISE",
    "causal-forcing-wan2.1-t2v-1.3b-framewise": "runners.causal_forcing:FRAMEWISE",
    "causal-forcing-wan2.1-i2v-1.3b-framewise": "runners.causal_forcing:I2V",
    "fastvideo-causal-wan2.2-t2v-14b": "runners.causal_wan22:T2V",
    "wan21-t2v-1.3b-480p": "runners.wan21:T2V",
    "wan21-i2v-14b-480p": "runners.wan21:I2V",
    "cosmos2-t2v-2b-720p": "runners.cosmos_predict2:T2V",
    "cosmos2-i2v-2b-720p": "runners.cosmos_predict2:I2V",
}
"""Slug to ``module:ATTRIBUTE``; ``pyproject.toml`` and ``upstream_envs/flashdreams`` repeat it."""

PINNED = {
    "hy-worldplay-wan-i2v-5b": "runners.pinned:HY_WORLDPLAY",
    "omnidreams-sv-2steps-chunk2-loc6-lightvae-lighttae": "runners.pinned:OMNIDREAMS",
    "omnidreams-sv-2steps-chunk2-loc6-lightvae-lighttae-perf": "runners.pinned:OMNIDREAMS_PERF",
}
"""The same for slugs whose code an environment pins; ``pyproject.toml`` repeats it."""


class UnknownRunnerError(KeyError):
    """No runner has this slug; says which one is nearest."""

    def __init__(self, slug: str) -> None:
        """Look for what was probably meant."""
        super().__init__(slug)
        known = [*RUNNERS, *PINNED]
        nearest = difflib.get_close_matches(slug, known, n=1, cutoff=0.0)[0]
        self.message = f"no runner {slug!r}; the nearest is {nearest!r}"

    def __str__(self) -> str:
        return self.message


def load(slug: str, **changes: Any) -> "RunnerConfig":
    """A runner's published configuration, ready for ``.setup().run()``.

    Args:
        slug: A name that ``flashdreams-run --help`` lists.
        changes: Options by name, nested as in FlashDreams' own ``derive_config``: ``size="tiny"``,
            ``pipeline={"diffusion_model": {"seed": 1}}``.

    Raises:
        UnknownRunnerError: No runner has this slug.
        NotBuiltError: Its code is that of an environment which is not built.
    """
    place = RUNNERS.get(slug) or PINNED.get(slug)
    if place is None:
        raise UnknownRunnerError(slug)
    module, attribute = place.split(":")
    published = getattr(importlib.import_module(module), attribute)
    if slug in PINNED:
        published = published.load()

    # Only known once a runner's module is there, and with it torch.
    from flashdreams.infra.config import derive_config  # noqa: PLC0415

    return derive_config(published, **changes)
