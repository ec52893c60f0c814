"""Verdicts: the one way to pass, and every way not to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ExitCode
from harness.judging.gates import judge
from harness.records import Outcome, Role, Verdict
from harness.trials.matching import compare
from tests.fakes import samples

pytestmark = pytest.mark.unit

NAN = float("nan")
ROWS = samples.parity_rows()
TRIALS = [samples.trial_row(trial) for trial in samples.cell().trials]


def judged(trials=TRIALS, differences=(), parity=ROWS):
    """The judgement of the sample cell."""
    return judge(samples.cell(), trials, differences, parity)


def with_row(index, rows, **changes):
    """Rows with one of them changed."""
    return [replace(row, **changes) if i == index else row for i, row in enumerate(rows)]


def unexpected():
    """Settings that differ without a reason."""
    return compare(samples.settings(), samples.settings(dtype="float32"), {})


def test_complete_evidence_passes():
    """Everything there and within the limit passes, with the worst ratio as its reason."""
    judgement = judged()

    assert (judgement.verdict, judgement.code) == (Verdict.PASS, ExitCode.PASS)
    assert "worst 1.50x" in judgement.reason


def test_pass_says_that_not_every_step_was_captured():
    """A side that was asked for fewer captures was compared at these, and no other."""
    cell = samples.cell()
    fewer = [
        replace(trial, job=replace(trial.job, capture_steps=(0,)))
        if trial.role == Role.CANDIDATE
        else trial
        for trial in cell.trials
    ]
    parity = [row for row in ROWS if row.ar == 0]
    whole, part = (judge(c, TRIALS, (), parity) for c in (cell, replace(cell, trials=tuple(fewer))))

    assert whole.verdict == Verdict.INCOMPLETE
    assert part.verdict == Verdict.PASS
    assert part.reason.startswith("every captured AR step within 2x its noise floor")


def test_expected_difference_passes():
    """A difference with a reason does not stop a pass."""
    explained = compare(
        samples.settings(), samples.settings(torch="2.14.0"), {"torch": "pinned so"}
    )

    assert judged(differences=explained).verdict == Verdict.PASS


@pytest.mark.parametrize("ar", [0, 1, 2])
def test_error_above_the_limit_fails_at_its_ar_step(ar):
    """The first AR step above the limit is named, with its ratio."""
    parity = [
        replace(row, relative_l2=0.021) if row.comparison == "pair" and row.ar >= ar else row
        for row in ROWS
    ]
    judgement = judged(parity=parity[::-1])

    assert (judgement.verdict, judgement.code) == (Verdict.FAIL, ExitCode.PARITY)
    assert f"from AR {ar} on" in judgement.reason
    assert "2.1x the noise floor" in judgement.reason


def test_limit_applies_to_the_floor_of_the_same_ar_step():
    """A large floor elsewhere excuses nothing."""
    floors = [i for i, row in enumerate(ROWS) if row.comparison == "floor"]
    parity = with_row(floors[2], ROWS, relative_l2=0.5)
    parity = with_row(floors[1], parity, relative_l2=0.004)

    assert "from AR 1 on" in judged(parity=parity).reason


@pytest.mark.parametrize("process", [0, 1])
def test_every_process_must_be_within(process):
    """A second process that differs is not averaged away."""
    index = next(
        i
        for i, row in enumerate(ROWS)
        if row.ar == 2 and row.candidate_trial == samples.trial(process=process).trial_id
    )

    assert judged(parity=with_row(index, ROWS, relative_l2=0.03)).code == ExitCode.PARITY


def test_invalid_trial_is_an_integrity_fault():
    """Evidence that contradicts itself is named with its side and process."""
    judgement = judged(trials=with_row(1, TRIALS, invalid="AR 1 is missing from the log"))

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INTEGRITY)
    assert judgement.reason == "fastvideo, process 0: AR 1 is missing from the log"


def test_unexpected_difference_is_incomplete():
    """Sides under different settings are not compared, and the difference is shown."""
    judgement = judged(differences=unexpected())

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert "dtype: bfloat16 against float32" in judgement.reason


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.COMPLETED])
def test_trial_that_did_not_complete_is_incomplete(outcome):
    """However a trial ended, its reason is the cell's."""
    judgement = judged(trials=with_row(3, TRIALS, outcome=outcome, reason="what happened"))

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert judgement.reason == f"flashdreams, process 1: {outcome}: what happened"


@pytest.mark.parametrize("index", range(len(TRIALS)))
def test_missing_trial_is_incomplete(index):
    """A planned trial without a row is named, the floor's too."""
    judgement = judged(trials=TRIALS[:index] + TRIALS[index + 1 :])
    planned = samples.cell().trials[index]

    assert judgement.code == ExitCode.INCOMPLETE
    assert judgement.reason == f"{planned.side}, process {planned.process}: was not run"


@pytest.mark.parametrize("ar", [0, 1, 2])
def test_missing_ar_step_is_incomplete(ar):
    """An AR step that no process had compared is named."""
    judgement = judged(parity=[row for row in ROWS if row.ar != ar])

    assert judgement.code == ExitCode.INCOMPLETE
    assert f"AR {ar}" in judgement.reason


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_missing_comparison_never_passes(index):
    """Each single row of evidence is needed: every process, every AR step, every floor."""
    assert judged(parity=ROWS[:index] + ROWS[index + 1 :]).verdict != Verdict.PASS


@pytest.mark.parametrize("index", range(len(ROWS)))
@pytest.mark.parametrize("value", [NAN, float("inf"), -NAN], ids=["nan", "inf", "minus-nan"])
def test_number_that_is_none_never_passes(index, value):
    """NaN and infinity pass nowhere, neither as an error nor as a floor."""
    judgement = judged(parity=with_row(index, ROWS, relative_l2=value))

    assert judgement.verdict != Verdict.PASS
    assert f"AR {ROWS[index].ar}" in judgement.reason


@pytest.mark.parametrize("floor", [0.0, NAN, float("inf")])
def test_floor_that_is_none_is_no_fault_of_the_candidate(floor):
    """A floor that compared a trial with itself, or overflowed, allows nothing, blames nobody."""
    parity = [replace(r, relative_l2=floor) if r.comparison == "floor" else r for r in ROWS]
    judgement = judged(parity=parity)

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert judgement.reason.startswith(f"AR 0 has no noise floor to be judged by: it is {floor:g}")


def test_nothing_at_all_is_incomplete():
    """No trials and no rows are no pass."""
    assert judged(trials=[], parity=[]).code == ExitCode.INCOMPLETE
    assert judged(parity=[]).code == ExitCode.INCOMPLETE


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        pytest.param("invalid", "differences", ExitCode.INTEGRITY, id="invalid-over-settings"),
        pytest.param("invalid", "crashed", ExitCode.INTEGRITY, id="invalid-over-crash"),
        pytest.param("invalid", "parity", ExitCode.INTEGRITY, id="invalid-over-parity"),
        pytest.param("differences", "parity", ExitCode.INCOMPLETE, id="settings-over-parity"),
        pytest.param("crashed", "parity", ExitCode.INCOMPLETE, id="crash-over-parity"),
    ],
)
def test_first_gate_decides(first, second, code):
    """What makes a comparison void hides what was compared."""
    faults = {first, second}
    trials = with_row(0, TRIALS, invalid="contradiction") if "invalid" in faults else TRIALS
    if "crashed" in faults:
        trials = with_row(2, trials, outcome=Outcome.OOM, reason="full")
    parity = with_row(0, ROWS, relative_l2=1.0) if "parity" in faults else ROWS

    assert judged(trials, unexpected() if "differences" in faults else (), parity).code == code


@given(st.sets(st.integers(0, len(TRIALS) + len(ROWS) - 1), min_size=1))
def test_less_evidence_never_passes(removed):
    """Whatever part of the evidence is taken away, the rest is not enough."""
    trials = [row for i, row in enumerate(TRIALS) if i not in removed]
    parity = [row for i, row in enumerate(ROWS) if i + len(TRIALS) not in removed]

    assert judged(trials, (), parity).verdict != Verdict.PASS


@pytest.mark.slow
@given(st.randoms())
def test_order_of_the_evidence_does_not_matter(shuffle):
    """Rows in any order give the same judgement."""
    trials, parity = list(TRIALS), list(ROWS)
    shuffle.shuffle(trials)
    shuffle.shuffle(parity)

    assert judged(trials, (), parity) == judged()
