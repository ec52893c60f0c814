"""Runs a FlashDreams pipeline as one side of a comparison: everything comes from the job.

The library's own loops run unchanged. Noise is injected where they draw it, and the recorder
follows the library's profiler, so the step line in the log is FlashDreams' own.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, TypeVar

import flashdreams.infra.diffusion.model.base as diffusion_module
import flashdreams.infra.diffusion.scheduler.fm as flow_match_module
import flashdreams.infra.pipeline.base as pipeline_module
import torch
from flashdreams.infra.config import derive_config
from flashdreams.infra.diffusion.scheduler import FlowPredictor, Scheduler
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchScheduler
from flashdreams.infra.pipeline import StreamInferencePipeline
from flashdreams.infra.runner import RunnerConfig
from flashdreams.recipes.wan import WanInferencePipeline, WanInferencePipelineCache
from flashdreams.recipes.wan.autoencoder.i2v import I2VCtrl
from flashdreams.recipes.wan.transformer.wan21 import (
    Wan21Transformer,
    Wan21TransformerCache,
    Wan21TransformerConfig,
)
from torch import Tensor

from runners import decoders, exact_timesteps
from runners.captured_graph import GraphWatch
from runners.cpu import CpuProfiler
from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import BankedTorch, NoiseBank, check_shape, load_artifact

Config = TypeVar("Config", bound=RunnerConfig)


def configure(config: Config, job: wire.Job) -> Config:
    """The runner's published configuration, bent to what the job fixes for both sides.

    Raises:
        drive.UnsupportedJobError: The job is for another slug, names another decoder, or the runner
            is none of Wan 2.1 from text.
    """
    drive.require(job, {"slug": (config.runner_name,), "decoder": ("none", *decoders.CONFIGS)})
    _require_wan21(config)
    drive.apply_threads(job)
    diffusion = config.pipeline.diffusion_model
    if job.timestep_rounding == "none":
        config = derive_config(
            config, pipeline={"diffusion_model": exact_timesteps.exact_targets(diffusion)}
        )
    return derive_config(
        config,
        device=job.device,
        offset_seed_by_global_rank=False,
        pipeline={
            "decoder": decoders.configured(config.pipeline.decoder, job),
            "text_encoder": None,
            "encoder": None,
            "image_encoder": None,
            "diffusion_model": {
                "seed": job.seed,
                "transformer": _transformer_changes(job),
                "scheduler": _scheduler_changes(job),
            },
        },
    )


def _require_wan21(config: RunnerConfig) -> None:
    """Refuse a runner whose inputs a job does not carry.

    Raises:
        drive.UnsupportedJobError: Another network, or a first frame stamped into the latents.
    """
    transformer = config.pipeline.diffusion_model.transformer
    if not isinstance(transformer, Wan21TransformerConfig) or transformer.stamp_image_latent:
        raise drive.UnsupportedJobError(
            f"{config.runner_name} has no matched trial: driven is Wan 2.1 from text, or from an "
            f"image beside the latents; run flashdreams-run {config.runner_name} without --job"
        )


def _transformer_changes(job: wire.Job) -> dict[str, Any]:
    network = dataclasses.asdict(job.network)
    del network["image_tokens"]  # the library's network takes any number
    return {
        "network": network,
        "dtype": drive.torch_dtype(job.dtype),
        "checkpoint_path": job.weights.path,
        "state_dict_transform": None,
        "len_t": job.len_t,
        "window_size_t": job.window_t,
        "sink_size_t": job.sink_t,
        "guidance_scale": job.guidance,
        "compile_network": job.compile,
        "use_cuda_graph": job.cuda_graph,
    }


def _scheduler_changes(job: wire.Job) -> dict[str, Any]:
    changes: dict[str, Any] = {"num_inference_steps": job.denoising_steps, "shift": job.shift}
    if job.solver == "self_forcing":
        changes["denoising_timesteps"] = list(job.denoising_timesteps)
    return changes


def run(pipeline: WanInferencePipeline, job_path: Path) -> None:
    """Run every AR step of the job through the library's ``generate`` and ``finalize``."""
    job = wire.read_json(wire.Job, job_path)
    recorder = Recorder(job, job_path.parent)
    transformer = pipeline.diffusion_model.transformer
    bank = NoiseBank(job, str(pipeline.device), transformer.dtype)
    cache = _initialize_cache(pipeline, job)
    recorder.settings(settings_in_force(pipeline, cache.transformer_cache, job))
    _give_first_frame(pipeline, job)
    _record_stages(recorder, pipeline.diffusion_model.scheduler)
    _inject_noise(transformer, bank, lambda: cache.transformer_cache.autoregressive_index)
    graph = GraphWatch(transformer)
    for ar in range(job.ar_steps):
        output = pipeline.generate(ar, cache)
        pipeline.finalize(ar, cache)
        graph.look(ar)
        latents_TCHW = transformer.unpatchify_and_maybe_gather_cp(cache.final_state.clean_latent)
        frames = None if pipeline.decoder is None else (lambda decoded=output: decoded)
        recorder.end(ar, latents_TCHW, print_line=False, frames=frames)
    facts = library_facts() | graph.facts() | decoders.facts(pipeline.decoder)
    recorder.close(bank.draws, facts)


@torch.no_grad()
def _initialize_cache(pipeline: WanInferencePipeline, job: wire.Job) -> WanInferencePipelineCache:
    """The pipeline's cache, from prompt embeddings where the pipeline itself takes only prompts."""
    text = _encoded(pipeline, job)
    cache = StreamInferencePipeline.initialize_cache(
        pipeline,
        {
            "height": job.latent_height,
            "width": job.latent_width,
            "text_embeddings": text["text"],
            "negative_text_embeddings": text["negative"] if job.guidance > 1 else None,
            "image_embeddings": text.get("clip"),
        },
    )
    return WanInferencePipelineCache(
        transformer_cache=cache.transformer_cache, decoder_cache=cache.decoder_cache
    )


def _encoded(pipeline: WanInferencePipeline, job: wire.Job) -> dict[str, Tensor]:
    """What the job's encoders give, in the model's dtype."""
    return {
        key: value.to(pipeline.device, pipeline.diffusion_model.dtype)
        for key, value in load_artifact(job.text).items()
    }


def _give_first_frame(pipeline: WanInferencePipeline, job: wire.Job) -> None:
    """Pass the encoded first frame where the pipeline's own encoder would have put it."""
    if not job.network.image_tokens:
        return
    image_TCHW = _encoded(pipeline, job)["image"]
    mask_TCHW = torch.zeros_like(image_TCHW)
    mask_TCHW[0] = 1.0
    generate = pipeline.diffusion_model.generate

    def with_first_frame(**arguments: Any) -> Any:
        control = I2VCtrl(latent=image_TCHW, mask=mask_TCHW)
        return generate(**{**arguments, "input": control})

    pipeline.diffusion_model.generate = with_first_frame


def settings_in_force(
    pipeline: WanInferencePipeline, cache: Wan21TransformerCache, job: wire.Job
) -> wire.Settings:
    """Read the settings back from the built pipeline."""
    model = pipeline.diffusion_model
    transformer, scheduler = model.transformer, model.scheduler
    latent_shape = transformer.unpatchify_and_maybe_gather_cp(
        torch.empty(model.latent_shape, device="cpu")
    ).shape
    kt, kh, kw = transformer.config.network.patch_size
    tokens_per_frame = latent_shape[-2] * latent_shape[-1] // (kt * kh * kw)
    window = cache.network_cache[0].self_attn
    is_self_forcing = isinstance(scheduler, FlowMatchScheduler)
    # What the library was built with counts, not what the job asked for.
    built = {
        "slug": pipeline.config.name,
        "weights_sha256": wire.sha256_once(transformer.config.checkpoint_path),
        "seed": model.config.seed,
    }
    return wire.Settings(
        **drive.common_settings(job) | built,
        num_parameters=sum(p.numel() for p in transformer.network.parameters()),
        ar_steps=job.ar_steps,
        sigmas=tuple(
            (scheduler.denoising_sigmas if is_self_forcing else scheduler.sigmas).tolist()
        ),
        timesteps=tuple(
            map(
                float,
                (
                    scheduler.denoising_step_list if is_self_forcing else scheduler.timesteps
                ).tolist(),
            )
        ),
        timestep_rounding=exact_timesteps.rounding_in_force(scheduler),
        guidance=transformer.config.guidance_scale,
        len_t=transformer.config.len_t,
        window_t=window.window_size // tokens_per_frame,
        sink_t=window.sink_size // tokens_per_frame,
        latent_shape=tuple(latent_shape),
        dtype=drive.dtype_name(transformer.dtype),
        attention="cudnn" if pipeline.device.type == "cuda" else "sdpa",
        compile=transformer.config.compile_network,
        cuda_graph=transformer.config.use_cuda_graph,
        decoder=decoders.name_in_force(pipeline.decoder),
        device=pipeline.device.type,
        decoder_weights_sha256=decoders.weights_in_force(pipeline.decoder),
    )


def _record_stages(recorder: Recorder, scheduler: Scheduler) -> None:
    """Let the recorder follow the library's profiler and its denoising loop."""
    library_profiler = pipeline_module.EventProfiler
    # The CPU profiler is this project's own: a second reading of the same clock would check nothing
    # and differ by whatever the system scheduled in between.
    is_ours = issubclass(library_profiler, CpuProfiler)

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


def _inject_noise(
    transformer: Wan21Transformer, bank: NoiseBank, current_ar: Callable[[], int]
) -> None:
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
    record = distribution("flashdreams").read_text("RECORD") or ""
    return {
        "flashdreams": version("flashdreams"),
        "flashdreams_record_sha256": hashlib.sha256(record.encode()).hexdigest(),
    }
