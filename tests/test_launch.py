"""One trial, every way it can end: a row with a reason, and no process left."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import pytest

from harness.records import Outcome
from harness.trials.launch import Limits, launch
from tests.fakes import samples
from tests.fakes.listener import Listener

pytestmark = pytest.mark.contract

GENEROUS = Limits(wall_s=30, stall_s=30)


class ImpatientListener(Listener):
    """A user who stops the trial at its first step, and again while it is being stopped."""

    def step_done(self, trial, ar, total_ms):
        """Interrupt now, and once more in a moment."""
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        raise KeyboardInterrupt


def test_completed_trial_leaves_everything(run, tmp_path):
    """A trial that did its job has a row, a step row per AR step, its settings and its facts."""
    result = run("completes")
    row = result.row

    assert (row.outcome, row.reason, row.invalid) == (Outcome.COMPLETED, "", "")
    assert (row.exit_status, row.ar_steps, json.loads(row.facts)) == (0, 3, {"fake": "1"})
    assert result.settings is not None
    assert json.loads(row.settings)["ar_steps"] == 3
    assert 0 < row.wall_s < 30
    assert [step.ar for step in result.steps] == [0, 1, 2]
    assert [step.phase for step in result.steps] == ["filling", "filling", "steady"]
    assert {step.denoise_ms for step in result.steps} == {(171.0, 171.0)}


def test_graph_that_never_came_leaves_no_steady_step(run):
    """The job asks for a CUDA graph; what the side saw of it counts."""
    result = run("captures_no_graph", cuda_graph=True)

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert [step.phase for step in result.steps] == ["filling", "filling", "capture"]


def test_first_step_is_timed_from_the_launch(run):
    """What a user waits for ends with the first AR step, not with the trial."""
    row = run("sleeps_after_its_first_step").row

    assert row.outcome == Outcome.COMPLETED
    assert 0 < row.first_step_s < row.wall_s - 0.4


@pytest.mark.parametrize("behaviour", ["raises", "no_such_behaviour"])
def test_trial_without_a_step_has_no_first_step(run, behaviour):
    """A trial that got to no AR step kept nobody waiting for one."""
    assert run(behaviour).row.first_step_s is None


def test_step_row_points_into_the_log(run, tmp_path):
    """The byte range of a step row holds its line of the log that is kept."""
    steps = run("completes").steps
    log = (tmp_path / "work" / "log.txt").read_bytes()

    assert [log[s.byte_start : s.byte_end].split()[:2] for s in steps] == [
        [b"AR", str(step.ar).encode()] for step in steps
    ]


def test_nonce_is_new_for_every_trial(run, tmp_path):
    """The planned job's nonce is not the one that runs."""
    run("completes")
    job = json.loads((tmp_path / "work" / "job.json").read_text())

    assert len(job["nonce"]) == 32
    assert job["nonce"] != samples.NONCE


def test_watcher_hears_every_step_once(run):
    """Started, each AR step in order, ended."""
    watcher = Listener()
    run("completes", watcher=watcher)

    assert watcher.told == ["started", 0, 1, 2, "completed"]


@pytest.mark.parametrize("behaviour", ["echoes_its_prompt", "prints_an_endless_line"])
def test_noise_in_the_log_changes_nothing(run, behaviour):
    """A prompt that quotes a step, or megabytes without a line end, is not in the way."""
    result = run(behaviour)

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert [step.ar for step in result.steps] == [0, 1, 2]


def test_times_may_differ_by_what_two_clocks_do(run):
    """Half a per cent, or 50 microseconds, is within the tolerance."""
    assert run("prints_rounded_times").row.invalid == ""


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        pytest.param("loses_a_line", "AR 1 is missing", id="line-lost"),
        pytest.param("loses_the_last_line", "AR 2 is missing from the log", id="last-line-lost"),
        pytest.param("prints_other_times", "AR 1 diffuse: 336.832", id="other-times"),
        pytest.param("repeats_an_event", "AR 1", id="event-twice"),
        pytest.param("runs_too_long", "AR 3", id="a-step-too-many"),
        pytest.param("miscounts", "4", id="miscounted"),
        pytest.param("draws_too_little", "5 tensors were drawn", id="noise-draws"),
        pytest.param("loses_a_denoising_step", "1 denoising steps, not 2", id="denoising-step"),
        pytest.param("denoises_too_long", "take longer than its diffuse", id="denoising-time"),
        pytest.param("steals_a_nonce", "foreign nonce", id="foreign-nonce"),
        pytest.param("writes_infinity", "diffuse", id="infinite-time"),
        pytest.param("writes_deep_json", "not JSON", id="deep-json"),
        pytest.param("writes_binary_settings", "settings.json", id="binary-settings"),
    ],
)
def test_evidence_that_contradicts_itself_is_invalid(run, tmp_path, behaviour, said):
    """A trial whose log, events and settings do not agree says which, and gives no step."""
    result = run(behaviour)

    assert said in result.row.invalid
    assert str(tmp_path) not in result.row.invalid
    assert result.steps == ()


@pytest.mark.parametrize(
    ("behaviour", "outcome", "said"),
    [
        pytest.param("loses_an_event", "failed", "AR 1 is missing: ran 2 of 3", id="event-lost"),
        pytest.param("skips_a_step", "failed", "AR 1 is missing: ran 2 of 3", id="step-skipped"),
        pytest.param("writes_no_settings", "failed", "settings", id="no-settings"),
        pytest.param("writes_no_end", "failed", "end event", id="no-end"),
        pytest.param("raises", "failed", "ValueError: no such checkpoint", id="exception"),
        pytest.param("runs_out_of_memory", "oom", "Tried to allocate 2.00 GiB", id="oom"),
        pytest.param("kills_itself", "killed", "signal 9", id="killed"),
        pytest.param("fails_with_an_endless_line", "failed", "exit status 1", id="endless"),
        pytest.param("no_such_behaviour", "failed", "KeyError", id="adapter-broken"),
    ],
)
def test_trial_that_did_not_complete_says_why(run, behaviour, outcome, said):
    """However a side ends, its row has the outcome and a reason short enough to read."""
    result = run(behaviour)

    assert result.row.outcome == outcome
    assert said in result.row.reason
    assert len(result.row.reason) < 1000
    assert result.steps == ()


def test_steps_before_a_failure_are_counted(run):
    """A trial that ran out of memory after one step says how far it came."""
    assert run("runs_out_of_memory").row.ar_steps == 1


def test_trial_without_its_log_is_invalid(run):
    """A side that deletes the log has no evidence, and still has a row."""
    row = run("removes_its_log").row

    assert "log" in row.invalid
    assert row.log_sha256 == ""


def test_other_ranks_are_kept_beside_rank_0(run):
    """Slower ranks have rows of their own; only rank 0 is confirmed by events."""
    result = run("prints_another_rank")

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert [step.ar for step in result.steps if step.rank == 0] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [pytest.param("hangs", 1, id="silent"), pytest.param("chatters", 0, id="chatter")],
)
def test_stalled_trial_is_stopped(run, behaviour, seen):
    """Without a new AR step a trial is given up, however much it prints."""
    row = run(behaviour, limits=Limits(wall_s=30, stall_s=3)).row

    assert row.outcome == Outcome.TIMED_OUT
    assert row.reason == f"no new AR step for 3 s, {seen} seen"
    assert row.exit_status < 0


def test_long_trial_is_stopped(run):
    """The limit on the whole trial holds beside the one on a step."""
    row = run("chatters", limits=Limits(wall_s=0.3, stall_s=30)).row

    assert row.outcome == Outcome.TIMED_OUT
    assert row.reason.startswith("longer than")


@pytest.mark.slow
def test_stopped_trial_leaves_no_process(run, tmp_path, monkeypatch, sandbox, survivors):
    """The whole group is gone, a grandchild and a side that ignores SIGTERM included."""
    monkeypatch.setattr(f"harness.sandboxes.{sandbox}.GRACE_S", 0.2)
    run("hangs_deaf", limits=Limits(wall_s=30, stall_s=3))

    assert survivors() == []


def test_completed_trial_leaves_no_process(run, tmp_path, survivors):
    """A child that outlives its side does not outlive the trial."""
    assert run("leaves_a_child").row.outcome == Outcome.COMPLETED
    assert survivors() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_trial_leaves_no_process(run, tmp_path, error, survivors):
    """When the user stops a run, or a watcher breaks, the side goes with it."""
    with pytest.raises(error):
        run("hangs", watcher=Listener(at_step=error()))

    assert survivors() == []


def test_second_interrupt_leaves_no_process(run, tmp_path, survivors):
    """Ctrl-C again, while a deaf side is given its time, does not save it."""
    with pytest.raises(KeyboardInterrupt):
        run("hangs_deaf", watcher=ImpatientListener())
    signal.setitimer(signal.ITIMER_REAL, 0)

    assert survivors() == []


def test_side_is_asked_before_it_is_killed(run, tmp_path, survivors):
    """A side that handles SIGTERM has the time to tidy up."""
    with pytest.raises(KeyboardInterrupt):
        run("hangs_and_tidies_up", watcher=Listener(at_step=KeyboardInterrupt()))

    assert (tmp_path / "work" / "tidied").exists()
    assert survivors() == []


def test_environment_without_its_program_is_a_row(environment, trial, tmp_path):
    """A command that cannot be started is a failed trial, not a traceback."""
    broken = environment("completes")
    gone = dataclasses.replace(broken.declared, command=["/gone/python", "adapter.py", "{job}"])
    broken = dataclasses.replace(broken, declared=gone)
    row = launch(trial(), broken, tmp_path / "work", Listener(), GENEROUS).row

    assert row.outcome == Outcome.FAILED
    assert "/gone/python" in row.reason


def test_relative_job_folder_is_found(environment, trial, tmp_path, monkeypatch):
    """A run folder may be given relative to the current one."""
    monkeypatch.chdir(tmp_path)
    row = launch(trial(), environment("completes"), Path("runs/work"), Listener(), GENEROUS).row

    assert row.outcome == Outcome.COMPLETED, row.reason


@pytest.mark.parametrize("sandbox", ["process"], indirect=True)
def test_start_that_fails_leaves_no_temporary_folder(run, tmp_path, monkeypatch):
    """A job folder that is gone is a failed trial, and nothing of it stays behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("harness.sandboxes.process.LOG_FILE", "no/such/folder/log.txt")
    row = run("completes").row

    assert (row.outcome, "cannot be started" in row.reason) == (Outcome.FAILED, True)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_every_trial_starts_with_an_empty_temporary_folder(run, tmp_path):
    """What one process compiled must not be there for the next: each one's start is a cold one."""
    found = []
    for _ in range(2):
        assert run("leaves_compiled_code").row.outcome == Outcome.COMPLETED
        found.append(json.loads((tmp_path / "work" / "temporary.json").read_text()))
        shutil.rmtree(tmp_path / "work")

    assert [one["kernels"] for one in found] == [[], []]
    assert not (Path(found[0]["folder"]) / "kernel.cubin").exists()


def test_side_sees_a_clean_environment(run, tmp_path, monkeypatch):
    """Variables of the harness, tokens among them, do not reach a side."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    run("shows_its_environment")
    seen = json.loads((tmp_path / "work" / "environment.json").read_text())

    assert "HF_TOKEN" not in seen
    assert seen["PYTHONPATH"] == str(tmp_path / "code")
    assert seen["HF_HUB_OFFLINE"] == "1"
