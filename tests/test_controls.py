"""Controls: a gate that lets a model pass which differs proves nothing, and says so."""

import re
from dataclasses import replace

import pytest

from harness.errors import ExitCode
from harness.judging.gates import judge
from harness.records import Role, Side, Verdict
from tests.fakes import samples

pytestmark = pytest.mark.unit

NAN, INF = float("nan"), float("inf")
SIDE = Side(environment="flashdreams", overrides=(("weights_seed", 1),))
CONTROL = samples.trial(Role.CONTROL, SIDE)
CELL = replace(samples.cell(), controls=(SIDE,), trials=(*samples.cell().trials, CONTROL))
TRIALS = [samples.trial_row(trial) for trial in CELL.trials]


def controls(*errors):
    """Distance of the control at AR 0, 1, ...; None leaves an AR step out. The floor is 0.01."""
    row = samples.parity_row(comparison="control", candidate_trial=CONTROL.trial_id)
    return [replace(row, ar=n, relative_l2=e) for n, e in enumerate(errors) if e is not None]


def judged(*errors, cell=CELL, trials=TRIALS, parity=None):
    """The judgement of the sample cell with one control."""
    rows = samples.parity_rows() if parity is None else parity
    return judge(cell, trials, (), [*rows, *controls(*errors)])


@pytest.mark.parametrize("errors", [(0.021, 0.5, 1.4), (NAN, INF, 0.3)], ids=["far", "no-number"])
def test_control_beyond_the_limit_passes(errors):
    """A control that differs at every AR step shows that the gate can fail; NaN is no output."""
    judgement = judged(*errors)

    assert (judgement.verdict, judgement.code) == (Verdict.PASS, ExitCode.PASS)
    assert "worst 1.50x" in judgement.reason, "the control's own distance is no error"


@pytest.mark.parametrize("ar", [0, 1, 2])
@pytest.mark.parametrize("error", [0.02, 0.019, 0.0], ids=["at-the-limit", "within", "same"])
def test_control_within_the_limit_at_any_step_is_incomplete(ar, error):
    """One AR step at which the control passes is enough to prove nothing, and is named."""
    judgement = judged(*[error if n == ar else 0.5 for n in range(3)])

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert judgement.reason == (
        "the gate proves nothing here: flashdreams{weights_seed=1} must lie beyond the limit of 2x "
        f"and is {error / 0.01:.2f}x its noise floor at AR {ar}"
    )


@pytest.mark.parametrize("ar", [0, 1, 2])
def test_control_not_compared_is_incomplete(ar):
    """Each of its AR steps has to be compared."""
    judgement = judged(*[None if n == ar else 0.5 for n in range(3)])

    assert judgement.code == ExitCode.INCOMPLETE
    assert judgement.reason.endswith(f"and was not compared at AR {ar}")
    assert judged().code == ExitCode.INCOMPLETE


def test_shorter_control_is_held_to_its_own_length():
    """A control of two AR steps needs no third."""
    short = replace(CONTROL, job=replace(CONTROL.job, ar_steps=2))
    cell = replace(CELL, trials=(*CELL.trials[:-1], short))

    assert judged(0.5, 0.5, cell=cell).verdict == Verdict.PASS
    assert judged(0.5, cell=cell).verdict == Verdict.INCOMPLETE


def test_control_that_did_not_run_is_incomplete():
    """A control is a trial of the plan like any other."""
    judgement = judged(0.5, 0.5, 0.5, trials=TRIALS[:-1])

    assert judgement.code == ExitCode.INCOMPLETE
    assert re.search(r"weights_seed=1.*was not run", judgement.reason)


def test_every_control_counts():
    """A second control within the limit is not hidden by a first one beyond it."""
    other = Side(environment="flashdreams", overrides=(("shift", 5.0),))
    second = samples.trial(Role.CONTROL, other)
    cell = replace(CELL, controls=(SIDE, other), trials=(*CELL.trials, second))
    near = [
        replace(row, candidate_trial=second.trial_id, relative_l2=0.011)
        for row in controls(1, 1, 1)
    ]
    rows = [*samples.parity_rows(), *near]
    judgement = judged(
        0.5, 0.5, 0.5, cell=cell, trials=[*TRIALS, samples.trial_row(second)], parity=rows
    )

    assert judgement.code == ExitCode.INCOMPLETE
    assert "shift=5.0" in judgement.reason


def test_parity_is_judged_before_controls():
    """An output that differs is a failure, whatever the controls are worth."""
    rows = [
        replace(row, relative_l2=0.5) if row.comparison == "pair" else row
        for row in samples.parity_rows()
    ]

    assert judged(0.001, 0.001, 0.001, parity=rows).code == ExitCode.PARITY


def test_given_ar_steps_are_not_asked_of_a_control():
    """What is given is equal by construction: a control is held to what it generates."""
    changes = {"given_frames": 3, "capture_steps": (1, 2)}
    given = [replace(t, job=replace(t.job, **changes)) for t in CELL.trials]
    cell = replace(CELL, trials=tuple(given))
    generated = [row for row in samples.parity_rows() if row.ar]

    judgement = judged(None, 0.5, 0.5, cell=cell, parity=generated)

    assert judgement.verdict == Verdict.PASS
    assert judgement.reason.startswith("every generated AR step within 2x")
    assert judged(None, 0.5, 0.5).verdict == Verdict.INCOMPLETE


def test_planted_fault_counts_from_its_first_ar_step():
    """Before its fault a control is the candidate; from there on it must be seen at every step."""
    late = [replace(t, job=replace(t.job, position_offset=3, from_ar=1)) for t in CELL.trials]
    cell = replace(CELL, trials=tuple(late))

    assert judged(0.01, 0.5, 0.5, cell=cell).verdict == Verdict.PASS
    assert "at AR 2" in judged(0.01, 0.5, 0.01, cell=cell).reason
    assert "at AR 0" in judged(0.01, 0.5, 0.5).reason
