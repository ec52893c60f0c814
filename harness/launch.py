"""Runs one trial and turns every way it can end into a row; the only place that does so."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from harness.environments import BuiltEnvironment
from harness.errors import IntegrityFault
from harness.logs import PARSERS
from harness.plan import draws_per_step, phase_of
from harness.records import LogStep, Outcome, PlannedTrial, StepRow, TrialRow
from harness.sandboxes.process import ProcessSandbox
from runners.protocol import wire

LOG_FILE = "log.txt"
_POLL_S = 0.2
_TIME_TOLERANCE = 0.005
"""Relative difference allowed between a stage time in the log and in the events."""
_TIME_TOLERANCE_MS = 0.05
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


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Everything a trial left behind."""

    row: TrialRow
    steps: tuple[StepRow, ...]
    settings: wire.Settings | None
    captures: tuple[wire.Capture, ...]


def launch(
    trial: PlannedTrial,
    environment: BuiltEnvironment,
    work: Path,
    watcher: Watcher,
    limits: Limits,
) -> TrialResult:
    """Run a trial in its job folder ``work`` to its end, whatever that is.

    Raises:
        KeyboardInterrupt: The user stopped it; its process group is gone when this is raised.
    """
    job = replace(trial.job, nonce=secrets.token_hex(16))
    work = work.resolve()
    work.mkdir(parents=True)
    wire.write_json(work / wire.JOB_FILE, job)
    command = environment.command(job.slug, work / wire.JOB_FILE)
    watcher.trial_started(trial)
    started_s = time.monotonic()
    try:
        sandbox = ProcessSandbox(command, environment.variables(), work)
    except OSError as error:
        status, outcome, reason = -1, Outcome.FAILED, f"cannot be started: {error}"
    else:
        try:
            status, timed_out = _watch(sandbox, trial, job, work, watcher, limits)
        finally:
            sandbox.stop()
        outcome, reason = _classify(status, timed_out, work / LOG_FILE)
    result = _collect(trial, job, environment, work, outcome, reason)
    row = replace(result.row, exit_status=status, wall_s=time.monotonic() - started_s)
    watcher.trial_ended(trial, row)
    return replace(result, row=row)


def _watch(
    sandbox: ProcessSandbox,
    trial: PlannedTrial,
    job: wire.Job,
    work: Path,
    watcher: Watcher,
    limits: Limits,
) -> tuple[int, str]:
    """Follow a trial until it ends or is stopped; returns its status and why it was stopped."""
    seen, last_step_s = 0, 0.0
    while True:
        status = sandbox.wait(_POLL_S)
        for event in list(_steps_so_far(work, job))[seen:]:
            watcher.step_done(trial, event.ar, sum(event.stages_ms.values()))
            seen, last_step_s = seen + 1, sandbox.wall_s
        if status is not None:
            return status, ""
        if sandbox.wall_s > limits.wall_s:
            return sandbox.stop(), f"longer than {limits.wall_s:.0f} s"
        if sandbox.wall_s - last_step_s > limits.stall_s:
            return sandbox.stop(), f"no new AR step for {limits.stall_s:.0f} s, {seen} seen"


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


def _collect(
    trial: PlannedTrial,
    job: wire.Job,
    environment: BuiltEnvironment,
    work: Path,
    outcome: Outcome,
    reason: str,
) -> TrialResult:
    """Read what the trial wrote; contradictions make it invalid, never a shorter result."""
    settings: wire.Settings | None = None
    events: list[wire.StepEvent | wire.EndEvent] = []
    steps: tuple[StepRow, ...] = ()
    invalid = ""
    try:
        if (work / wire.SETTINGS_FILE).exists():
            settings = wire.read_json(wire.Settings, work / wire.SETTINGS_FILE)
        if (work / wire.EVENTS_FILE).exists():
            events = list(wire.read_events(work / wire.EVENTS_FILE, job.nonce))
        if outcome is Outcome.COMPLETED:
            outcome, reason = _check_length(job, settings, events)
        if outcome is Outcome.COMPLETED:
            steps = _check_log(trial, job, work, events)
    except (wire.WireError, IntegrityFault) as error:
        invalid = str(error).replace(str(work), "job folder")
    step_events = [event for event in events if isinstance(event, wire.StepEvent)]
    facts = next((event.facts for event in events if isinstance(event, wire.EndEvent)), {})
    row = TrialRow(
        trial_id=trial.trial_id,
        cell_id=trial.cell_id,
        role=trial.role,
        side=str(trial.side),
        process=trial.process,
        outcome=outcome,
        reason=reason,
        invalid=invalid,
        exit_status=0,
        wall_s=0.0,
        ar_steps=len(step_events),
        environment_digest=environment.digest,
        code_digest=environment.code_digest,
        log_sha256=wire.sha256_file(work / LOG_FILE) if (work / LOG_FILE).is_file() else "",
        settings=wire.to_json(settings) if settings else "",
        facts=json.dumps(facts),
    )
    captures = tuple(capture for event in step_events for capture in event.captures)
    return TrialResult(row=row, steps=steps, settings=settings, captures=captures)


def _check_length(
    job: wire.Job, settings: wire.Settings | None, events: list[wire.StepEvent | wire.EndEvent]
) -> tuple[Outcome, str]:
    """A process that exits 0 has completed only if it did all of its job.

    Raises:
        IntegrityFault: It claims more steps than it can have run.
    """
    if settings is None:
        return Outcome.FAILED, "exited without writing its settings"
    indices = [event.ar for event in events if isinstance(event, wire.StepEvent)]
    missing = sorted(set(range(job.ar_steps)) - set(indices))
    surplus = [ar for n, ar in enumerate(indices) if ar >= job.ar_steps or ar in indices[:n]]
    if surplus:
        raise IntegrityFault(f"AR {surplus[0]} is one event more than the job has steps")
    if missing:
        return (
            Outcome.FAILED,
            f"AR {missing[0]} is missing: ran {len(indices)} of {job.ar_steps} steps",
        )
    if not events or not isinstance(events[-1], wire.EndEvent):
        return Outcome.FAILED, "exited without its end event"
    if events[-1].ar_steps != len(indices):
        raise IntegrityFault(
            f"the end event counts {events[-1].ar_steps} AR steps, not {len(indices)}"
        )
    drawn, needed = events[-1].noise_draws, job.ar_steps * draws_per_step(job)
    if drawn != needed:
        raise IntegrityFault(f"{drawn} tensors were drawn from the noise bank, not {needed}")
    return Outcome.COMPLETED, ""


def _check_log(
    trial: PlannedTrial,
    job: wire.Job,
    work: Path,
    events: list[wire.StepEvent | wire.EndEvent],
) -> tuple[StepRow, ...]:
    """Step rows from the log, each confirmed by the event of the same AR step.

    Raises:
        IntegrityFault: Log and events disagree.
    """
    logged = PARSERS["flashdreams"](_read_log(work), LOG_FILE)
    by_ar = {event.ar: event for event in events if isinstance(event, wire.StepEvent)}
    indices = [step.ar for step in logged if step.rank == 0]
    odd = sorted(set(indices) ^ set(by_ar))
    if odd:
        where = "events" if odd[0] in indices else "log"
        raise IntegrityFault(f"AR {odd[0]} is missing from the {where}: log and events disagree")
    for step in logged:
        if step.rank == 0:
            _check_times(step, by_ar[step.ar])
    _check_denoising(job, by_ar)
    return tuple(_step_row(trial, job, step, by_ar) for step in logged)


def _check_denoising(job: wire.Job, by_ar: Mapping[int, wire.StepEvent]) -> None:
    """Each AR step must have its denoising steps, and they must fit into its ``diffuse``."""
    for ar, event in by_ar.items():
        found, diffuse_ms = len(event.denoise_ms), event.stages_ms.get("diffuse", 0.0)
        if found != job.denoising_steps:
            raise IntegrityFault(f"AR {ar}: {found} denoising steps, not {job.denoising_steps}")
        if sum(event.denoise_ms) > diffuse_ms + _TIME_TOLERANCE_MS:
            raise IntegrityFault(f"AR {ar}: its denoising steps take longer than its diffuse stage")


def _read_log(work: Path) -> bytes:
    try:
        return (work / LOG_FILE).read_bytes()
    except OSError as error:
        raise IntegrityFault(f"{LOG_FILE} cannot be read: {error.strerror}") from error


def _check_times(step: LogStep, event: wire.StepEvent) -> None:
    if step.stages_ms.keys() != event.stages_ms.keys():
        raise IntegrityFault(f"AR {step.ar}: log and events name different stages")
    for stage, logged_ms in step.stages_ms.items():
        event_ms = event.stages_ms[stage]
        if abs(logged_ms - event_ms) > max(_TIME_TOLERANCE * event_ms, _TIME_TOLERANCE_MS):
            raise IntegrityFault(
                f"AR {step.ar} {stage}: {logged_ms:.3f} ms in the log, "
                f"{event_ms:.3f} ms in the events"
            )


def _step_row(
    trial: PlannedTrial, job: wire.Job, step: LogStep, by_ar: Mapping[int, wire.StepEvent]
) -> StepRow:
    return StepRow(
        **asdict(step),
        trial_id=trial.trial_id,
        cell_id=trial.cell_id,
        role=trial.role,
        side=str(trial.side),
        process=trial.process,
        phase=phase_of(step.ar, job),
        denoise_ms=by_ar[step.ar].denoise_ms if step.rank == 0 else (),
    )
