"""The values that cross module boundaries: what is planned, and what was measured."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict

from harness.errors import ExitCode
from runners.protocol.wire import FRAMES, Job


class Role(StrEnum):
    """What a trial is for."""

    CANDIDATE = "candidate"
    REFERENCE = "reference"
    FLOOR = "floor"
    CONTROL = "control"
    """A deliberately different candidate, which the parity gate has to notice."""


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    OOM = "oom"
    TIMED_OUT = "timed_out"
    KILLED = "killed"


class Verdict(StrEnum):
    """What a pair's evidence allows to say."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INCOMPLETE = "incomplete"


class Phase(StrEnum):
    """State of the KV window and the CUDA graph in an AR step."""

    FILLING = "filling"
    CAPTURE = "capture"
    STEADY = "steady"
    GIVEN = "given"
    """Its frames are given: one side only reads them, so no times are compared."""
    PROFILED = "profiled"
    """Run under a profiler, so that its time is nobody's."""


UNTIMED = (Phase.GIVEN, Phase.PROFILED)
"""Phases whose times no figure rests on."""

REPEATED = ".again"
"""Suffix of a repetition's trial id."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """An environment plus what is changed about the job in it."""

    environment: str
    overrides: tuple[tuple[str, Any], ...]
    """Job field to value, in the order written."""

    def __str__(self) -> str:
        changes = ",".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in self.overrides
        )
        return f"{self.environment}{{{changes}}}" if changes else self.environment


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """One process launch that the plan asks for."""

    trial_id: str
    cell_id: str
    role: Role
    side: Side
    process: int
    """Which repetition of its side this is, from 0."""
    job: Job
    """Complete but for the nonce and the shared inputs."""


@dataclass(frozen=True, kw_only=True)
class ExpectedDifference:
    """A setting in which the sides may differ, and why that is acceptable."""

    setting: str
    reason: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """An upstream repository at one commit, as an ``env.toml`` pins it and a run keeps it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    url: str
    commit: str
    """All 40 hex digits: a branch or a tag may move."""
    paths: tuple[str, ...]
    """Folders and files of the repository that the adapter uses; the others are not staged."""
    tree_sha256: str
    """Digest of the files under ``paths``; see :func:`harness.environments.sources.tree_digest`."""
    roots: tuple[str, ...] = ()
    """Folders of the repository that its modules are imported from, beside what an adapter does."""


@dataclass(frozen=True, kw_only=True)
class Driven:
    """What an environment's adapter drives."""

    recipes: tuple[str, ...]
    is_candidate: bool = True
    """Whether it has FlashDreams; only such an environment is a cell's candidate."""
    decoders: tuple[str, ...] = ()
    """Decoders of latents, beside none."""
    why_no_decoder: str = ""
    """Why it drives no other."""


@dataclass(frozen=True, kw_only=True)
class CellSides:
    """The sides of a cell."""

    candidate: Side
    reference: Side
    floor: tuple[Side, Side]
    controls: tuple[Side, ...]
    """Sides whose outputs must lie beyond the limit, or the gate proves nothing."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell(CellSides):
    """One line of the result: a recipe on a device against a baseline."""

    cell_id: str
    recipe: str
    device: str
    baseline: str
    documented_ar_steps: int
    """AR steps of the recipe's documented command; the seed's statistic sees no later ones."""
    limit: float
    """Largest parity error allowed, as a multiple of the noise floor of the same AR step."""
    limit_origin: str
    expected_differences: tuple[ExpectedDifference, ...]
    trials: tuple[PlannedTrial, ...]
    """In the order they run."""

    @property
    def trial_ids(self) -> tuple[str, ...]:
        """Ids of every trial that it may come to have: each planned one, and its repetition."""
        return tuple(t.trial_id + suffix for t in self.trials for suffix in ("", REPEATED))


@dataclass(frozen=True, kw_only=True)
class UnsupportedCell(CellSides):
    """A cell of a suite that will not run, and why."""

    cell_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A suite on a device: what will run and what cannot."""

    suite: str
    device: str
    size: str
    cells: tuple[PlannedCell, ...]
    unsupported: tuple[UnsupportedCell, ...]
    """Cells outside the denominator."""
    not_chosen: tuple[str, ...] = ()
    """Ids of cells that could run and that ``--only`` left out."""
    estimated_s: dict[str, float] = field(default_factory=dict)
    """Cell to the time it should take; no cell of a tiny suite or of a device without a speed."""


@dataclass(frozen=True, kw_only=True)
class LogStep:
    """One AR step as a line of a log has it."""

    ar: int
    rank: int
    stages_ms: dict[str, float]
    """Every stage the line names, in milliseconds, in the order they ran."""
    total_wo_finalize_ms: float
    total_ms: float
    memory_peak_gib: float | None
    """Peak of PyTorch's allocator since process start; absent on a CPU."""
    byte_start: int
    """Where the line starts in the log."""
    byte_end: int


@dataclass(frozen=True, kw_only=True)
class StepRow(LogStep):
    """One AR step of one trial, confirmed by the event of the same step."""

    trial_id: str
    cell_id: str
    role: str
    side: str
    process: int
    phase: str
    denoise_ms: tuple[float, ...]
    """Per denoising step, from fdbench's own clock, not from the log."""
    clock_total_ms: float | None
    """All stages on fdbench's own clock; the log has it for rank 0 alone."""
    wall_ms: float | None
    """The whole step on the host's clock, the wait for the device included."""
    kernels: str
    """JSON object of GPU kernel to milliseconds; empty where the step was not profiled."""
    began_s: float | None = None
    """Since the launch, on the machine's clock, like the next three; None in older runs, and of
    other ranks than 0, like all that follows."""
    ended_s: float | None = None
    """When the device had done all work of the step."""
    told_s: float | None = None
    """When the side began to write its event, captures included."""
    arrival_s: float | None = None
    """When the harness had its event."""
    energy_j: float | None = None
    """Energy counters of the trial's GPUs at the arrival, summed; two steps' differ by what the
    GPUs used between them."""
    preempted: int | None = None
    """Times that the system took the CPU from the side's process in the step."""
    allocator_peak_gib: float | None = None
    """Peak of PyTorch's allocator since process start, as the side's event has it."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One process launch and how it ended."""

    trial_id: str
    cell_id: str
    role: str
    side: str
    process: int
    outcome: str
    reason: str
    """Empty when completed; otherwise what happened, with evidence."""
    invalid: str
    """Empty, or why its evidence contradicts itself."""
    exit_status: int
    marks: str
    """Empty, or what disturbed its times: throttled, or another process on its GPU."""
    wall_s: float
    """From launch to exit of the process."""
    first_step_s: float | None
    """From launch to the end of the first AR step, as a user waits for it."""
    sm_mhz: float | None
    """Median SM clock under load; None without telemetry, like the next three."""
    power_w: float | None
    temperature_c: float | None
    energy_j: float | None
    """Of the whole process, by the GPU's own counter."""
    ar_steps: int
    environment_digest: str
    code_digest: str
    """Digest of the adapter and protocol files that ran."""
    log_sha256: str
    settings: str
    """``settings.json`` as the side wrote it; empty if it did not."""
    facts: str
    """JSON object of versions and stand-ins that are kept but not compared."""
    gpu_memory_peak_gib: float | None = None
    """Most memory in use on a GPU in any sample, by whatever process; None in older runs."""
    cpu_waited_percent: float | None = None
    """Share of ``wall_s`` in which some task of the host waited for a CPU; None in older runs and
    where the kernel does not count it, like the next two."""
    memory_waited_percent: float | None = None
    io_waited_percent: float | None = None

    @property
    def is_repetition(self) -> bool:
        """Whether it was launched because something disturbed the times of another launch."""
        return self.trial_id.endswith(REPEATED)


@dataclass(frozen=True, kw_only=True)
class TelemetryRow:
    """One reading of one GPU while a trial ran."""

    trial_id: str
    cell_id: str
    at_s: float
    """Since the trial was launched."""
    gpu: str
    """UUID."""
    sm_mhz: int
    memory_mhz: int
    power_w: float
    temperature_c: int
    busy_percent: int
    reasons: int
    """NVML's bit mask of what holds the clocks down."""
    energy_j: float
    """The GPU's own counter, since its driver was loaded."""
    foreign: str
    """Processes on the GPU that are not the trial's."""
    memory_gib: float | None = None
    """Memory in use on the GPU; None in older runs."""


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """Distance between two trials' outputs at one AR step."""

    cell_id: str
    comparison: str
    """``pair``, ``floor`` or ``control``."""
    candidate_trial: str
    reference_trial: str
    ar: int
    relative_l2: float
    max_abs: float
    cosine: float
    reference_std: float
    candidate_std: float
    capture: str | None = None
    """``latents`` or ``frames``; None in runs of before there were frames, which have latents."""
    psnr_db: float | None = None
    """Peak signal-to-noise ratio of the worst frame, range -1 to 1; None but for frames."""
    ssim: float | None = None
    """Structural similarity of the worst frame; None but for frames."""

    @property
    def is_of_frames(self) -> bool:
        """Whether decoded frames were compared, not latents."""
        return self.capture == FRAMES


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """What was concluded about a cell, and on what grounds."""

    cell_id: str
    recipe: str
    device: str
    baseline: str
    candidate: str
    reference: str
    floor: str
    documented_ar_steps: int
    """AR steps of the recipe's documented command."""
    limit: float
    limit_origin: str
    verdict: str
    exit_code: int
    reason: str
    """One sentence a person can act on; names the first AR step that differs."""
    settings_differences: str
    """JSON list of [setting, candidate value, reference value, reason it is expected or empty]."""

    @property
    def code(self) -> ExitCode:
        """The exit code as an enum."""
        return ExitCode(self.exit_code)
