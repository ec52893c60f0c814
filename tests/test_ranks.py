"""A trial of several GPUs: one rank each under torchrun, which a CPU can do through gloo."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from harness.environments.declared import PROJECT_DIR, Environment, command_words
from harness.records import Outcome
from harness.trials.launch import Limits, launch
from tests.fakes import samples
from tests.test_launch import Listener

pytestmark = pytest.mark.unit

FAKES = Path(__file__).parent / "fakes"
DECLARED = Environment(
    description="ranks",
    packages=[],
    command=["python", "adapter.py", "{job}"],
    variables={"FAKE_SIDE": "completes"},
)


@pytest.fixture
def ranked(flashdreams_env, tmp_path):
    """The candidate's environment, whose torch has gloo, with a side of several ranks."""
    code = tmp_path / "code"
    shutil.copytree(PROJECT_DIR / "runners" / "protocol", code / "runners" / "protocol")
    shutil.copyfile(FAKES / "ranks.py", code / "adapter.py")
    shutil.copyfile(FAKES / "steps.py", code / "steps.py")
    return dataclasses.replace(flashdreams_env, declared=DECLARED, code=code)


def test_a_job_gets_as_many_ranks_as_it_has_gpus(ranked, tmp_path):
    """Every rank takes part, and rank 0's steps and events are the trial's."""
    trial = samples.trial(gpus=2, ranks=2)

    result = launch(trial, ranked, tmp_path / "work", Listener(), Limits(wall_s=60, stall_s=60))

    assert (result.row.outcome, result.row.reason) == (Outcome.COMPLETED, "")
    assert [step.ar for step in result.steps] == list(range(trial.job.ar_steps))


def test_the_published_launcher_is_used():
    """FlashDreams' command is started as its page starts it: ``torchrun --no-python``."""
    declared = dataclasses.replace(DECLARED, command=["flashdreams-run", "{slug}"])

    assert command_words(declared, 4) == [
        *("torchrun", "--nproc_per_node=4", "--no-python"),
        *("flashdreams-run", "{slug}"),
    ]
    assert command_words(declared, 1) == ["flashdreams-run", "{slug}"]
