"""Weights that each process makes on its device: all trials of a cell make the same."""

from dataclasses import replace

import pytest

from harness.errors import ExitCode
from harness.judging.cell_verdict import judge_cell
from harness.records import Role, Verdict
from harness.trials.evidence import TrialResult
from tests.fakes import samples

pytestmark = pytest.mark.unit

CELL = samples.cell()
MADE = replace(
    CELL,
    trials=tuple(replace(t, job=replace(t.job, weights_from="device")) for t in CELL.trials),
)


def judged(cell, other_role, tmp_path, **changes):
    """The verdict where the trials of one role have other weights."""
    results = {}
    for trial in cell.trials:
        digest = "other" if trial.role == other_role else "one"
        results[trial.trial_id] = TrialResult(
            row=samples.trial_row(trial),
            steps=(),
            settings=samples.settings(weights_sha256=digest, **changes),
            captures=(),
        )
    return judge_cell(cell, results, tmp_path, samples.parity_rows()).pair


@pytest.mark.parametrize("role", [Role.FLOOR, Role.REFERENCE, Role.CANDIDATE])
def test_other_weights_of_any_trial_decide_the_cell(tmp_path, role):
    """A noise floor of other weights would let any candidate pass."""
    pair = judged(MADE, role, tmp_path)

    assert (pair.verdict, pair.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert "made different weights from one seed on this device" in pair.reason


def test_equal_weights_pass(tmp_path):
    """All have made the same."""
    assert judged(MADE, None, tmp_path).verdict == Verdict.PASS


def test_control_with_another_seed_has_other_weights(tmp_path):
    """What differs by design is not held to the others."""
    control = samples.trial(Role.CONTROL, CELL.candidate)
    job = replace(control.job, weights_from="device", weights_seed=1)
    cell = replace(MADE, trials=(*MADE.trials, replace(control, job=job)))

    pair = judged(cell, Role.CONTROL, tmp_path)

    assert "different weights" not in pair.reason
