"""The answer first: what the stored verdicts add up to, in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ExitCode
from harness.records import Verdict
from harness.store.run_record import RunRecord, RunState
from harness.units import format_error, format_words
from reports.distance import DistanceRow, distance_table
from reports.run_view import CellView, RunView
from reports.side_names import sentence_case


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """One cell's verdict."""

    cell: CellView
    verdict: str
    reason: str
    worst: str
    """Worst parity ratio and its AR step."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the run shows."""

    sentence: str
    counts: tuple[tuple[str, int], ...]
    """Verdict to number of planned cells, every verdict that occurs and always pass and fail."""
    num_planned: int
    state: str
    """What is wrong with the run as a whole; empty if it finished."""
    notice: str
    """What the times and outputs of this run cannot mean; empty for a full-size run on a GPU."""
    times_note: str
    """Why the times mean nothing; empty if they mean something."""


def verdict_rows(cells: Sequence[CellView]) -> tuple[VerdictRow, ...]:
    """One row per cell; a cell without a stored verdict is incomplete."""
    return tuple(_row(cell) for cell in cells)


def answer(view: RunView) -> Answer:
    """Say in one sentence what the stored verdicts add up to."""
    verdicts = [row.verdict for row in verdict_rows(view.cells)]
    known = dict.fromkeys([Verdict.PASS.value, Verdict.FAIL.value, *verdicts])
    is_proven = not view.faults and set(verdicts) == {Verdict.PASS.value}
    record = view.record
    return Answer(
        sentence=_sentence(view, verdicts),
        counts=tuple((verdict, verdicts.count(verdict)) for verdict in known),
        num_planned=len(view.cells),
        state=_STATES[record.state],
        notice=_notice(record, is_proven=is_proven),
        times_note=times_note(record),
    )


_STATES = {
    RunState.FINISHED: "",
    RunState.INTERRUPTED: "This run was interrupted. Shown is what had finished by then.",
    RunState.RUNNING: "This run had not ended when this page was made, or it was killed. "
    "Shown is what had finished by then.",
}


def _row(cell: CellView) -> VerdictRow:
    worst = distance_table(cell).worst
    return VerdictRow(
        cell=cell,
        verdict=cell.pair.verdict if cell.pair else Verdict.INCOMPLETE.value,
        reason=cell.pair.reason if cell.pair else unjudged_reason(len(cell.trials)),
        worst=_ratio(worst) if worst else "",
    )


def _ratio(row: DistanceRow) -> str:
    return f"{format_ratio(row.ratio)} at AR {row.ar}"


def format_ratio(value: float | None) -> str:
    """A parity error as a multiple of its noise floor."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    return f"{value:.2f}x" if value < 1000 else f"{format_error(value)}x"


def unjudged_reason(num_trials: int) -> str:
    """Why a planned cell has no verdict."""
    if not num_trials:
        return "no trial was run"
    return f"the run ended before the cell was judged; trials run: {num_trials}"


def _sentence(view: RunView, verdicts: Sequence[str]) -> str:
    if view.faults:
        return "Files of this run are missing, altered or unreadable: nothing may be concluded."
    if not verdicts:
        return (
            "Nothing was measured here: these logs were made elsewhere."
            if view.imports
            else "No comparison was planned."
        )
    return _shortfall(view, verdicts) or _equal_outputs(view.cells)


def _shortfall(view: RunView, verdicts: Sequence[str]) -> str:
    """What keeps the run from passing, worst first; empty if nothing does."""
    total = len(verdicts)
    num_untrusted = sum(
        cell.pair is not None and cell.pair.exit_code == ExitCode.INTEGRITY for cell in view.cells
    )
    if num_untrusted:
        return f"Evidence of {_of(num_untrusted, total)} contradicts itself: it proves nothing."
    num_fail, num_pass = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.PASS)
    if num_fail:
        return f"FlashDreams' output differs from its baseline's in {_of(num_fail, total)}."
    if num_pass < total:
        return f"Not proven: {_of(total - num_pass, total)} came to no verdict."
    return ""


def _of(count: int, total: int) -> str:
    return f"{count} of {total} comparisons" if total > 1 else "the only comparison"


def _equal_outputs(cells: Sequence[CellView]) -> str:
    recipes = list(dict.fromkeys(cell.recipe for cell in cells))
    limits = {cell.pair.limit for cell in cells if cell.pair}
    within = f"within {limits.pop():g}x the noise floor" if len(limits) == 1 else "within its limit"
    baselines = "baseline" if len(cells) == 1 else "baselines"
    if any(cell.pair and cell.pair.reason.startswith("every captured") for cell in cells):
        within += ", where captured"
    if len(recipes) == 1:
        return f"{recipes[0]} makes the same output as its {baselines}, {within}."
    many = "Both" if len(recipes) == 2 else f"All {len(recipes)}"
    return f"{many} recipes make the same output as their {baselines}, {within}."


def times_note(record: RunRecord) -> str:
    """Why the times of a run mean nothing; empty if they mean something."""
    unreal = _unreal_times(record)
    return sentence_case(f"{format_words(unreal)}: these times mean nothing.") if unreal else ""


def _notice(record: RunRecord, *, is_proven: bool) -> str:
    unreal = (["synthetic weights"] if record.weights == "synthetic" else []) + _unreal_times(
        record
    )
    if not unreal:
        return ""
    shown = (
        "What this page shows is that both sides make the same output."
        if is_proven
        else "What such a run can show is whether both sides make the same output."
    )
    meaning = (
        "these times mean nothing."
        if _unreal_times(record)
        else "seeded values, so the output is no real video."
    )
    return sentence_case(f"{format_words(unreal)}: {meaning} {shown}")


def _unreal_times(record: RunRecord) -> list[str]:
    """What makes the times of a run meaningless."""
    tiny = ["tiny models"] if record.size == "tiny" else []
    return tiny + (["a CPU"] if record.device == "cpu" else [])
