"""Progress bars of runners that print no time of their own: Wan2.1, Cosmos-Predict2.5.

``FlowMatchUniPCScheduler: 100%|██████████| 20/20 [00:03<00:00,  6.57it/s]``

Reads what tqdm 4.67 to 4.70 draws for ``Wan-Video/Wan2.1@9737cba``,
``nvidia-cosmos/cosmos-predict2.5@441b897`` and flashdreams 0.1.0's schedulers (``enable_tqdm``).

A bar is one generation, so ``ar`` counts bars from 0. The only stage, ``denoising_step_mean``, is
the time of one denoising step, guidance and first-step compilation included, as a mean over the
whole bar: not a median, and of three digits. Both totals repeat it. While a bar runs, tqdm shows a
moving average; the mean is only in the state it leaves behind, so a bar that did not end is
refused, and so is one whose last rate does not make the time it ran.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from harness.errors import LogFormatError
from harness.logs.lines import Line, Log, NotThisFormatError, looks_binary, marked_lines
from harness.records import LogStep

STAGE: Final = "denoising_step_mean"
_ROUNDING = 0.005
"""Rates are printed with two decimals, in s/it or it/s."""
_STATE = re.compile(
    rb"(?:\[(?:default|rank)(?P<rank>\d{1,5})\]:\s?)?[ \t]*"
    rb"(?:(?P<name>[\w.\-][\w .\-]{0,79}):[ \t]*)?"
    rb"\d{1,3}%\|[^|]{0,800}\|[ \t]*(?P<done>\d{1,9})/(?P<all>\d{1,9}) "
    rb"\[(?P<elapsed>(?:\d{1,4}:)?\d{1,2}:\d\d)<[\d:?]{1,12},[ \t]*"
    rb"(?:\?|(?P<rate>\d{1,9}\.\d\d))(?P<unit>s/it|it/s)"
)
_OTHER_WORK = re.compile(
    r"(?i)(?:loading|load|fetch|fetching|download|downloading|resolving|saving|writing)\b"
)
"""Bars of what is not denoising, such as ``Loading checkpoint shards``."""


@dataclass(frozen=True, kw_only=True)
class _State:
    rank: int
    name: str
    done: int
    all: int
    elapsed_s: int
    rate: float | None
    per_step: bool
    """Whether the rate is in seconds a step, not steps a second."""
    line: Line


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return the mean denoising-step time of every bar, rank by rank.

    Raises:
        LogFormatError: There is no bar of denoising steps, one did not end, there are bars of
            several kinds, or those of several processes cannot be told apart.
    """
    bars: dict[int, list[_State]] = {}
    for state in _last_states(_states(log), where):
        bars.setdefault(state.rank, []).append(state)
    if not bars:
        kind = "a binary file" if looks_binary(log) else "no progress bar of denoising steps in it"
        raise NotThisFormatError(
            f"{where}: {kind}; expected '100%|██████████| 50/50 [00:57<00:00,  1.14s/it]'"
        )
    kinds = sorted({(state.name, state.all) for found in bars.values() for state in found})
    if len(kinds) > 1:
        shown = ", ".join(f"{name or 'no name'} of {count}" for name, count in kinds[:5])
        raise LogFormatError(
            f"{where}: bars of several kinds ({shown}); it is unclear which one is denoising"
        )
    return tuple(
        _to_step(ar, state, where) for rank in sorted(bars) for ar, state in enumerate(bars[rank])
    )


def _states(log: Log) -> Iterator[_State]:
    for line in marked_lines(log, b"%|"):
        # A cheap look first: a file of bars that show no rate is common.
        match = _STATE.match(line.text) if b"it" in line.text else None
        if match is None:
            continue
        name = (match["name"] or b"").decode("utf-8", "replace").strip()
        if _OTHER_WORK.match(name):
            continue
        seconds = 0
        for part in match["elapsed"].split(b":"):
            seconds = 60 * seconds + int(part)
        yield _State(
            rank=int(match["rank"] or 0),
            name=name,
            done=int(match["done"]),
            all=int(match["all"]),
            elapsed_s=seconds,
            rate=float(match["rate"]) if match["rate"] else None,
            per_step=match["unit"] == b"s/it",
            line=line,
        )


def _last_states(states: Iterable[_State], where: str) -> Iterator[_State]:
    """The state each bar leaves behind.

    Raises:
        LogFormatError: A bar did not end, or bars of several processes overlap.
    """
    open_bars: dict[tuple[int, str, int], _State] = {}
    for state in states:
        key = (state.rank, state.name, state.all)
        before = open_bars.get(key)
        if before is not None and not _goes_on(before, state):
            if before.done < before.all or state.done >= state.all:
                raise LogFormatError(
                    f"{where}: a bar at {before.done}/{before.all} is followed by one at "
                    f"{state.done}/{state.all} (byte {state.line.start}): stopped, or of several "
                    "processes; label ranks with torchrun --tee 3"
                )
            yield before
        open_bars[key] = state
    for state in open_bars.values():
        if state.done != state.all:
            raise LogFormatError(f"{where}: a bar ends at {state.done}/{state.all}; it has no mean")
        yield state


def _goes_on(before: _State, state: _State) -> bool:
    if before.done == before.all:
        return state.done == state.all and state.line.overwrites
    return before.done <= state.done <= state.all


def _to_step(ar: int, state: _State, where: str) -> LogStep:
    if not state.rate:
        raise LogFormatError(f"{where}: the bar at byte {state.line.start} shows no rate")
    low, high = state.rate - _ROUNDING, state.rate + _ROUNDING
    if not state.per_step:
        low, high = 1 / high, (1 / low if low > 0 else float("inf"))
    if not (state.all * high >= state.elapsed_s and state.all * low < state.elapsed_s + 1):
        raise LogFormatError(
            f"{where}: the bar at byte {state.line.start} ran {state.elapsed_s} s, which "
            f"{state.all} steps at its last rate do not make: the rate is a moving average, "
            "not a mean"
        )
    step_ms = 1000 * (state.rate if state.per_step else 1 / state.rate)
    return LogStep(
        ar=ar,
        rank=state.rank,
        stages_ms={STAGE: step_ms},
        total_wo_finalize_ms=step_ms,
        total_ms=step_ms,
        memory_peak_gib=None,
        byte_start=state.line.start,
        byte_end=state.line.end,
    )
