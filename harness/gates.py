"""Verdicts with their evidence; pure, and closed: what is missing never passes."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ExitCode
from harness.matching import Difference, describe
from harness.parity import within
from harness.records import Outcome, ParityRow, PlannedCell, Role, TrialRow, Verdict


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
        reason=f"every AR step within {cell.limit:g}x its floor; worst {worst:.2f}x",
    )


def untrusted(reason: str) -> Judgement:
    """The judgement on evidence that contradicts itself."""
    return Judgement(verdict=Verdict.INCOMPLETE, code=ExitCode.INTEGRITY, reason=reason)


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


def _parity(cell: PlannedCell, parity: Sequence[ParityRow]) -> Judgement | None:
    floors = {row.ar: row.relative_l2 for row in parity if row.comparison == "floor"}
    compared = [row for row in parity if row.comparison == "pair"]
    for row in sorted(compared, key=lambda row: row.ar):
        floor = floors.get(row.ar)
        if floor is None:
            return Judgement(
                verdict=Verdict.INCOMPLETE,
                code=ExitCode.INCOMPLETE,
                reason=f"AR {row.ar} has no floor to be judged by",
            )
        if not within(row.relative_l2, floor, cell.limit):
            return Judgement(
                verdict=Verdict.FAIL,
                code=ExitCode.PARITY,
                reason=(
                    f"outputs differ from AR {row.ar} on: relative L2 {row.relative_l2:.2e}, "
                    f"{row.relative_l2 / floor if floor else float('nan'):.1f}x the floor "
                    f"{floor:.2e} (limit {cell.limit:g}x)"
                ),
            )
    planned = {
        (ar, trial.trial_id)
        for trial in cell.trials
        if trial.role == Role.CANDIDATE
        for ar in trial.job.capture_steps
    }
    missing = planned - {(row.ar, row.candidate_trial) for row in compared}
    if not missing:
        return None
    ar, trial_id = min(missing)
    return Judgement(
        verdict=Verdict.INCOMPLETE,
        code=ExitCode.INCOMPLETE,
        reason=f"AR {ar} of {trial_id} was not compared",
    )


def _controls(cell: PlannedCell, parity: Sequence[ParityRow]) -> Judgement | None:
    """Every control must lie beyond the limit at each of its AR steps.

    Otherwise the gate would pass a model that differs.
    """
    floors = {row.ar: row.relative_l2 for row in parity if row.comparison == "floor"}
    for trial in (trial for trial in cell.trials if trial.role == Role.CONTROL):
        errors = {
            row.ar: row.relative_l2 for row in parity if row.candidate_trial == trial.trial_id
        }
        for ar in range(trial.job.ar_steps):
            floor = floors.get(ar)
            ratio = errors[ar] / floor if ar in errors and floor else None
            # The mirror of `within`: NaN is beyond the limit, and nothing compared is not.
            if ratio is not None and not ratio <= cell.limit:
                continue
            seen = "was not compared" if ratio is None else f"is {ratio:.2f}x its floor"
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
    floors = {row.ar: row.relative_l2 for row in parity if row.comparison == "floor"}
    return [
        row.relative_l2 / floors[row.ar]
        for row in parity
        if row.comparison == "pair" and row.ar in floors
    ]
