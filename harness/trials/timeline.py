"""What fdbench's own clocks say of an AR step, as columns of its row."""

import json
from collections.abc import Sequence
from typing import Any

from harness.trials.trial_record import Arrival, TrialRecord
from runners.protocol import wire

_MOMENTS = {"began_s": "began_at_s", "ended_s": "ended_at_s", "told_s": "told_at_s"}


def arrivals_by_ar(
    events: Sequence[wire.StepEvent | wire.EndEvent], record: TrialRecord
) -> dict[int, Arrival]:
    """Arrival of each AR step's event; empty where not every event has one."""
    if len(events) != len(record.arrivals):
        return {}
    pairs = zip(events, record.arrivals, strict=True)
    return {event.ar: arrival for event, arrival in pairs if isinstance(event, wire.StepEvent)}


def clock_columns(
    event: wire.StepEvent | None, arrival: Arrival | None, launched_at_s: float | None
) -> dict[str, Any]:
    """What fdbench's own clocks add to a step of the log; rank 0 alone has an event."""
    if event is None:
        return {"denoise_ms": (), "clock_total_ms": None, "wall_ms": None, "kernels": ""}
    return {
        "denoise_ms": event.denoise_ms,
        "clock_total_ms": sum(event.stages_ms.values()),
        "wall_ms": event.wall_ms,
        "kernels": json.dumps(event.kernels_ms) if event.kernels_ms else "",
        "preempted": event.preempted,
        "allocator_peak_gib": event.memory_peak_gib,
        "energy_j": arrival.energy_j if arrival else None,
        "arrival_s": _since(launched_at_s, arrival.at_s if arrival else None),
        **{
            column: _since(launched_at_s, getattr(event, moment))
            for column, moment in _MOMENTS.items()
        },
    }


def _since(launched_at_s: float | None, at_s: float | None) -> float | None:
    """Seconds from the launch, to the microsecond: floats of a long uptime have no more."""
    if launched_at_s is None or at_s is None:
        return None
    return round(at_s - launched_at_s, 6)
