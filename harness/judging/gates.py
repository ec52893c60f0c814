"""Verdicts with their evidence; pure, and closed: what is missing never passes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.errors import ExitCode
from harness.judging.parity import within
from harness.records import (
    Outcome,
    PairRow,
    ParityRow,
    PlannedCell,
    PlannedTrial,
    Role,
    TrialRow,
    Verdict,
)
from harness.trials.matching import Difference, describe
from runners.protocol.solvers import generated


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    code: ExitCode
    reason: str


def judge(
    cell: PlannedCell,
    trials: Sequence[TrialRow],
    differences: Sequence[Difference],
    parity: Sequence[ParityRow],
) -> Judgement:
    """Judge a cell from what its trials left; the first gate that does not pass decides."""
    stopped = (
        _evidence(trials)
        or _settings(differences)
        or _complete(cell, trials)
        or _parity(cell, parity)
        or _controls(cell, parity)
    )
    if stopped is not None:
        return stopped
    worst = max(_ratios(parity), default=None)
    if worst is None:
        return Judgement(
            verdict=Verdict.INCOMPLETE, code=ExitCode.INCOMPLETE, reason="no output was compared"
        )
    return Judgement(
        verdict=Verdict.PASS,
        code=ExitCode.PASS,
        reason=(
            f"every {_captured(cell)} within {cell.limit:g}x its noise floor; worst {worst:.2f}x"
        ),
    )


def _captured(cell: PlannedCell) -> str:
    """What was compared, in words: a side may be asked to capture fewer AR steps than it runs."""
    jobs = [trial.job for trial in cell.trials if trial.role == Role.CANDIDATE]
    is_whole = all(set(job.capture_steps) >= set(generated(job)) for job in jobs)
    if not is_whole:
        return "captured AR step"
    has_given = any(len(generated(job)) < job.ar_steps for job in jobs)
    return "generated AR step" if has_given else "AR step"


def untrusted(reason: str) -> Judgement:
    """The judgement on evidence that contradicts itself."""
    return Judgement(verdict=Verdict.INCOMPLETE, code=ExitCode.INTEGRITY, reason=reason)


def distrusted(pair: PairRow, reason: str) -> PairRow:
    """A stored verdict that its evidence does not bear out any more."""
    judgement = untrusted(reason)
    return replace(
        pair, verdict=judgement.verdict, exit_code=judgement.code, reason=judgement.reason
    )


def _evidence(trials: Sequence[TrialRow]) -> Judgement | None:
    for trial in trials:
        if trial.invalid:
            return untrusted(f"{trial.side}, process {trial.process}: {trial.invalid}")
    return None


def _settings(differences: Sequence[Difference]) -> Judgement | None:
    unexpected = [difference for difference in differences if not difference.reason]
    if not unexpected:
        return None
    listed = "; ".join(describe(difference) for difference in unexpected)
    return Judgement(
        verdict=Verdict.INCOMPLETE,
        code=ExitCode.INCOMPLETE,
        reason=f"settings differ, so nothing was compared: {listed}",
    )


def _complete(cell: PlannedCell, trials: Sequence[TrialRow]) -> Judgement | None:
    rows = {trial.trial_id: trial for trial in trials}
    for planned in cell.trials:
        row = rows.get(planned.trial_id)
        if row is None or row.outcome != Outcome.COMPLETED:
            what = "was not run" if row is None else f"{row.outcome}: {row.reason}"
            return Judgement(
                verdict=Verdict.INCOMPLETE,
                code=ExitCode.INCOMPLETE,
                reason=f"{planned.side}, process {planned.process}: {what}",
            )
    return None


def _noise_floors(parity: Sequence[ParityRow]) -> dict[tuple[int, bool], float]:
    """The noise floor of each AR step, of latents and of frames (True)."""
    floor = (row for row in parity if row.comparison == "floor")
    return {(row.ar, row.is_of_frames): row.relative_l2 for row in floor}


def _parity(cell: PlannedCell, parity: Sequence[ParityRow]) -> Judgement | None:
    floors = _noise_floors(parity)
    compared = [row for row in parity if row.comparison == "pair"]
    for row in sorted(compared, key=lambda row: (row.ar, row.is_of_frames)):
        floor = floors.get((row.ar, row.is_of_frames))
        if floor is None or not 0 < floor < math.inf:
            size = "" if floor is None else f": it is {floor:g}"
            return Judgement(
                verdict=Verdict.INCOMPLETE,
                code=ExitCode.INCOMPLETE,
                reason=f"AR {row.ar} has no noise floor to be judged by{size}",
            )
        if not within(row.relative_l2, floor, cell.limit):
            what = "decoded frames" if row.is_of_frames else "outputs"
            return Judgement(
                verdict=Verdict.FAIL,
                code=ExitCode.PARITY,
                reason=(
                    f"{what} differ from AR {row.ar} on: relative L2 {row.relative_l2:.2e}, "
                    f"{row.relative_l2 / floor:.1f}x the noise floor "
                    f"{floor:.2e} (limit {cell.limit:g}x)"
                ),
            )
    return _uncompared(cell, compared)


def _outputs(trial: PlannedTrial) -> tuple[bool, ...]:
    """What a trial captures: latents (False), and frames (True) where it decodes."""
    return (False,) if trial.job.decoder == "none" else (False, True)


def _uncompared(cell: PlannedCell, compared: Sequence[ParityRow]) -> Judgement | None:
    """The first output of a candidate that was not compared: latents, frames where it decodes."""
    planned = {
        (ar, trial.trial_id, of_frames)
        for trial in cell.trials
        if trial.role == Role.CANDIDATE
        for ar in trial.job.capture_steps
        for of_frames in _outputs(trial)
    }
    missing = planned - {(row.ar, row.candidate_trial, row.is_of_frames) for row in compared}
    if not missing:
        return None
    ar, trial_id, of_frames = min(missing)
    what = f"frames of {trial_id} were" if of_frames else f"of {trial_id} was"
    return Judgement(
        verdict=Verdict.INCOMPLETE,
        code=ExitCode.INCOMPLETE,
        reason=f"AR {ar} {what} not compared",
    )


def _controls(cell: PlannedCell, parity: Sequence[ParityRow]) -> Judgement | None:
    """Every control must lie beyond the limit at each AR step that it generates with its fault.

    Otherwise the gate would pass a model that differs.
    """
    floors = _noise_floors(parity)
    for trial in (trial for trial in cell.trials if trial.role == Role.CONTROL):
        errors = {
            (row.ar, row.is_of_frames): row.relative_l2
            for row in parity
            if row.candidate_trial == trial.trial_id
        }
        faulty = [ar for ar in generated(trial.job) if ar >= trial.job.from_ar]
        for ar, of_frames in itertools.product(faulty, _outputs(trial)):
            error, floor = errors.get((ar, of_frames)), floors.get((ar, of_frames))
            ratio = error / floor if error is not None and floor else None
            # The mirror of `within`: NaN is beyond the limit, and nothing compared is not.
            if ratio is not None and not ratio <= cell.limit:
                continue
            seen = "was not compared" if ratio is None else f"is {ratio:.2f}x its noise floor"
            return Judgement(
                verdict=Verdict.INCOMPLETE,
                code=ExitCode.INCOMPLETE,
                reason=(
                    f"the gate proves nothing here: {trial.side} must lie beyond the limit of "
                    f"{cell.limit:g}x and {seen} at AR {ar}"
                ),
            )
    return None


def _ratios(parity: Sequence[ParityRow]) -> list[float]:
    floors = _noise_floors(parity)
    return [
        row.relative_l2 / floors[row.ar, row.is_of_frames]
        for row in parity
        if row.comparison == "pair" and (row.ar, row.is_of_frames) in floors
    ]
