"""What the stages of different runners are called when they are compared."""

from collections.abc import Mapping, Sequence
from typing import Final

from harness.errors import LogFormatError

ALIASES: Final[Mapping[str, str]] = {
    "denoise": "diffuse",
    "dit": "diffuse",
    "kv_update": "finalize",
    "decoder": "decode",
}
"""Printed name to FlashDreams' name for the same work; other names stay."""

_FLASHVSR: Final[Mapping[str, str]] = {"dit_concat": "diffuse", "decoder": "decode"}
"""FlashDreams' FlashVSR runs its DiT in ``dit_concat``; its ``denoise`` only reassembles frames."""


def is_kv_update(stage: str) -> bool:
    """Whether a stage is what ``total(w/o finalize)`` leaves out."""
    return ALIASES.get(stage, stage) == "finalize"


def by_name(pairs: Sequence[tuple[str, str]], name: str, where: str) -> dict[str, float]:
    """Stages of the line of step ``name``, in the order printed.

    Raises:
        LogFormatError: One is named twice.
    """
    stages_ms = {stage: float(ms) for stage, ms in pairs}
    if len(stages_ms) < len(pairs):
        raise LogFormatError(f"{where}: {name} names a stage twice")
    return stages_ms


def comparable(stages_ms: Mapping[str, float]) -> dict[str, float]:
    """Stages under FlashDreams' names, in the order printed.

    Raises:
        LogFormatError: Two stages mean the same.
    """
    names = _FLASHVSR if "dit_concat" in stages_ms else ALIASES
    renamed = {names.get(stage, stage): ms for stage, ms in stages_ms.items()}
    if len(renamed) < len(stages_ms):
        raise LogFormatError(f"two of the stages {', '.join(stages_ms)} mean the same")
    return renamed
