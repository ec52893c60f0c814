"""From a cell's trials to its verdict; the same after a run and in a repair."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ExitCode, IntegrityFault
from harness.judging import gates, parity
from harness.machine.telemetry import FOREIGN
from harness.plan.cells import repeat_of
from harness.records import (
    Outcome,
    PairRow,
    ParityRow,
    PlannedCell,
    PlannedTrial,
    Role,
    Side,
    TrialRow,
    Verdict,
)
from harness.trials import matching
from harness.trials.evidence import TrialResult
from harness.trials.matching import Difference
from runners.protocol.weight_rules import FROM_DEVICE


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A cell's verdict and the distances it rests on."""

    pair: PairRow
    parity: tuple[ParityRow, ...]


def expected_trials(
    cell: PlannedCell, results: Mapping[str, TrialResult]
) -> Iterator[PlannedTrial]:
    """Every trial of a cell in order, with one repetition after each whose times were disturbed."""
    for trial in cell.trials:
        yield trial
        ended = results.get(trial.trial_id)
        if ended is not None and ended.row.marks:
            yield repeat_of(trial)


def is_excused(trial: TrialRow) -> bool:
    """Whether a lack of memory is another process's doing, so that the repetition decides alone."""
    if trial.is_repetition:
        return False
    return trial.outcome == Outcome.OOM and FOREIGN in trial.marks


def is_over(cell: PlannedCell, results: Mapping[str, TrialResult]) -> bool:
    """Whether no further trial of a cell starts: all have run, or there is a reason to stop."""
    if all(trial.trial_id in results for trial in expected_trials(cell, results)):
        return True
    ended = any(
        row.invalid or (row.outcome != Outcome.COMPLETED and not is_excused(row))
        for row in (result.row for result in results.values())
    )
    return ended or any(not difference.reason for difference in _differences(cell, results))


def judge_cell(
    cell: PlannedCell,
    results: Mapping[str, TrialResult],
    captures: Path,
    known: Sequence[ParityRow] | None = None,
) -> Judged:
    """Judge a cell.

    Args:
        cell: As it was planned.
        results: Its trials by id, in the order of the plan.
        captures: Folder with a folder of captured tensors per trial.
        known: Distances computed before; ``None`` to compute them from the captures.
    """
    differences = _differences(cell, results)
    damage: gates.Judgement | None = None
    if known is None:
        known, damage = compare_outputs(cell, results, captures)
    rows = [result.row for result in results.values()]
    # A repetition is evidence like any other: without it, or with a failed one, nothing passes.
    excused = {row.trial_id for row in rows if is_excused(row)}
    expected = replace(
        cell,
        trials=tuple(t for t in expected_trials(cell, results) if t.trial_id not in excused),
    )
    judgement = damage or _other_weights(cell, results)
    judgement = judgement or gates.judge(expected, rows, differences, known)
    return Judged(pair=_pair_row(cell, judgement, differences), parity=tuple(known))


def _other_weights(cell: PlannedCell, results: Mapping[str, TrialResult]) -> gates.Judgement | None:
    """Weights made on the device are known by nobody: every trial must have made the same."""
    made: dict[tuple[Any, ...], dict[str, str]] = {}
    for trial in expected_trials(cell, results):
        job, result = trial.job, results.get(trial.trial_id)
        if job.weights_from == FROM_DEVICE and result and result.settings:
            drawn = (job.weights_seed, job.weights_rule, job.weights_gains)
            recipe = (job.network, job.networks, *drawn, job.device)
            found = made.setdefault(recipe, {})
            found.setdefault(result.settings.weights_sha256, str(trial.side))
    for sides in made.values():
        if len(sides) > 1:
            one, other = list(sides.values())[:2]
            return gates.Judgement(
                verdict=Verdict.INCOMPLETE,
                code=ExitCode.INCOMPLETE,
                reason=f"{one} and {other} made different weights from one seed on this device",
            )
    return None


def compare_outputs(
    cell: PlannedCell, results: Mapping[str, TrialResult], captures: Path
) -> tuple[list[ParityRow], gates.Judgement | None]:
    """Compare outputs; captures that are not what their trial wrote decide the cell."""
    rows: list[ParityRow] = []
    try:
        for comparison, left, right in _comparisons(cell, results):
            labels = {
                "cell_id": cell.cell_id,
                "comparison": comparison,
                "candidate_trial": left.row.trial_id,
                "reference_trial": right.row.trial_id,
            }
            folders = (captures / left.row.trial_id, captures / right.row.trial_id)
            rows += parity.compare_captures(folders, (left.captures, right.captures), labels)
    except IntegrityFault as error:
        return rows, gates.untrusted(str(error))
    return rows, None


def _differences(cell: PlannedCell, results: Mapping[str, TrialResult]) -> tuple[Difference, ...]:
    """Differences between the first candidate and the first reference, once both have run."""
    first = {
        role: result.settings
        for role in (Role.CANDIDATE, Role.REFERENCE)
        for result in reversed(list(results.values()))
        if result.row.role == role and result.settings is not None
    }
    if len(first) < 2:
        return ()
    expected = {item.setting: item.reason for item in cell.expected_differences}
    return matching.compare(first[Role.CANDIDATE], first[Role.REFERENCE], expected)


def _comparisons(
    cell: PlannedCell, results: Mapping[str, TrialResult]
) -> list[tuple[str, TrialResult, TrialResult]]:
    """Each candidate and control against the first reference, and the sides of the noise floor."""
    completed = [r for r in results.values() if r.row.outcome == Outcome.COMPLETED]
    candidates = [r for r in completed if r.row.role == Role.CANDIDATE]
    controls = [r for r in completed if r.row.role == Role.CONTROL]
    references = [r for r in completed if r.row.role == Role.REFERENCE]
    pairs = [("pair", left, right) for left in candidates for right in references[:1]]
    pairs += [("control", left, right) for left in controls for right in references[:1]]
    floor = [_first_of(side, completed) for side in cell.floor]
    if floor[0] is not None and floor[1] is not None:
        pairs.append(("floor", floor[0], floor[1]))
    return pairs


def _first_of(side: Side, completed: list[TrialResult]) -> TrialResult | None:
    return next((result for result in completed if result.row.side == str(side)), None)


def _pair_row(
    cell: PlannedCell, judgement: gates.Judgement, differences: tuple[Difference, ...]
) -> PairRow:
    listed = [[d.setting, str(d.candidate), str(d.reference), d.reason] for d in differences]
    return PairRow(
        cell_id=cell.cell_id,
        recipe=cell.recipe,
        device=cell.device,
        baseline=cell.baseline,
        candidate=str(cell.candidate),
        reference=str(cell.reference),
        floor=f"{cell.floor[0]} against {cell.floor[1]}",
        documented_ar_steps=cell.documented_ar_steps,
        limit=cell.limit,
        limit_origin=cell.limit_origin,
        verdict=judgement.verdict,
        exit_code=judgement.code,
        reason=judgement.reason,
        settings_differences=json.dumps(listed),
    )
