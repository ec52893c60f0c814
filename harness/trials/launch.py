"""Runs one trial and turns every way it can end into a row; the only place that does so."""

import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from harness.environments.built import BuiltEnvironment
from harness.errors import in_words
from harness.machine import pressure, telemetry
from harness.records import Outcome, PlannedTrial, TrialRow
from harness.sandboxes import untrusted
from harness.sandboxes.contract import Launch, Sandbox
from harness.sandboxes.start import start_sandbox
from harness.sandboxes.untrusted import LOG_FILE
from harness.store.version import SCHEMA_VERSION
from harness.trials.arrivals import Arrivals
from harness.trials.evidence import TrialResult, read_trial
from harness.trials.trial_record import Arrival, TrialRecord, write_record
from runners.protocol import wire

_POLL_S = 0.2
"""How often limits are looked after; steps and the end are told when they come."""
_MAX_REASON = 300
"""Characters of a log line that a reason quotes."""
_TAIL_BYTES = 1 << 16
_OOM_SIGNS = ("OutOfMemoryError", "CUDA out of memory", "Cannot allocate memory")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a trial is given up."""

    wall_s: float = 3600.0
    stall_s: float = 900.0
    """Longest time without a new AR step, start-up included."""
    log_bytes: int = 256 << 20
    """Longest log; a side that prints more is stopped, and its log cut off there."""
    memory_bytes: int = 0
    """Of a container; 0 is nine tenths of the machine's."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a trial gets beside its environment."""

    gpus: tuple[str, ...] = ()
    """NVML UUIDs."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of the harness that the user named."""


@dataclass(frozen=True, kw_only=True)
class _End:
    """How a side ended, before its evidence is read."""

    status: int
    outcome: Outcome = Outcome.COMPLETED
    """Completed stands for every end that was not the harness's doing."""
    reason: str = ""
    out_of_memory: bool = False
    first_step_s: float | None = None
    arrivals: tuple[Arrival, ...] = ()


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
    grant: Grant | None = None,
) -> TrialResult:
    """Run a trial in its job folder ``work`` to its end, whatever that is.

    Raises:
        OSError: The disk is full.
        EnvironmentFault: What it ran in was lost; that says nothing about the side.
        KeyboardInterrupt: The user stopped it; its processes are gone when this is raised.
    """
    trial = replace(trial, job=replace(trial.job, nonce=secrets.token_hex(16)))
    job, grant = trial.job, grant or Grant()
    work.mkdir(parents=True)
    work = work.resolve()
    wire.write_json(work / wire.JOB_FILE, job)
    watcher.trial_started(trial)
    started, started_s, waits = _now(), time.monotonic(), pressure.read_waits()
    with telemetry.watching(work, job.gpus) if job.telemetry else nullcontext() as counter:
        asked = _ask(trial, environment, work, limits, grant)
        end = _run(_Follower(trial, work, watcher), asked, limits, grant, counter)
    record = TrialRecord(
        schema=SCHEMA_VERSION,
        trial_id=trial.trial_id,
        cell_id=trial.cell_id,
        role=trial.role,
        side=str(trial.side),
        process=trial.process,
        outcome=end.outcome,
        reason=untrusted.printable(end.reason),
        exit_status=end.status,
        wall_s=time.monotonic() - started_s,
        first_step_s=end.first_step_s,
        started=started,
        ended=_now(),
        environment_digest=environment.digest,
        code_digest=environment.code_digest,
        files={},
        captures={},
        launched_at_s=started_s,
        arrivals=end.arrivals,
        waited_us=pressure.waits_since(waits),
    )
    result = read_trial(work, write_record(work, record))
    watcher.trial_ended(trial, result.row)
    return result


def _run(
    follower: "_Follower",
    asked: Launch,
    limits: Limits,
    grant: Grant,
    counter: telemetry.Counter | None,
) -> _End:
    """Start and follow the side to its end, then clear up what it left."""
    job, work = follower.trial.job, asked.folder
    with Arrivals(work, job.ar_steps + 1, follower.ring, counter) as arrivals:
        try:
            sandbox = start_sandbox(asked)
        except OSError as error:
            what = f"{error.filename} cannot be started: {in_words(error)}"
            return _End(status=-1, outcome=Outcome.FAILED, reason=what)
        try:
            end = follower.follow(sandbox, limits)
        finally:
            sandbox.stop()
    end = replace(end, arrivals=arrivals.found(), first_step_s=follower.first_step_s)
    hidden = untrusted.secret_values(os.environ, grant.variables)
    left = untrusted.tidy(work, hidden, limits.log_bytes)
    outcome, reason = _classify(end, job, work)
    if left and outcome is Outcome.COMPLETED:
        outcome, reason = Outcome.FAILED, left
    return replace(end, outcome=outcome, reason=reason)


def _ask(
    trial: PlannedTrial, environment: BuiltEnvironment, work: Path, limits: Limits, grant: Grant
) -> Launch:
    """Everything a trial may touch."""
    job = trial.job
    own = [work / wire.JOB_FILE]
    if job.telemetry:
        (work / telemetry.TELEMETRY_FILE).touch()
        own.append(work / telemetry.TELEMETRY_FILE)
    shared = (job.weights, job.noise, job.text, job.decoder_weights, job.inputs)
    inputs = [Path(one.path) for one in shared if one and one.path]
    source = [environment.source] if environment.source else []
    return Launch(
        command=environment.command(job.slug, work / wire.JOB_FILE, job.ranks),
        folder=work,
        variables={**grant.variables, **environment.variables()},
        readable=(*own, environment.code, *source, *inputs),
        image=environment.image,
        gpus=grant.gpus,
        memory_bytes=limits.memory_bytes,
        trial_id=trial.trial_id,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Follower:
    """Follows one trial step by step."""

    def __init__(self, trial: PlannedTrial, work: Path, watcher: Watcher) -> None:
        self.trial, self._work, self._watcher = trial, work, watcher
        self._news = threading.Event()
        self._num_bytes, self._is_odd = 0, False
        self._seen, self._last_step_s = 0, 0.0
        self.first_step_s: float | None = None

    def ring(self) -> None:
        """Have it look at once; from any thread."""
        self._news.set()

    def follow(self, sandbox: Sandbox, limits: Limits) -> _End:
        """Wait until the trial ends or is stopped."""
        sandbox.call_at_end(self.ring)
        while True:
            self._news.wait(_POLL_S)
            self._news.clear()
            status = sandbox.wait(0)
            self._report_steps(sandbox)
            if status is not None:
                return _End(status=status, out_of_memory=sandbox.ran_out_of_memory)
            if _log_bytes(self._work) > limits.log_bytes:
                reason = f"its log is longer than {limits.log_bytes / 2**20:.0f} MiB"
                return _End(status=sandbox.stop(), outcome=Outcome.FAILED, reason=reason)
            reason = self._overdue(sandbox.wall_s, limits)
            if reason:
                sandbox.dump_stacks()
                return _End(status=sandbox.stop(), outcome=Outcome.TIMED_OUT, reason=reason)

    def _overdue(self, wall_s: float, limits: Limits) -> str:
        """Which time limit is passed; empty if none."""
        if wall_s > limits.wall_s:
            return f"longer than {limits.wall_s:.0f} s"
        if wall_s - self._last_step_s > limits.stall_s:
            return f"no new AR step for {limits.stall_s:.0f} s, {self._seen} seen"
        return ""

    def _report_steps(self, sandbox: Sandbox) -> None:
        for event in self._new_steps():
            total_ms = sum(event.stages_ms.values())
            self._watcher.step_done(self.trial, event.ar, total_ms)
            self._seen, self._last_step_s = self._seen + 1, sandbox.wall_s
            if self.first_step_s is None:
                self.first_step_s = self._last_step_s

    def _new_steps(self) -> Iterator[wire.StepEvent]:
        """Steps since the last look; what is wrong is found when the trial has ended."""
        if self._is_odd:
            return
        new = untrusted.read_growing(self._work / wire.EVENTS_FILE, self._num_bytes)
        self._num_bytes += new.rfind(b"\n") + 1
        try:
            for event in wire.events_in(new, wire.EVENTS_FILE, self.trial.job.nonce):
                if isinstance(event, wire.StepEvent):
                    yield event
        except wire.WireError:  # no step after it is believed
            self._is_odd = True


def _log_bytes(work: Path) -> int:
    try:
        return (work / LOG_FILE).lstat().st_size
    except FileNotFoundError:
        return 0


def _classify(end: _End, job: wire.Job, work: Path) -> tuple[Outcome, str]:
    """Outcome and reason; what the harness or the kernel did goes before what a log says."""
    if end.outcome is not Outcome.COMPLETED:
        return end.outcome, end.reason
    if end.out_of_memory:
        return Outcome.OOM, f"the kernel killed a process for memory; exit status {end.status}"
    tail = _tail(work / LOG_FILE).decode("utf-8", "replace")
    # Lines with words in them: some programs draw a box around their message.
    lines = [line.strip("│ \t") for line in tail.splitlines() if re.search(r"\w", line)]
    short = [line for line in lines if any(sign in line for sign in _OOM_SIGNS)]
    if short and not _said_end(work, job):
        return Outcome.OOM, _sentences(short[-1])  # it begins with what was needed
    last = lines[-1][-_MAX_REASON:] if lines else "no output"
    if end.status < 0:
        return Outcome.KILLED, f"signal {-end.status}; last line: {last}"
    failed = (Outcome.FAILED, f"exit status {end.status}; last line: {last}")
    return failed if end.status else (Outcome.COMPLETED, "")


def _sentences(text: str) -> str:
    """As many whole sentences as fit into a reason."""
    if len(text) <= _MAX_REASON:
        return text
    return text[:_MAX_REASON].rpartition(". ")[0] or text[:_MAX_REASON]


def _tail(log: Path) -> bytes:
    """The end of a log that nobody writes any more."""
    if not log.is_file():
        return b""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read()


def _said_end(work: Path, job: wire.Job) -> bool:
    """Whether a side did all of its job, whatever it met on the way."""
    try:
        content = untrusted.read_growing(work / wire.EVENTS_FILE)
        events = list(wire.events_in(content, wire.EVENTS_FILE, job.nonce))
    except wire.WireError:
        return False
    return bool(events) and isinstance(events[-1], wire.EndEvent)
