"""Drives FastVideo's causal DMD stage (Self-Forcing on Wan 2.1) with none of it changed."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import BankedTorch, NoiseBank, check_shape, load_artifact
from upstream_envs import fastvideo_code, wan_network
from upstream_envs.call_plan import PlannedCalls

UPSTREAM = {
    "network": "fastvideo.models.dits.causal_wanvideo",
    "scheduling": "fastvideo.models.schedulers.scheduling_self_forcing_flow_match",
    "stages": "fastvideo.pipelines.stages.causal_denoising",
}

UNLIMITED_FRAMES = 21
"""Longest rollout, in latent frames, that FastVideo takes with ``local_attn_size`` -1."""

TRAIN_TIMESTEPS = 1000

DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("self_forcing",),
    "dtype": ("bfloat16",),  # hard-coded in the stage
    "guidance": (1.0,),
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none",),
}
"""What this adapter does."""


def build_config(upstream: Any, job: wire.Job) -> Any:
    """FastVideo's Self-Forcing pipeline config with the job's network, window and steps."""
    as_published = job.ar_steps * job.len_t <= UNLIMITED_FRAMES == job.window_t and not job.sink_t
    dit_config = fastvideo_code.build_arch(
        upstream,
        job.network,
        local_attn_size=-1 if as_published else job.window_t + job.sink_t,
        sink_size=job.sink_t,
        num_frames_per_block=job.len_t,
    )
    config = upstream.configs.SelfForcingWanT2V480PConfig(
        dit_config=dit_config, dmd_denoising_steps=list(job.denoising_timesteps)
    )
    config.text_encoder_configs[0].arch_config.text_len = job.network.text_len
    return config


def build_stage(upstream: Any, transformer: Any, shift: float) -> Any:
    """FastVideo's causal stage with Self-Forcing's scheduler."""
    scheduler = upstream.scheduling.SelfForcingFlowMatchScheduler(
        num_inference_steps=TRAIN_TIMESTEPS,
        num_train_timesteps=TRAIN_TIMESTEPS,
        shift=shift,  # set_shift would leave the tables as they are
        sigma_min=0.0,
        extra_one_step=True,
        training=True,
    )
    stage = upstream.stages.CausalDMDDenosingStage(transformer=transformer, scheduler=scheduler)
    # The bar would write into the lines that the step report is on.
    stage.progress_bar = lambda **_: nullcontext()
    return stage


def read_call(latents: Tensor, _text: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    """Latents [T, C, H, W] and timesteps of one call of the transformer."""
    return latents[0].transpose(0, 1), timestep


class FastVideoCausalSide:
    """FastVideo's causal stage, ready to run the whole job in one call."""

    def __init__(self, job: wire.Job) -> None:
        """Load network, stage and inputs, and put the stand-ins for noise and timing in place."""
        kernels = ("sdpa",) if job.device == "cpu" else ("cudnn", "sdpa")
        drive.require(job, DRIVEN | {"attention": kernels})
        self._job, upstream = job, fastvideo_code.import_upstream(job, UPSTREAM)
        self._config = build_config(upstream, job)
        self._transformer = fastvideo_code.load_transformer(
            upstream.network.CausalWanTransformer3DModel, self._config.dit_config, job
        )
        self._stage = build_stage(upstream, self._transformer, job.shift)
        self._autocast_off = upstream.args.FastVideoArgs.disable_autocast
        self.bank = NoiseBank(job, job.device, drive.torch_dtype(job.dtype))
        self._batch = self._build_batch(upstream)
        # The stage filters keyword arguments by signature; upstream's is (*args, **kwargs) as well.
        self._calls = PlannedCalls(job, self._transformer.forward, read_call)
        self._transformer.forward = self._calls
        upstream.stages.torch = BankedTorch(self._draw)
        self.facts = fastvideo_code.facts() | {
            "stand_ins": "sequence group of one; torch.randn in the stage; no progress bar",
            "local_attn_size": str(self._stage.local_attn_size),
            "autocast": "off" if self._autocast_off else "as shipped: bfloat16 on CUDA",
        }

    def _build_batch(self, upstream: Any) -> Any:
        """Initial noise of all AR steps and the prompt, as FastVideo's own stages leave them."""
        noise = torch.cat([self.bank.tensor(ar, 0) for ar in range(self._job.ar_steps)])
        text = load_artifact(self._job.text)["text"].to(noise)
        return upstream.batches.ForwardBatch(
            data_type="video",
            latents=noise.transpose(0, 1).unsqueeze(0).contiguous(),  # [1, C, T, H, W]
            prompt_embeds=[text.unsqueeze(0)],
        )

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        """Noise [1, T, C, H, W] to mix in before the next denoising step."""
        noise = self.bank.tensor(self._calls.ar, self._calls.step + 1)
        return check_shape(noise.unsqueeze(0), shape)

    def _cache_frames(self) -> int:
        """Latent frames that the stage gives its self-attention cache."""
        self._stage.frame_seq_length = 1  # forward sets it again, to the tokens of a frame
        caches = self._stage._initialize_kv_cache(1, torch.bfloat16, "meta")
        return int(caches[0]["k"].shape[1])

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded stage."""
        job, len_t = self._job, self._stage.num_frames_per_block
        _, channels, frames, height, width = self._batch.latents.shape
        (sink_t,) = {block.attn1.sink_size for block in self._transformer.blocks}
        scheduler = self._stage.scheduler
        rows = TRAIN_TIMESTEPS - torch.tensor(self._config.dmd_denoising_steps)  # as in forward
        return wire.Settings(
            **drive.common_settings(job),
            ar_steps=frames // len_t,
            sigmas=tuple(scheduler.sigmas[rows].tolist()),
            timesteps=tuple(scheduler.timesteps[rows].tolist()),
            timestep_rounding="none",
            guidance=1.0,
            len_t=len_t,
            window_t=self._cache_frames() - sink_t,
            sink_t=sink_t,
            latent_shape=(len_t, channels, height, width),
            attention=fastvideo_code.attention_in_force(self._transformer),
            cuda_graph=False,
            decoder="none",
            **wan_network.in_force(self._transformer),
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own ``forward`` over all AR steps, then check how it used the network."""
        self._calls.recorder = recorder
        args = SimpleNamespace(pipeline_config=self._config, disable_autocast=self._autocast_off)
        self._stage.forward(self._batch, args)
        self._calls.check()
