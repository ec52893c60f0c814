"""Runs a FlashDreams pipeline as one side of a comparison: everything comes from the job.

The library's own loops run unchanged. Noise is injected where they draw it, and the recorder
follows the library's profiler, so the step line in the log is FlashDreams' own. What differs
between families of pipelines is in their drivers.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, TypeVar

import flashdreams.infra.diffusion.model.base as diffusion_module
import flashdreams.infra.diffusion.scheduler.fm as flow_match_module
import flashdreams.infra.pipeline.base as pipeline_module
import torch
from flashdreams.core.attention.native import NativeAttention
from flashdreams.infra.config import derive_config
from flashdreams.infra.cuda_graph import CUDAGraphWrapper
from flashdreams.infra.diffusion.scheduler import FlowPredictor, Scheduler
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchScheduler
from flashdreams.infra.runner import RunnerConfig
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from runners import cpu, decoders, families
from runners.captured_graph import GraphWatch
from runners.protocol import drive, seeded_weights, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import (
    BankedTorch,
    NoiseBank,
    check_shape,
    load_artifact,
    load_inputs,
)
from runners.protocol.weight_rules import FROM_FILE

Config = TypeVar("Config", bound=RunnerConfig)


def configure(config: Config, job: wire.Job) -> Config:
    """The runner's published configuration, bent to what the job fixes for both sides.

    Raises:
        drive.UnsupportedJobError: The job is for another slug, names another decoder or part, or
            nobody drives the runner's family.
    """
    drive.require(job, {"slug": (config.runner_name,), "decoder": ("none", *decoders.CONFIGS)})
    driver, diffusion = families.driver_of(config.pipeline), config.pipeline.diffusion_model
    drive.apply_threads(job)
    mended = families.mended(diffusion, families.left_by(job, diffusion))
    config = derive_config(
        config,
        device=job.device,
        offset_seed_by_global_rank=False,
        pipeline={
            "decoder": decoders.configured(config.pipeline.decoder, job),
            "diffusion_model": derive_config(
                mended, seed=job.seed, scheduler=_scheduler_changes(job)
            ),
        },
    )
    return derive_config(config, pipeline=driver.changes(job))


def _scheduler_changes(job: wire.Job) -> dict[str, Any]:
    changes: dict[str, Any] = {"num_inference_steps": job.denoising_steps, "shift": job.shift}
    if job.denoising_timesteps:
        changes["denoising_timesteps"] = list(job.denoising_timesteps)
    return changes


@contextmanager
def building(config: RunnerConfig, job: wire.Job) -> Iterator[None]:
    """What a job's pipeline is built in: weights made on the device come instead of a file's."""
    if job.weights_from == FROM_FILE:
        yield
        return
    module = sys.modules[type(config.pipeline.diffusion_model.transformer).__module__]
    from_file = module.load_checkpoint
    module.load_checkpoint = lambda _: seeded_weights.load_weights(job, job.device)
    try:
        yield
    finally:
        module.load_checkpoint = from_file


def run(pipeline: Any, job_path: Path, more_facts: Mapping[str, str] | None = None) -> None:
    """Run every AR step of the job through the library's ``generate`` and ``finalize``."""
    job = drive.read_job(job_path)
    recorder = Recorder(job, job_path.parent)
    model = pipeline.diffusion_model
    driver, left = families.driver_of(pipeline.config), families.left_by(job, model.config)
    families.mend(model, left)
    inputs = _encoded(pipeline, job)
    bank = NoiseBank(job, str(pipeline.device), model.transformer.dtype)
    cache = driver.open(pipeline, job, inputs)
    recorder.settings(settings_in_force(pipeline, driver, cache, job))
    _give_control(pipeline, job, driver, inputs)
    _record_stages(recorder, model.scheduler)
    _inject_noise(model.transformer, bank, lambda: cache.transformer_cache.autoregressive_index)
    graph = GraphWatch(driver.graphs(pipeline))
    for ar in range(job.ar_steps):
        output = pipeline.generate(ar, cache)
        pipeline.finalize(ar, cache)
        graph.look(ar)
        latents = model.transformer.unpatchify_and_maybe_gather_cp(cache.final_state.clean_latent)
        frames = None if pipeline.decoder is None else (lambda decoded=output: decoded)
        recorder.end(ar, latents, print_line=False, frames=frames)
    facts = library_facts() | graph.facts() | decoders.facts(pipeline.decoder)
    recorder.close(bank.draws, {**facts, **(more_facts or {})})


def _encoded(pipeline: Any, job: wire.Job) -> dict[str, Tensor]:
    """What the job's encoders give, and its named inputs; numbers in the model's dtype."""
    found, dtype = load_artifact(job.text) | load_inputs(job), pipeline.diffusion_model.dtype
    return {
        # Poses and labels stay as they are: they are no activations.
        name: value.to(pipeline.device, dtype if value.dtype == torch.bfloat16 else None)
        for name, value in found.items()
    }


def _give_control(
    pipeline: Any, job: wire.Job, driver: families.Driver, inputs: Mapping[str, Tensor]
) -> None:
    """Pass what steers an AR step where the pipeline's own encoder would have put it."""
    if driver.control(pipeline, job, inputs, 0) is None:
        return
    generate = pipeline.diffusion_model.generate
    controls = [driver.control(pipeline, job, inputs, ar) for ar in range(job.ar_steps)]

    def with_control(**arguments: Any) -> Any:
        ar = arguments["autoregressive_index"]
        return generate(**{**arguments, "input": controls[ar]})

    pipeline.diffusion_model.generate = with_control


def settings_in_force(
    pipeline: Any, driver: families.Driver, cache: Any, job: wire.Job
) -> wire.Settings:
    """Read the settings back from the built pipeline, not from what was asked."""
    model = pipeline.diffusion_model
    scheduler, networks = model.scheduler, driver.networks(pipeline)
    sigmas, timesteps = _tables(scheduler)
    shipped = families.as_shipped(model)
    built = {"slug": pipeline.config.name, "seed": model.config.seed}
    if job.weights_from == FROM_FILE:
        built["weights_sha256"] = wire.sha256_once(model.transformer.config.checkpoint_path)
    return wire.Settings(
        **drive.common_settings(job) | built,
        **driver.in_force(pipeline, cache),
        num_parameters=sum(p.numel() for network in networks for p in network.parameters()),
        ar_steps=job.ar_steps,
        sigmas=sigmas,
        timesteps=timesteps,
        timestep_rounding="as_shipped" if families.TIMESTEPS in shipped else "none",
        dtype=drive.dtype_name(model.transformer.dtype),
        attention=attention_in_force(networks),
        compile=any(isinstance(network, OptimizedModule) for network in networks),
        cuda_graph=any(isinstance(one, CUDAGraphWrapper) for one in driver.graphs(pipeline)),
        decoder=decoders.name_in_force(pipeline.decoder),
        device=pipeline.device.type,
        decoder_weights_sha256=decoders.weights_in_force(pipeline.decoder),
        context_noise=model.config.context_noise,
        networks=len(networks),
        as_shipped=tuple(part for part in shipped if part != families.TIMESTEPS),
    )


def _tables(scheduler: Scheduler) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Noise levels and timesteps of a built scheduler."""
    if isinstance(scheduler, FlowMatchScheduler):
        sigmas, timesteps = scheduler.denoising_sigmas, scheduler.denoising_step_list
    else:
        sigmas, timesteps = scheduler.sigmas, scheduler.timesteps
    return tuple(sigmas.tolist()), tuple(map(float, timesteps.tolist()))


def attention_in_force(networks: tuple[nn.Module, ...]) -> str:
    """Kernel of every attention of the networks, read from its own object."""
    kernels = {
        cpu.attention_in_force(module.backend)
        for network in networks
        for module in network.modules()
        if isinstance(module, NativeAttention)
    }
    return " and ".join(sorted(kernels))


def _record_stages(recorder: Recorder, scheduler: Scheduler) -> None:
    """Let the recorder follow the library's profiler and its denoising loop."""
    library_profiler = pipeline_module.EventProfiler
    # The CPU profiler is this project's own: a second reading of the same clock would check nothing
    # and differ by whatever the system scheduled in between.
    is_ours = issubclass(library_profiler, cpu.CpuProfiler)

    class RecordingProfiler(library_profiler):
        def __init__(self) -> None:
            recorder.prepare()  # what a profiler takes to start is in nobody's stage
            super().__init__()
            recorder.begin(self.start if is_ours else None)

        def record(self, stage: str) -> None:
            super().record(stage)
            recorder.mark(stage, self.ends[stage] if is_ours else None)

        def sync_and_summarize(self) -> dict[str, float]:
            recorder.finished()  # the library's memory report and log line are in nobody's stage
            return super().sync_and_summarize()

    pipeline_module.EventProfiler = RecordingProfiler
    sample = scheduler.sample

    def recorded_sample(
        initial_noise: Tensor, predict_flow: FlowPredictor, rng: torch.Generator | None = None
    ) -> Tensor:
        def recorded(noisy: Tensor, timestep: Tensor) -> Tensor:
            recorder.denoise()
            return predict_flow(noisy, timestep)

        return sample(initial_noise, recorded, rng)

    scheduler.sample = recorded_sample


def _inject_noise(transformer: Any, bank: NoiseBank, current_ar: Callable[[], int]) -> None:
    """Serve the library's draws from the bank, in the patch layout it draws in."""
    drawn = Counter[int]()

    def draw(shape: tuple[int, ...]) -> Tensor:
        ar = current_ar()
        noise_TCHW = bank.tensor(ar, drawn[ar])
        drawn[ar] += 1
        return check_shape(transformer.patchify_and_maybe_split_cp(noise_TCHW), shape)

    diffusion_module.torch = BankedTorch(draw)
    flow_match_module.torch = BankedTorch(draw)


def library_facts() -> dict[str, str]:
    """Identity of the library under test: its version string does not change between commits."""
    lines = (distribution("flashdreams").read_text("RECORD") or "").splitlines(keepends=True)
    # Its command is outside the package, and has the environment's own folder in its first line.
    record = "".join(line for line in lines if not line.startswith("../"))
    return {
        "flashdreams": version("flashdreams"),
        "flashdreams_record_sha256": hashlib.sha256(record.encode()).hexdigest(),
    }
