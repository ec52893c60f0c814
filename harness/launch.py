"""Runs one trial and turns every way it can end into a row; the only place that does so."""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from harness import telemetry
from harness.environments import BuiltEnvironment
from harness.evidence import LOG_FILE, TrialRecord, TrialResult, read_trial, write_record
from harness.records import Outcome, PlannedTrial, TrialRow
from harness.sandboxes.process import ProcessSandbox
from harness.schema import SCHEMA_VERSION
from runners.protocol import wire

_POLL_S = 0.2
_MAX_REASON = 300
"""Characters of a log line that a reason quotes."""
_OOM_SIGNS = (b"OutOfMemoryError", b"CUDA out of memory", b"Cannot allocate memory")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a trial is given up."""

    wall_s: float = 3600.0
    stall_s: float = 900.0
    """Longest time without a new AR step, start-up included."""


class Watcher(Protocol):
    """Is told what a running trial does."""

    def trial_started(self, trial: PlannedTrial) -> None:
        """A trial was launched."""

    def step_done(self, trial: PlannedTrial, ar: int, total_ms: float) -> None:
        """An AR step ended after ``total_ms``, KV update included."""

    def trial_ended(self, trial: PlannedTrial, row: TrialRow) -> None:
        """A trial ended."""


def launch(
    trial: PlannedTrial,
    environment: BuiltEnvironment,
    work: Path,
    watcher: Watcher,
    limits: Limits,
) -> TrialResult:
    """Run a trial in its job folder ``work`` to its end, whatever that is.

    Raises:
        OSError: The disk is full.
        KeyboardInterrupt: The user stopped it; its process group is gone when this is raised.
    """
    job = replace(trial.job, nonce=secrets.token_hex(16))
    work.mkdir(parents=True)
    work = work.resolve()
    wire.write_json(work / wire.JOB_FILE, job)
    watcher.trial_started(trial)
    started, started_s = _now(), time.monotonic()
    with telemetry.watching(work, job.gpus) if job.telemetry else nullcontext():
        ended = _run(trial, job, environment, work, watcher, limits)
    record = TrialRecord(
        schema=SCHEMA_VERSION,
        trial_id=trial.trial_id,
        cell_id=trial.cell_id,
        role=trial.role,
        side=str(trial.side),
        process=trial.process,
        outcome=ended.outcome,
        reason=ended.reason,
        exit_status=ended.status,
        wall_s=time.monotonic() - started_s,
        first_step_s=ended.first_step_s,
        started=started,
        ended=_now(),
        environment_digest=environment.digest,
        code_digest=environment.code_digest,
        files={},
        captures={},
    )
    result = read_trial(work, write_record(work, record))
    watcher.trial_ended(trial, result.row)
    return result


def _run(
    trial: PlannedTrial,
    job: wire.Job,
    environment: BuiltEnvironment,
    work: Path,
    watcher: Watcher,
    limits: Limits,
) -> "_Ended":
    """Start and follow the process to its end."""
    command = environment.command(job.slug, work / wire.JOB_FILE, job.gpus)
    try:
        sandbox = ProcessSandbox(command, environment.variables(), work)
    except OSError as error:
        return _Ended(Outcome.FAILED, f"cannot be started: {error}", -1, None)
    follower = _Follower(sandbox, trial, job, work, watcher)
    try:
        status, timed_out = follower.follow(limits)
    finally:
        sandbox.stop()
    outcome, reason = _classify(status, timed_out, work / LOG_FILE)
    return _Ended(outcome, reason, status, follower.first_step_s)


class _Ended(NamedTuple):
    """How a process ended."""

    outcome: Outcome
    reason: str
    status: int
    first_step_s: float | None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Follower:
    """Follows one trial step by step."""

    def __init__(
        self,
        sandbox: ProcessSandbox,
        trial: PlannedTrial,
        job: wire.Job,
        work: Path,
        watcher: Watcher,
    ) -> None:
        self._sandbox, self._trial, self._job = sandbox, trial, job
        self._work, self._watcher = work, watcher
        self._seen, self._last_step_s = 0, 0.0
        self.first_step_s: float | None = None

    def follow(self, limits: Limits) -> tuple[int, str]:
        """Wait until the trial ends or is stopped; returns its status and why it was stopped."""
        while True:
            status = self._sandbox.wait(_POLL_S)
            self._report_steps()
            wall_s = self._sandbox.wall_s
            if status is not None:
                return status, ""
            if wall_s > limits.wall_s:
                return self._sandbox.stop(), f"longer than {limits.wall_s:.0f} s"
            if wall_s - self._last_step_s > limits.stall_s:
                why = f"no new AR step for {limits.stall_s:.0f} s, {self._seen} seen"
                return self._sandbox.stop(), why

    def _report_steps(self) -> None:
        for event in list(_steps_so_far(self._work, self._job))[self._seen :]:
            total_ms = sum(event.stages_ms.values())
            self._watcher.step_done(self._trial, event.ar, total_ms)
            self._seen, self._last_step_s = self._seen + 1, self._sandbox.wall_s
            if self.first_step_s is None:
                self.first_step_s = self._last_step_s


def _steps_so_far(work: Path, job: wire.Job) -> Iterator[wire.StepEvent]:
    """Steps for the display; what is wrong with them is found when the trial has ended."""
    try:
        for event in wire.read_events(work / wire.EVENTS_FILE, job.nonce):
            if isinstance(event, wire.StepEvent):
                yield event
    except (FileNotFoundError, wire.WireError):
        return


def _classify(status: int, timed_out: str, log: Path) -> tuple[Outcome, str]:
    if timed_out:
        return Outcome.TIMED_OUT, timed_out
    if status == 0:
        return Outcome.COMPLETED, ""
    tail = log.read_bytes()[-65536:] if log.is_file() else b""
    # The last line with words in it: some programs draw a box around their message.
    lines = [
        line for line in tail.decode("utf-8", "replace").splitlines() if re.search(r"\w", line)
    ]
    last = lines[-1].strip("│ ")[-_MAX_REASON:] if lines else "no output"
    if any(sign in tail for sign in _OOM_SIGNS):
        return Outcome.OOM, last
    if status < 0:
        return Outcome.KILLED, f"signal {-status}; last line: {last}"
    return Outcome.FAILED, f"exit status {status}; last line: {last}"
