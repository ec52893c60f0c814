"""Wan 2.2's two networks; no matched trial is driven yet."""

from flashdreams.recipes.wan import Wan22TransformerConfig
from flashdreams.recipes.wan.transformer.wan22 import Wan22Transformer

from runners import families
from runners.drivers import wan21
from runners.exact_timesteps import SCHEDULERS, ExactWan22Transformer


def register() -> None:
    """Let this family stand for its transformer."""
    families.register(
        Wan22TransformerConfig,
        families.Family(
            parts={
                families.TIMESTEPS: families.MendedClasses(
                    SCHEDULERS | {Wan22Transformer: ExactWan22Transformer}
                )
            },
            smaller=wan21.SMALLER,
        ),
    )
