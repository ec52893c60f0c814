"""What a verdict says, word by word: it is what people act on."""

from dataclasses import replace

import pytest

from harness.errors import ExitCode
from harness.judging import gates
from harness.records import Verdict
from harness.trials.matching import compare, describe
from tests.fakes import samples
from tests.test_gates import ROWS, TRIALS, judged
from tests.test_report import pair_row

pytestmark = pytest.mark.unit


def of_jobs(**changes):
    """The sample cell with other jobs."""
    cell = samples.cell()
    trials = [replace(trial, job=replace(trial.job, **changes)) for trial in cell.trials]
    return replace(cell, trials=tuple(trials))


def test_pass():
    """Every AR step, the limit and the worst ratio."""
    assert judged().reason == "every AR step within 2x its noise floor; worst 1.50x"


def test_cell_that_captures_nothing_passes_nothing():
    """Where no output was asked for, none proves anything."""
    cell, trials = of_jobs(capture_steps=()), TRIALS
    judgement = gates.judge(cell, trials, (), ())

    assert (judgement.verdict, judgement.code) == (Verdict.INCOMPLETE, ExitCode.INCOMPLETE)
    assert judgement.reason == "no output was compared"


def test_settings():
    """Every difference that has no reason, one after the other."""
    found = compare(samples.settings(), samples.settings(dtype="float32", guidance=2.0), {})
    assert len(found) == 2

    said = "; ".join(describe(one) for one in found)
    assert judged(differences=found).reason == (f"settings differ, so nothing was compared: {said}")


def test_missing_noise_floor():
    """There is no size of what is not there."""
    parity = [row for row in ROWS if row.comparison != "floor"]

    assert judged(parity=parity).reason == "AR 0 has no noise floor to be judged by"


@pytest.mark.parametrize(
    ("capture", "what"), [("latents", "outputs"), ("frames", "decoded frames")]
)
def test_difference(capture, what):
    """Latents and frames are called different things."""
    parity = [replace(row, capture=capture) for row in ROWS]
    parity[0] = replace(parity[0], relative_l2=0.05)

    assert judged(parity=parity).reason == (
        f"{what} differ from AR 0 on: relative L2 5.00e-02, 5.0x the noise floor 1.00e-02 "
        "(limit 2x)"
    )


def test_output_that_was_not_compared():
    """The first one is named: latents before frames."""
    decoding = of_jobs(decoder="taehv")
    without = [row for row in ROWS if row.ar or row.candidate_trial != "candidate.flashdreams.1"]

    assert judged(parity=without).reason == "AR 0 of candidate.flashdreams.1 was not compared"
    assert gates.judge(decoding, TRIALS, (), ROWS).reason == (
        "AR 0 frames of candidate.flashdreams.0 were not compared"
    )


def test_verdict_that_its_evidence_does_not_bear_out():
    """It is neither kept nor called a failure of the candidate."""
    before = pair_row()
    after = gates.distrusted(before, "its distances are lost")

    assert (after.verdict, after.exit_code) == (Verdict.INCOMPLETE, ExitCode.INTEGRITY)
    assert after.reason == "its distances are lost"
    told = {"verdict": before.verdict, "exit_code": before.exit_code, "reason": before.reason}
    assert replace(after, **told) == before


def test_given_ar_steps_are_said_to_be():
    """A recipe that starts from given frames generates fewer AR steps than it runs."""
    parity = [row for row in ROWS if row.ar]
    given, cut = (of_jobs(capture_steps=(1, 2), given_frames=frames) for frames in (3, 0))

    said = [gates.judge(cell, TRIALS, (), parity).reason for cell in (given, cut)]
    assert said[0].startswith("every generated AR step within 2x")
    assert said[1].startswith("every captured AR step within 2x")
