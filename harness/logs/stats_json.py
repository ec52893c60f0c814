"""FlashDreams' stats file: a JSON list with one object an AR step.

``[{"autoregressive_index": 0, "encode_ms": 0.0049, ..., "total_ms": ..., ...}, ...]``

Reads what runners of flashdreams 0.1.0 (``dc9e5c0``) write as ``stats_<slug>.json``, with
``autoregressive_index``; those of ``d5c4ce0``, with ``step_index``, ``frames`` and FlashVSR's
``pipeline_frames`` and ``pipeline_fps``; and what the patched upstream runners of the same commits
write (Self-Forcing, FastVideo, FlashVSR).

``stages_ms`` is every key that ends in ``_ms`` without that ending, unrounded; totals are the
file's. Only rank 0 writes one. A row's byte range is its object.
"""

from collections.abc import Iterator
from typing import Any, Final

from harness.errors import LogFormatError
from harness.logs import json_items
from harness.logs.lines import Log, NotThisFormatError
from harness.logs.sequence import Numbering, check_sums, in_order
from harness.records import LogStep

_STEP = Numbering(word="step")
_INDICES: Final = ("autoregressive_index", "step_index")
_TOTAL, _WITHOUT = "total_ms", "total_ms_wo_finalize"
_PEAK = "mem_peak_gib"
_ROUNDING_MS = 0.0011
"""Figures are unrounded, but for HY-WorldPlay's, which have three decimals."""
_COUNTS: Final = ("frames", "fps", "pipeline_frames", "pipeline_fps")


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return every AR step of a stats file in order.

    Raises:
        LogFormatError: It is no such file, a step is missing or stands there twice, a value is no
            time, or the figures of a step do not add up.
    """
    text = json_items.read_text(log, "[", where)
    steps = list(_steps(text, where))
    indices = [step.ar for step in steps]
    if len(set(indices)) < len(indices):
        raise LogFormatError(f"{where}: a step appears twice: {indices[:30]}")
    if not steps:
        raise NotThisFormatError(f"{where}: an empty list, without the stats of any AR step")
    return in_order(steps, _STEP, where)


def _steps(text: str, where: str) -> Iterator[LogStep]:
    opening = text.index("[")
    if not text[opening + 1 :].lstrip().startswith(("{", "]")):
        raise NotThisFormatError(f"{where}: a list, but not of objects")
    generation = ""
    for item, start, end in json_items.items(text, opening, where):
        index = next((key for key in _INDICES if key in item), None)
        if index is None or _TOTAL not in item:
            kind = LogFormatError if generation else NotThisFormatError
            raise kind(f"{where}: the object at byte {start} has no step index and {_TOTAL}")
        if generation and index != generation:
            raise LogFormatError(f"{where}: both {generation} and {index} count its steps")
        generation = index
        yield _to_step(item, index, (start, end), where)


def _to_step(item: dict[str, Any], index: str, span: tuple[int, int], where: str) -> LogStep:
    ar = item[index]
    if isinstance(ar, bool) or not isinstance(ar, int) or not 0 <= ar < 10**9:
        raise LogFormatError(
            f"{where}: {index} at byte {span[0]} is {str(ar)[:40]!r}, not an index"
        )
    name = f"{_STEP.name(ar)}'s"
    if _WITHOUT not in item:
        raise LogFormatError(f"{where}: {name} {_WITHOUT} is missing")
    for key in (*_COUNTS, "mem_alloc_gib", "mem_reserved_gib"):
        if key in item:
            json_items.measured(item[key], f"{name} {key}", where)
    times_ms = {
        key: json_items.measured(value, f"{name} {key}", where)
        for key, value in item.items()
        if key.endswith("_ms") or key == _WITHOUT
    }
    step = LogStep(
        ar=ar,
        rank=0,
        total_wo_finalize_ms=times_ms.pop(_WITHOUT),
        total_ms=times_ms.pop(_TOTAL),
        stages_ms={key.removesuffix("_ms"): ms for key, ms in times_ms.items()},
        memory_peak_gib=json_items.measured(item[_PEAK], f"{name} {_PEAK}", where)
        if _PEAK in item
        else None,
        byte_start=span[0],
        byte_end=span[1],
    )
    check_sums(step, _ROUNDING_MS, _STEP, where)
    return step
