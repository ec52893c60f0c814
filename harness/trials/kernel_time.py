"""Kernel time of a recipe on this machine: its large kernels, each timed alone, added up."""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.environments.built import BuiltEnvironment
from harness.errors import EnvironmentFault
from harness.machine import telemetry
from harness.machine.gpus import leased, pick_gpus
from harness.machine.telemetry import require_idle
from harness.records import PlannedCell
from harness.sandboxes.contract import Launch
from harness.sandboxes.start import run_launch
from harness.store.run_record import KernelTime
from runners.protocol import solvers, wire
from runners.protocol.kinds import KINDS
from runners.protocol.requests import KernelTimeRequest, KernelTimeResult
from runners.protocol.wire import Job

_LIMIT_S = 1800.0


def kernel_time_of(job: Job, result: KernelTimeResult, gpu: str = "") -> KernelTime:
    """Add up the kernels of a job's network calls."""
    layer, times = KINDS[job.network.kind].layer(job.network), result.kernels_ms
    layer_ms = sum(product.count * times[product.name] for product in layer.products)
    layer_ms += sum(times[attention.name] for attention in layer.attentions)
    forward_ms = job.network.num_layers * layer_ms
    planned = solvers.calls(job, job.ar_steps - 1)
    calls = sum(call.what == solvers.DENOISE for call in planned)
    if job.ar_steps == 1:  # its figure is that of a denoising step
        calls //= job.denoising_steps
    return KernelTime(
        forward_ms=forward_ms,
        diffuse_ms=calls * forward_ms,
        kernels_ms=result.kernels_ms,
        torch=result.torch,
        gpu=gpu,
    )


def request_for(job: Job) -> KernelTimeRequest:
    """The shapes of a job's network calls once the KV window is full."""
    tokens_per_frame = KINDS[job.network.kind].tokens(job.latent_height, job.latent_width)
    return KernelTimeRequest(
        network=job.network,
        tokens=job.len_t * tokens_per_frame,
        context=(job.window_t + job.sink_t) * tokens_per_frame,
        dtype=job.dtype,
        device=job.device,
        attention=job.attention,
    )


def measure(
    cells: list[PlannedCell], environment: BuiltEnvironment, report: Callable[[str], None]
) -> dict[str, KernelTime]:
    """Kernel time of each cell by id; equal shapes are timed once.

    Raises:
        EnvironmentFault: The kernels could not be timed, or somebody else uses the GPU.
    """
    results: dict[KernelTimeRequest, tuple[KernelTimeResult, dict[str, Any], str]] = {}
    times = {}
    for cell in cells:
        job = next(trial.job for trial in cell.trials if trial.side == cell.candidate)
        request = request_for(job)
        if request not in results:
            report(f"timing the kernels of {cell.recipe} alone")
            gpus = pick_gpus(1 if request.device == "cuda" else 0)
            with leased(gpus, report):
                if gpus:
                    require_idle(len(gpus))
                results[request] = *_time(request, environment, gpus), ", ".join(gpus)
        result, load, gpu = results[request]
        alone = kernel_time_of(job, result, gpu)
        times[cell.cell_id] = replace(alone, timed_s=result.timed_s, **load)
    return times


def _time(
    request: KernelTimeRequest, environment: BuiltEnvironment, gpus: tuple[str, ...]
) -> tuple[KernelTimeResult, dict[str, Any]]:
    """What the kernels took, and what the GPU ran at meanwhile: fields of the kernel time."""
    with tempfile.TemporaryDirectory(prefix="fdbench-kernel-time-") as place:
        folder, watched = Path(place).resolve() / "job", Path(place) / "gpu"
        folder.mkdir()
        watched.mkdir()  # no place that the timed process can write
        asked, answered = folder / "request.json", folder / "result.json"
        wire.write_json(asked, request)
        python = str(environment.folder / "bin" / "python")
        launch = Launch(
            command=[python, "-m", "runners.protocol.kernel_timing", str(asked), str(answered)],
            folder=folder,
            variables=environment.variables(),
            readable=(environment.code,),
            image=environment.image,
            gpus=gpus,
        )
        with telemetry.watching(watched, len(gpus)) if gpus else nullcontext():
            status, said = run_launch(launch, _LIMIT_S)
        if status:
            tail = "\n".join(said.splitlines()[-3:])
            raise EnvironmentFault(f"the kernels cannot be timed on this machine:\n{tail}")
        samples = telemetry.read_samples(watched / telemetry.TELEMETRY_FILE, "", "")
        load = telemetry.summarize(samples, first_step_s=None)
        seen = {name: load[name] for name in ("sm_mhz", "power_w")}
        return wire.read_json(KernelTimeResult, answered), seen
