"""What a finished cell comes to by what is left of it, and where that is not what is stored."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import ExitCode
from harness.integrity.findings import Finding, Kind
from harness.judging import gates
from harness.judging.cell_verdict import Judged, expected_trials, judge_cell
from harness.records import Outcome, PairRow, ParityRow, PlannedCell, Verdict
from harness.store.tables import path_of
from harness.trials.evidence import TrialResult

LOST_DISTANCES = "its distances are not those it was judged by, and its captures are gone"


def rejudge(
    cell: PlannedCell,
    results: Mapping[str, TrialResult],
    captures: Path,
    stored: PairRow | None,
    known: Sequence[ParityRow] | None,
) -> tuple[Judged, list[Finding]]:
    """Judge a cell again.

    Args:
        cell: As it was planned.
        results: Its trials by id, in the order of the plan.
        captures: Folder with a folder of captured tensors per trial.
        stored: Its verdict, if one is stored.
        known: Its stored distances; ``None`` where their part is gone or damaged.
    """
    if _are_gone(captures, results):
        return _judge_by_distances(cell, results, captures, stored, known or ())
    if known is not None:
        judged = judge_cell(cell, results, captures, known)
        if _follows(stored, judged):
            return judged, []
    judged = judge_cell(cell, results, captures)
    findings = _findings_of_verdict(cell, stored, judged)
    if known is not None and tuple(known) != judged.parity:
        what = f"distances of {cell.cell_id} are not those of its captures"
        findings.append(_finding(ParityRow, cell, what, Kind.DERIVABLE))
    return judged, findings


def _judge_by_distances(
    cell: PlannedCell,
    results: Mapping[str, TrialResult],
    captures: Path,
    stored: PairRow | None,
    known: Sequence[ParityRow],
) -> tuple[Judged, list[Finding]]:
    """Without captures nothing tells a changed distance from a changed verdict: neither is kept."""
    lost = _finding(ParityRow, cell, f"{cell.cell_id}: {LOST_DISTANCES}", Kind.LOST)
    stands = stored is not None and _is_borne_out(cell, stored, results)
    if stored is not None and not stands and stored.exit_code == ExitCode.INTEGRITY:
        # Captures were not what their trial wrote, or distances were lost: no more can be known.
        is_lost = stored.reason == LOST_DISTANCES
        return Judged(pair=stored, parity=tuple(known)), [lost] * is_lost
    judged = judge_cell(cell, results, captures, known)
    if not _follows(stored, judged) and (stands or (stored is None and not known)):
        return Judged(pair=gates.distrusted(judged.pair, LOST_DISTANCES), parity=()), [lost]
    return judged, _findings_of_verdict(cell, stored, judged)


def _findings_of_verdict(
    cell: PlannedCell, stored: PairRow | None, judged: Judged
) -> list[Finding]:
    if stored is None:
        return [_finding(PairRow, cell, f"has no verdict of {cell.cell_id}", Kind.DERIVABLE)]
    if _follows(stored, judged):
        return []
    what = f"{cell.cell_id}: {stored.verdict}, its trials show {judged.pair.verdict}"
    return [_finding(PairRow, cell, what, Kind.DERIVABLE)]


def _finding(row_type: type, cell: PlannedCell, problem: str, kind: Kind) -> Finding:
    path = path_of(row_type, cell.cell_id)
    return Finding(path=path, problem=problem, kind=kind)


def _follows(stored: PairRow | None, judged: Judged) -> bool:
    """Whether a stored verdict is the judgement, the figures in its reason included.

    Its words are not: they may change between versions, and the figures of a comparison do not.
    """
    if stored is None:
        return False
    verdicts = [(p.verdict, p.exit_code, _figures(p)) for p in (stored, judged.pair)]
    return verdicts[0] == verdicts[1]


def _figures(pair: PairRow) -> list[str]:
    was_compared = pair.verdict in (Verdict.PASS, Verdict.FAIL)
    return re.findall(r"\d+(?:\.\d+)?(?:e[+-]\d+)?", pair.reason) if was_compared else []


def _is_borne_out(cell: PlannedCell, pair: PairRow, results: Mapping[str, TrialResult]) -> bool:
    """Whether a stored verdict can stand on the trials that are there."""
    rows = [result.row for result in results.values()]
    sound = [row for row in rows if not row.invalid and row.outcome == Outcome.COMPLETED]
    if pair.verdict in (Verdict.PASS, Verdict.FAIL):
        return len(sound) == len(list(expected_trials(cell, results)))
    return (pair.exit_code == ExitCode.INTEGRITY) == any(row.invalid for row in rows)


def _are_gone(captures: Path, results: Mapping[str, TrialResult]) -> bool:
    return not all(
        (captures / name / capture.path).is_file()
        for name, result in results.items()
        if not result.row.invalid and result.row.outcome == Outcome.COMPLETED
        for capture in result.captures
    )
