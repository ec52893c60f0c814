"""What a trial left behind, turned into rows; the same way right after it and years later."""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import IntegrityFault
from harness.logs import parse_steps
from harness.machine.pressure import waited_columns
from harness.machine.telemetry import TELEMETRY_FILE, read_samples, summarize, unread
from harness.plan.sampling import captured_at, phase_of
from harness.records import LogStep, Outcome, Phase, StepRow, TelemetryRow, TrialRow
from harness.sandboxes.untrusted import LOG_FILE
from harness.trials import matching
from harness.trials.kernels import wrong_attention
from harness.trials.timeline import arrivals_by_ar, clock_columns
from harness.trials.trial_record import Arrival, TrialRecord, digests_of
from runners.protocol import solvers, wire

_TIME_TOLERANCE = 0.005
"""Relative difference allowed between a stage time in the log and in the events."""
_TIME_TOLERANCE_MS = 0.05
_STEP_TOLERANCE = 0.001
"""Share of its AR step by which a stage may differ too: where the device is idle, two marks of one
moment lie as far apart as the host was held up between them. An empty stage is nothing else."""

Event = wire.StepEvent | wire.EndEvent
Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Everything a trial left behind."""

    row: TrialRow
    steps: tuple[StepRow, ...]
    settings: wire.Settings | None
    captures: tuple[wire.Capture, ...]
    telemetry: tuple[TelemetryRow, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    """Of every file, by its path in the run's folder."""

    @property
    def parts(self) -> dict[type[Any], tuple[Any, ...]]:
        """Rows of the tables that have a file a trial."""
        return {StepRow: self.steps, TelemetryRow: self.telemetry}


def read_trial(folder: Path, record: TrialRecord) -> TrialResult:
    """Read what a trial wrote; contradictions make it invalid, never a shorter result."""
    return _Reading(folder, record).result()


def recall_trial(folder: Path, row: TrialRow) -> TrialResult:
    """A stored trial as a verdict needs it: its row, settings and captures, no step read again."""
    captures: list[wire.Capture] = []
    events = folder / wire.EVENTS_FILE
    if events.exists() and not row.invalid:  # an invalid trial may have left anything
        nonce = json.loads((folder / wire.JOB_FILE).read_text("utf-8"))["nonce"]
        for event in wire.read_events(events, nonce):
            captures += event.captures if isinstance(event, wire.StepEvent) else ()
    return TrialResult(
        row=row, steps=(), settings=_settings_in(row.settings), captures=tuple(captures)
    )


@functools.lru_cache(maxsize=64)
def _settings_in(text: str) -> wire.Settings | None:
    """Settings of a stored row; the processes of a side have the same."""
    return wire.from_json(wire.Settings, text, "settings") if text else None


class _Reading:
    """One trial's files, each read once, until one contradicts another."""

    def __init__(self, folder: Path, record: TrialRecord) -> None:
        self._folder, self._record = folder, record
        self._outcome, self._reason = Outcome(record.outcome), record.reason
        self._settings: wire.Settings | None = None
        self._events: list[Event] = []
        self._arrivals: dict[int, Arrival] = {}
        self._steps: tuple[StepRow, ...] = ()
        self._telemetry: tuple[TelemetryRow, ...] = ()
        self._unread = ""

    def result(self) -> TrialResult:
        """Rows, settings and captures."""
        invalid = ""
        try:
            self._read()
        except (wire.WireError, IntegrityFault) as error:
            invalid = str(error).replace(str(self._folder), "job folder")
        events = [event for event in self._events if isinstance(event, wire.StepEvent)]
        return TrialResult(
            row=self._row(invalid, len(events)),
            steps=() if invalid else self._steps,
            settings=self._settings,
            telemetry=self._telemetry,
            captures=tuple(capture for event in events for capture in event.captures),
            digests=digests_of(self._record, self._folder),
        )

    def _read(self) -> None:
        job = wire.read_json(wire.Job, self._intact(wire.JOB_FILE))
        if job.protocol not in wire.READABLE_PROTOCOLS:
            raise IntegrityFault(f"{wire.JOB_FILE} is of protocol {job.protocol}: not readable")
        if wire.SETTINGS_FILE in self._record.files:
            self._settings = wire.read_json(wire.Settings, self._intact(wire.SETTINGS_FILE))
        if wire.EVENTS_FILE in self._record.files:
            path = self._intact(wire.EVENTS_FILE)
            self._events = list(wire.read_events(path, job.nonce))
            self._arrivals = arrivals_by_ar(self._events, self._record)
        for name in self._record.files:
            self._intact(name)
        path, ids = self._folder / TELEMETRY_FILE, (self._record.trial_id, self._record.cell_id)
        self._telemetry = tuple(read_samples(path, *ids))
        self._unread = unread(self._telemetry, self._record.wall_s) if job.telemetry else ""
        if self._outcome is Outcome.COMPLETED:
            self._outcome, self._reason = _check_length(job, self._settings, self._events)
        if self._outcome is Outcome.COMPLETED:
            self._steps = self._check_log(job)
        if self._settings is not None:
            _check_obedience(job, self._settings)
        _check_kernels(job, self._steps)

    def _intact(self, name: str) -> Path:
        """A file that is what it was when the trial ended.

        Raises:
            IntegrityFault: It is not.
        """
        path, digest = self._folder / name, self._record.files.get(name)
        if digest is None or not path.is_file():
            raise IntegrityFault(f"{name} is missing")
        if wire.sha256_file(path) != digest:
            raise IntegrityFault(f"{name} was altered after the trial")
        return path

    def _check_log(self, job: wire.Job) -> tuple[StepRow, ...]:
        """Step rows from the log, each confirmed by the event of the same AR step.

        Raises:
            IntegrityFault: Log and events disagree.
        """
        logged = parse_steps(self._intact(LOG_FILE).read_bytes(), LOG_FILE)
        by_ar = {event.ar: event for event in self._events if isinstance(event, wire.StepEvent)}
        indices = [step.ar for step in logged if step.rank == 0]
        odd = sorted(set(indices) ^ set(by_ar))
        if odd:
            where = "events" if odd[0] in indices else "log"
            raise IntegrityFault(
                f"AR {odd[0]} is missing from the {where}: log and events disagree"
            )
        _check_order(logged, [e.ar for e in self._events if isinstance(e, wire.StepEvent)])
        for step in logged:
            if step.rank == 0:
                _check_times(step, by_ar[step.ar])
        _check_denoising(job, by_ar)
        captured = captured_at(self._facts())
        return tuple(self._step_row(job, step, by_ar, captured) for step in logged)

    def _step_row(
        self,
        job: wire.Job,
        step: LogStep,
        by_ar: Mapping[int, wire.StepEvent],
        captured: tuple[int, ...] | None,
    ) -> StepRow:
        phase = phase_of(step.ar, job, captured)
        return StepRow(
            **vars(step),
            trial_id=self._record.trial_id,
            cell_id=self._record.cell_id,
            role=self._record.role,
            side=self._record.side,
            process=self._record.process,
            phase=Phase.PROFILED if step.ar in job.profile_steps else phase,
            **self._clock_columns(by_ar[step.ar] if step.rank == 0 else None),
        )

    def _clock_columns(self, event: wire.StepEvent | None) -> dict[str, Any]:
        arrival = self._arrivals.get(event.ar) if event else None
        return clock_columns(event, arrival, self._record.launched_at_s)

    def _facts(self) -> dict[str, str]:
        """What the side said of itself at its end."""
        return next((e.facts for e in self._events if isinstance(e, wire.EndEvent)), {})

    def _telemetry_columns(self) -> dict[str, Any]:
        columns = summarize(self._telemetry, self._record.first_step_s)
        # Nobody can say of an unwatched trial that nothing disturbed it.
        return columns | {"marks": "; ".join(filter(None, (columns["marks"], self._unread)))}

    def _row(self, invalid: str, ar_steps: int) -> TrialRow:
        record = self._record
        return TrialRow(
            trial_id=record.trial_id,
            cell_id=record.cell_id,
            role=record.role,
            side=record.side,
            process=record.process,
            outcome=self._outcome,
            reason=self._reason,
            invalid=invalid,
            exit_status=record.exit_status,
            wall_s=record.wall_s,
            first_step_s=record.first_step_s,
            **self._telemetry_columns(),
            ar_steps=ar_steps,
            environment_digest=record.environment_digest,
            code_digest=record.code_digest,
            log_sha256=record.files.get(LOG_FILE, ""),
            settings=wire.to_json(self._settings) if self._settings else "",
            facts=json.dumps(self._facts()),
            **waited_columns(record.waited_us, record.wall_s),
        )


def _check_kernels(job: wire.Job, steps: Sequence[StepRow]) -> None:
    """What a profiled step ran must be the attention that the job asks for.

    Raises:
        IntegrityFault: Another kernel ran, whatever the settings say; or none was recorded.
    """
    wrong = wrong_attention(job.attention, steps, job.decoder)
    if wrong:
        raise IntegrityFault(wrong)
    if steps and job.profile_steps and not any(step.kernels for step in steps):
        raise IntegrityFault(f"AR {job.profile_steps[0]} was to be profiled and has no kernels")


def _check_obedience(job: wire.Job, settings: wire.Settings) -> None:
    """A side whose settings are not those of its job proves nothing about the job.

    Raises:
        IntegrityFault: It is such a side.
    """
    wrong = matching.disobeyed(job, settings)
    if wrong:
        listed = "; ".join(matching.describe(difference) for difference in wrong)
        raise IntegrityFault(f"in force is not what the job says: {listed}")


def _check_length(
    job: wire.Job, settings: wire.Settings | None, events: list[Event]
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
    drawn = events[-1].noise_draws
    needed = sum(solvers.draws(job, ar) for ar in range(job.ar_steps))
    if drawn != needed:
        raise IntegrityFault(f"{drawn} tensors were drawn from the noise bank, not {needed}")
    return Outcome.COMPLETED, ""


def _check_order(logged: Sequence[LogStep], events: Sequence[int]) -> None:
    """Both log and events are written as the steps run, so each must be in their order.

    Raises:
        IntegrityFault: One is not.
    """
    in_log = sorted((step for step in logged if step.rank == 0), key=lambda step: step.byte_start)
    for where, indices in (("log", [step.ar for step in in_log]), ("events", list(events))):
        for before, ar in itertools.pairwise(indices):
            if ar < before:
                raise IntegrityFault(f"AR {before} stands before AR {ar} in the {where}")


def _check_denoising(job: wire.Job, by_ar: Mapping[int, wire.StepEvent]) -> None:
    """Each AR step must have its denoising steps, and they must fit into its ``diffuse``."""
    for ar, event in by_ar.items():
        found, diffuse_ms = len(event.denoise_ms), event.stages_ms.get("diffuse", 0.0)
        steps = {call.step for call in solvers.calls(job, ar) if call.what == solvers.DENOISE}
        if steps and found != len(steps):  # what is given, one side denoises all the same
            raise IntegrityFault(f"AR {ar}: {found} denoising steps, not {len(steps)}")
        if sum(event.denoise_ms) > diffuse_ms + _TIME_TOLERANCE_MS:
            raise IntegrityFault(f"AR {ar}: its denoising steps take longer than its diffuse stage")


def _check_times(step: LogStep, event: wire.StepEvent) -> None:
    if step.stages_ms.keys() != event.stages_ms.keys():
        raise IntegrityFault(f"AR {step.ar}: log and events name different stages")
    for stage, logged_ms in step.stages_ms.items():
        event_ms = event.stages_ms[stage]
        allowed_ms = max(
            _TIME_TOLERANCE * event_ms,
            _STEP_TOLERANCE * sum(event.stages_ms.values()),
            _TIME_TOLERANCE_MS,
        )
        if abs(logged_ms - event_ms) > allowed_ms:
            raise IntegrityFault(
                f"AR {step.ar} {stage}: {logged_ms:.3f} ms in the log, "
                f"{event_ms:.3f} ms in the events"
            )
