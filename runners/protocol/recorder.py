"""The one recorder: stage marks, the step line, events and captures of a trial."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from runners.protocol import wire
from runners.protocol.clock import Clock, Mark

_GIB = 1024**3
_PROFILED = {
    "cpu": torch.profiler.ProfilerActivity.CPU,
    "cuda": torch.profiler.ProfilerActivity.CUDA,
}
"""What a profiled step records: operators on a CPU, kernels on a GPU."""


class Recorder:
    """Follows one trial through its AR steps and writes what the harness reads.

    Call order per AR step: ``begin``, then ``denoise`` and ``mark`` as the work goes by, ``end``.
    """

    def __init__(self, job: wire.Job, folder: Path) -> None:
        """Start an empty event file in the job folder."""
        self.job = job
        self._folder = folder
        self._clock = Clock(job.device)
        self._events = (folder / wire.EVENTS_FILE).open("w", encoding="utf-8")
        self._ar_steps = 0
        self._start: Mark = None
        self._marks: dict[str, Mark] = {}
        self._denoise: list[Mark] = []
        self._wall_s = 0.0
        self._wall_ms: float | None = None
        self._began_at_s, self._ended_at_s = 0.0, 0.0
        self._preempted = 0
        self._profiler: torch.profiler.profile | None = None

    def settings(self, settings: wire.Settings) -> None:
        """Write what is in force; once, before the first AR step."""
        wire.write_json(self._folder / wire.SETTINGS_FILE, settings)

    def prepare(self) -> None:
        """Start the profiler if the next AR step is to be profiled; before anything marks it.

        ``begin`` does so itself; this is for a side whose own clock starts before ``begin``.
        """
        if self._profiler is None and self._ar_steps in self.job.profile_steps:
            self._profiler = torch.profiler.profile(activities=[_PROFILED[self.job.device]])
            self._profiler.start()

    def begin(self, at: Mark | None = None) -> None:
        """Mark the start of an AR step, now or at a mark that was taken already."""
        self.prepare()
        self._marks, self._denoise = {}, []
        self._preempted = -_preempted()
        self._began_at_s = time.monotonic()
        self._wall_s, self._wall_ms = time.perf_counter(), None
        self._start = self._clock.mark() if at is None else at

    def denoise(self) -> None:
        """Mark the start of a denoising step, before its first network call."""
        self._denoise.append(self._clock.mark())

    def mark(self, stage: str, at: Mark | None = None) -> None:
        """Mark the end of a stage; stages are timed from the previous mark."""
        self._marks[stage] = self._clock.mark() if at is None else at

    def finished(self) -> None:
        """Wait for the device and stop the host's clock.

        ``end`` does so itself; this is for a side that sums up and prints before it gets there.
        """
        self._clock.synchronize()
        self._wall_ms = (time.perf_counter() - self._wall_s) * 1e3
        self._ended_at_s = time.monotonic()
        self._preempted += _preempted()

    def end(
        self,
        ar: int,
        latents: torch.Tensor,
        *,
        print_line: bool,
        frames: Callable[[], torch.Tensor] | None = None,
    ) -> None:
        """Close an AR step: wait for the device, write its event and its captures.

        Args:
            ar: Index of the AR step.
            latents: Clean latents [T, C, H, W] of this step.
            print_line: Print FlashDreams' step line, for a side that has none of its own.
            frames: Returns the decoded frames [T, C, H, W] in [-1, 1], called when nothing is timed
                any more; None where latents are not decoded.
        """
        if self._wall_ms is None:
            self.finished()
        stages_ms, previous = {}, self._start
        for stage, mark in self._marks.items():
            stages_ms[stage], previous = self._clock.elapsed_ms(previous, mark), mark
        if print_line:
            sys.stderr.write(step_line(ar, stages_ms) + "\n")
            sys.stderr.flush()
        ends = [*self._denoise[1:], self._marks["diffuse"]]
        event = wire.StepEvent(
            nonce=self.job.nonce,
            ar=ar,
            stages_ms=stages_ms,
            denoise_ms=tuple(map(self._clock.elapsed_ms, self._denoise, ends)),
            wall_ms=self._wall_ms,
            kernels_ms=self._kernels_ms(),
            memory_peak_gib=self._memory_peak_gib(),  # before captures, which take memory, too
            captures=self._captures(ar, latents, frames) if ar in self.job.capture_steps else (),
            began_at_s=self._began_at_s,
            ended_at_s=self._ended_at_s,
            preempted=self._preempted,
            told_at_s=time.monotonic(),  # the last: nothing but writing the line comes after it
        )
        self._write(event)
        self._ar_steps += 1

    def close(self, noise_draws: int, facts: dict[str, str]) -> None:
        """Write the event that says the trial ran to its end."""
        self._write(
            wire.EndEvent(
                nonce=self.job.nonce,
                ar_steps=self._ar_steps,
                noise_draws=noise_draws,
                facts=facts,
            )
        )
        self._events.close()

    def _kernels_ms(self) -> dict[str, float]:
        """Stop the profiler, if one runs; milliseconds by kernel."""
        if self._profiler is None:
            return {}
        self._profiler.stop()
        found, self._profiler = self._profiler.key_averages(), None
        clock = f"self_{self.job.device}_time_total".replace("cuda", "device")
        times_us = {one.key: getattr(one, clock) for one in found}
        return {name: time_us / 1e3 for name, time_us in times_us.items() if time_us > 0}

    def _memory_peak_gib(self) -> float | None:
        is_cuda = self.job.device == "cuda"
        return torch.cuda.max_memory_allocated() / _GIB if is_cuda else None

    def _write(self, event: wire.StepEvent | wire.EndEvent) -> None:
        self._events.write(wire.event_line(event))
        self._events.flush()

    def _captures(
        self, ar: int, latents: torch.Tensor, frames: Callable[[], torch.Tensor] | None
    ) -> tuple[wire.Capture, ...]:
        """Save latents as float32: exact for every dtype a side may run in, but float64.

        Frames of a side that computes in 16 bit are saved in float16: between -1 and 1 that holds
        a bfloat16 to within 3e-8, and frames are the bulk of a run.
        """
        saved = (self._capture(ar, wire.LATENTS, latents, torch.float32),)
        if frames is None:
            return saved
        is_half = self.job.dtype in ("bfloat16", "float16")
        dtype = torch.float16 if is_half else torch.float32
        return (*saved, self._capture(ar, wire.FRAMES, frames(), dtype))

    def _capture(
        self, ar: int, name: str, values: torch.Tensor, dtype: torch.dtype
    ) -> wire.Capture:
        path = self._folder / f"{name}_ar{ar:03d}.safetensors"
        tensor = values.detach().to("cpu", dtype).contiguous()
        save_file({name: tensor}, path)
        return wire.Capture(
            name=name,
            ar=ar,
            path=path.name,
            sha256=wire.sha256_file(path),
            shape=tuple(tensor.shape),
            std=float(tensor.float().std()),
        )


def _preempted() -> int:
    """Times that the system took the CPU from this process since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def step_line(ar: int, stages_ms: dict[str, float]) -> str:
    """FlashDreams' own per-step line, so that one parser reads both sides.

    Source: flashdreams 0.1.0, ``infra/pipeline/base.py``, ``StreamInferencePipeline.finalize``.
    """
    total = sum(stages_ms.values())
    stages = " ".join(f"{stage} {ms:.3f} ms" for stage, ms in stages_ms.items())
    line = (
        f"AR {ar} {stages} | total(w/o finalize) {total - stages_ms.get('finalize', 0.0):.3f} ms "
        f"total {total:.3f} ms"
    )
    if torch.cuda.is_available():
        line += (
            f" | GPU mem alloc {torch.cuda.memory_allocated() / _GIB:.3f} GiB"
            f" reserved {torch.cuda.memory_reserved() / _GIB:.3f} GiB"
            f" peak {torch.cuda.max_memory_allocated() / _GIB:.3f} GiB"
        )
    return line
