"""What goes wrong in a side, and what a hostile one tries: it ends as what it is.

In both sandboxes. docs/RELIABILITY.md has the table; what goes wrong around a side is in
tests/test_lost_engine.py and tests/test_killed_harness.py.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.errors import EnvironmentFault
from harness.machine.owners import OWNER, owner_label
from harness.records import Outcome
from harness.sandboxes import engine
from harness.trials import inputs
from harness.trials.launch import Grant, Limits
from tests.fakes import samples
from tests.fakes.listener import Listener

pytestmark = pytest.mark.contract

MIB = 1 << 20
SECRET = "canary-0123456789abcdef"


only_in_docker = pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
"""A process has no limit on memory, no network of its own and no read-only root."""


class Killer(Listener):
    """Kills the container of the trial at its first step, as somebody at the machine might."""

    def step_done(self, trial, ar, total_ms):
        """Kill it."""
        super().step_done(trial, ar, total_ms)
        api = engine.connect().api
        (mine,) = api.containers(filters={"label": f"{OWNER}={owner_label()}"})
        api.kill(mine["Id"])


@only_in_docker
def test_container_killed_mid_step(run):
    """A container that somebody kills was killed: not slow, not wrong, its steps no rows."""
    result = run("waits", watcher=Killer())

    assert result.row.outcome == Outcome.KILLED
    assert result.row.reason.startswith("signal 9")
    assert (result.row.exit_status, result.row.ar_steps, result.steps) == (-9, 1, ())


@only_in_docker
def test_side_out_of_memory(run):
    """The kernel's kill of the side is an OOM, whatever its exit status looks like."""
    row = run("eats_memory", limits=Limits(wall_s=60, stall_s=60, memory_bytes=128 * MIB)).row

    assert row.outcome == Outcome.OOM
    assert "the kernel killed a process for memory" in row.reason
    assert row.ar_steps == 1


@only_in_docker
def test_child_out_of_memory_is_no_success(run, tmp_path):
    """A side that lost a child to the kernel and exits 0 after all its steps did not complete."""
    limits = Limits(wall_s=60, stall_s=60, memory_bytes=128 * MIB)
    result = run("lets_a_child_eat_memory", limits=limits)

    assert (tmp_path / "work" / "child").read_text() == "-9"
    assert result.row.exit_status == 0
    assert result.row.outcome == Outcome.OOM
    assert result.steps == ()


def test_full_gpu_is_an_outcome_of_its_own(run):
    """PyTorch's message counts where the job was not done, with exit status 0 too."""
    row = run("reports_a_full_gpu").row

    assert row.outcome == Outcome.OOM
    assert "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.80 GiB" in row.reason


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "seen"), [("hangs", 1), ("chatters", 0)])
def test_hang_leaves_its_stacks(run, tmp_path, behaviour, seen):
    """A side that hangs, silent or chattering, says where before it is stopped."""
    row = run(behaviour, limits=Limits(wall_s=30, stall_s=4)).row
    log = (tmp_path / "work" / "log.txt").read_text()

    assert row.reason == f"no new AR step for 4 s, {seen} seen"
    assert row.outcome == Outcome.TIMED_OUT
    assert "Fatal Python error: Aborted" in log
    assert 'steps.py", line' in log
    assert f"in {behaviour}" in log
    assert ('File "<string>", line 1 in <module>' in log) == (behaviour == "hangs")  # its child


def test_log_flood_is_stopped_and_cut(run, tmp_path):
    """A gigabyte of output ends the trial near the limit; what is kept is not longer than that."""
    begun = time.monotonic()
    row = run("floods", limits=Limits(wall_s=60, stall_s=60, log_bytes=8 * MIB)).row

    assert row.outcome == Outcome.FAILED
    assert row.reason == "its log is longer than 8 MiB"
    assert (tmp_path / "work" / "log.txt").stat().st_size == 8 * MIB
    assert time.monotonic() - begun < 30


def test_half_a_character_at_the_end(run):
    """A log that ends inside a character is a log like any other."""
    result = run("ends_in_half_a_character")

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert [step.ar for step in result.steps] == [0, 1, 2]


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        pytest.param(
            "cuts_its_last_line", "in the middle of a step line after AR 1", id="truncated"
        ),
        pytest.param("repeats_a_line", "AR 1", id="duplicated"),
        pytest.param("mixes_up_lines", "AR 2 stands before AR 1 in the log", id="out-of-order"),
        pytest.param("forges_steps", "AR 0", id="forged-lines"),
        pytest.param("forges_events", "foreign nonce", id="forged-events"),
    ],
)
def test_steps_that_are_not_the_trials_are_invalid(run, behaviour, said):
    """Whatever is wrong with the steps of a log is named, and no step of it counts."""
    result = run(behaviour)

    assert said in result.row.invalid
    assert result.steps == ()


def test_link_in_the_job_folder_is_not_kept(run, tmp_path):
    """A link is removed unread, and a side that leaves one has not completed."""
    row = run("leaves_a_link").row

    assert row.outcome == Outcome.FAILED
    assert "link or special file in its job folder: 'latents.safetensors'" in row.reason
    assert not os.path.lexists(tmp_path / "work" / "latents.safetensors")


def test_log_that_became_a_link_is_not_quoted(run):
    """No file of the machine's gets into a reason."""
    row = run("makes_its_log_a_link").row

    assert row.outcome == Outcome.FAILED
    assert "root" not in row.reason
    assert "no output" in row.reason


def test_pipe_does_not_hold_the_harness(run, tmp_path):
    """Events that became a pipe keep nobody waiting."""
    row = run("makes_its_events_a_pipe").row

    assert row.outcome == Outcome.FAILED
    assert row.wall_s < 20
    assert not (tmp_path / "work" / "events.jsonl").exists()


def test_folder_in_place_of_events_is_no_fault_of_the_harness(run):
    """Events that became a folder are none, and the trial has its row."""
    row = run("makes_its_events_a_folder").row

    assert (row.outcome, row.ar_steps) == (Outcome.FAILED, 0)


def test_endless_settings_are_not_read(run):
    """A terabyte of settings is refused by its size."""
    row = run("writes_endless_settings").row

    assert (row.outcome, row.reason) == (Outcome.FAILED, "its settings.json is longer than 1 MiB")


def test_control_characters_stay_in_the_log(run, tmp_path):
    """What steers a terminal or turns text is in no reason, and in the evidence as it was."""
    row = run("steers_the_terminal").row

    assert "evil" in row.reason
    assert all(character.isprintable() for character in row.reason)
    assert b"\x1b[2J" in (tmp_path / "work" / "log.txt").read_bytes()


def test_tabs_of_a_message_are_spaces(run):
    """A tab steers nothing: no reason begins with the mark of what was taken out."""
    assert run("fails_with_indented_words").row.reason == (
        "exit status 1; last line: size mismatch for a.weight"
    )


@pytest.mark.parametrize("named", [True, False], ids=["given", "withheld"])
def test_variable_reaches_a_side_by_name_only(run, monkeypatch, named):
    """A variable of the harness is there for a side if the user named it, else not."""
    monkeypatch.setenv("CANARY_TOKEN", SECRET)
    grant = Grant(variables={"CANARY_TOKEN": SECRET}) if named else Grant()
    row = run("tells_its_secret", grant=grant).row

    assert (row.outcome == Outcome.COMPLETED) is named
    assert ("KeyError: 'CANARY_TOKEN'" in row.reason) is not named


@pytest.mark.parametrize("behaviour", ["tells_its_secret", "fails_with_its_secret"])
def test_secret_is_in_no_file(run, tmp_path, monkeypatch, behaviour):
    """Its value is overwritten in log, events and records; byte ranges of steps still hold."""
    monkeypatch.setenv("CANARY_TOKEN", SECRET)
    result = run(behaviour, grant=Grant(variables={"CANARY_TOKEN": SECRET}))
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    log = (tmp_path / "work" / "log.txt").read_bytes()

    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in repr(result)
    assert "*" * len(SECRET) in log.decode()
    assert [log[s.byte_start : s.byte_end].split()[1] for s in result.steps] == [
        str(step.ar).encode() for step in result.steps
    ]


@only_in_docker
def test_side_in_a_container_has_nothing_it_needs_not(run, tmp_path):
    """No network, no privilege, no other user's file; only job folder and scratch are writable."""
    (tmp_path / "weights").write_text("weights")
    row = run("looks_around", limits=Limits(wall_s=30, stall_s=30, memory_bytes=512 * MIB)).row
    seen = json.loads((tmp_path / "work" / "seen.json").read_text())
    refused = {what: said for what, said in seen.items() if what.startswith(("write", "remove"))}

    assert (row.outcome, row.invalid) == (Outcome.COMPLETED, "")
    assert refused.pop("write home") == "yes"
    assert set(refused.values()) <= {
        "Read-only file system",
        "Permission denied",
        "Device or resource busy",
    }
    assert seen["become root"] == "Operation not permitted"
    assert seen["user"] == (os.geteuid() or 65532)
    assert (seen["capabilities"], seen["no new privileges"], seen["seccomp"]) == (0, "1", "2")
    assert seen["networks"] == ["lo"]
    assert seen["sockets"] == []
    assert not {"sda", "vda", "kvm", "mem", "nvidia0"} & set(seen["devices"])
    assert (seen["tmp"], seen["shm"], seen["cores"]) == (256 * MIB, 256 * MIB, ["0", "0"])
    assert (tmp_path / "weights").read_text() == "weights"
    assert not (tmp_path / "escaped").exists()


def test_trials_leave_no_thread_and_no_descriptor(run, tmp_path):
    """A trial that ended has given back everything it took of the harness."""

    def taken():
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    run("completes")
    after_one = taken()
    for _ in range(3):
        shutil.rmtree(tmp_path / "work")
        run("completes")

    assert taken() == after_one


def test_altered_weights_are_refused(flashdreams_env, tmp_path):
    """A side hashes the bytes that it loads; others than the job's stop it, naming both digests."""
    (tmp_path / "weights").write_bytes(b"other bytes")
    code = (
        "from runners.protocol import seeded_inputs, wire\n"
        f"other = wire.Artifact(path={str(tmp_path / 'weights')!r}, sha256='aa')\n"
        "seeded_inputs.load_artifact(other)"
    )
    done = subprocess.run(
        [flashdreams_env.folder / "bin" / "python", "-c", code],
        env=flashdreams_env.variables(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "InputMismatchError" in done.stderr
    assert "the job says aa" in done.stderr


def test_altered_inputs_in_the_cache_stop_the_run(flashdreams_env, tmp_path, monkeypatch):
    """What was made is told from what lies there now; once deleted it is made again, the same."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path))
    trial = samples.trial()
    made = inputs.prepare(trial, flashdreams_env).job
    weights, noise = Path(made.weights.path), Path(made.noise.path)
    begun = noise.stat()
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(EnvironmentFault, match=f"{weights} is not what was made there"):
        inputs.prepare(trial, flashdreams_env)

    weights.unlink()
    again = inputs.prepare(trial, flashdreams_env).job

    assert again == made
    assert weights.read_bytes() == whole
    assert noise.stat() == begun, "only what is missing is made"
