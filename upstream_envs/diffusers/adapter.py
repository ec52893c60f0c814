"""Drives diffusers' Wan 2.1 text-to-video pipeline, unpatched, as the reference side.

The pipeline's own loop runs: transformer, CFG and UniPC scheduler are diffusers'. From outside come
the weights, the initial latents, the prompt embeddings and FlashDreams' sigma table, which
diffusers' public ``set_timesteps(sigmas=...)`` takes.
"""

import re
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor

from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import NoiseBank, load_artifact
from runners.protocol.seeded_weights import load_weights
from upstream_envs import wan_network

_TOP = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
_IN_BLOCK = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
_PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}


def diffusers_name(name: str) -> str:
    """The diffusers name of one of Wan's own parameter names."""
    block = re.match(r"blocks\.\d+\.", name)
    table = _TOP if block is None else _IN_BLOCK
    prefix, rest = ("", name) if block is None else (block[0], name[block.end() :])
    for old, new in table.items():
        if rest == old or rest.startswith(old + "."):
            rest = new + rest[len(old) :]
            break
    rest = re.sub(r"^(attn[12])\.([qkvo])\.", lambda m: f"{m[1]}.{_PROJECTIONS[m[2]]}.", rest)
    return prefix + rest


DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("unipc",),
    "ar_steps": (1,),
    "sink_t": (0,),
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none",),
}
"""What this adapter does: one AR step that sees every frame, uncompiled, latents only."""


class Float64Timesteps(torch.nn.Module):
    """Sinusoidal timestep embedding in float64, for the run that measures the float32 floor.

    diffusers computes these angles in float32 whatever the model's dtype. At t = 999 that rounding
    is the largest float32 error of the whole model, so a floor without it would be too low.

    Source: diffusers 0.42.1, ``models/embeddings.py``, ``get_timestep_embedding`` as Wan calls it.
    """

    def __init__(self, num_channels: int) -> None:
        """Frequencies for ``num_channels`` outputs, cosines first."""
        super().__init__()
        half = num_channels // 2
        self.frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)

    def forward(self, timesteps_B: Tensor) -> Tensor:
        """Embed timesteps as [B, num_channels]."""
        angles = timesteps_B.double()[:, None] * self.frequencies.to(timesteps_B.device)
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


class DiffusersSide:
    """One WanPipeline, built to the job's shape, with its loop under observation."""

    def __init__(self, job: wire.Job) -> None:
        """Build pipeline, weights and inputs."""
        drive.require(job, DRIVEN | {"window_t": (job.len_t,)})
        self.job, self.guidance = job, job.guidance  # what the pipeline is called with
        self.dtype = drive.torch_dtype(job.dtype)
        # The pipeline keeps its latents in float32; only the float64 floor run goes beyond that.
        self.state_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.transformer = _build_transformer(job).to(job.device, self.dtype).eval()
        if self.dtype == torch.float64:
            self.transformer.condition_embedder.timesteps_proj = Float64Timesteps(
                job.network.freq_dim
            )
        self.scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=job.shift
        )
        self.pipeline = WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=None,
            scheduler=self.scheduler,
            transformer=self.transformer,
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.prepare_latents = lambda *_args, **_kwargs: self.noise_BCTHW
        _fix_sigmas(self.scheduler, self.state_dtype)
        self.scheduler.set_timesteps(job.denoising_steps)
        drive.choose_kernels(job.attention)
        self.bank = NoiseBank(job, job.device, self.state_dtype)
        text = load_artifact(job.text)
        self.text = {key: value.to(job.device, self.dtype)[None] for key, value in text.items()}
        self.facts = {"diffusers": diffusers.__version__}

    def settings(self) -> wire.Settings:
        """Read the settings back from the built pipeline."""
        job, config = self.job, self.transformer.config
        frames = job.len_t
        return wire.Settings(
            **drive.common_settings(job),
            ar_steps=1,
            sigmas=tuple(self.scheduler.sigmas[:-1].tolist()),
            timesteps=tuple(map(float, self.scheduler.timesteps.tolist())),
            timestep_rounding="none",
            guidance=self.guidance,
            len_t=frames,
            window_t=frames,
            sink_t=0,
            latent_shape=(frames, config.in_channels, job.latent_height, job.latent_width),
            attention=drive.attention_in_force(),
            cuda_graph=False,
            decoder="none",
            **wan_network.in_force(self.transformer),
        )

    def run(self, recorder: Recorder) -> None:
        """Call the pipeline once: a bidirectional recipe is a single AR step."""
        self.noise_BCTHW = self.bank.tensor(0, 0).transpose(0, 1)[None]
        self._observe(recorder)
        recorder.begin()
        latents_BCTHW = self._generate()
        recorder.mark("diffuse")
        recorder.end(0, latents_BCTHW[0].transpose(0, 1), print_line=True)

    def _generate(self) -> Tensor:
        job = self.job
        # The pipeline asks for pixels; Wan's VAE is 8x in space and 4x in time after frame one.
        return self.pipeline(
            prompt_embeds=self.text["text"],
            negative_prompt_embeds=self.text["negative"],
            height=8 * job.latent_height,
            width=8 * job.latent_width,
            num_frames=4 * (job.len_t - 1) + 1,
            num_inference_steps=job.denoising_steps,
            guidance_scale=self.guidance,
            output_type="latent",
        ).frames

    def _observe(self, recorder: Recorder) -> None:
        """Mark each denoising step at its first network call; CFG makes two calls a step."""
        forward, calls = self.transformer.forward, 0
        calls_per_step = 2 if self.job.guidance > 1 else 1

        def observed(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls % calls_per_step == 0:
                recorder.denoise()
            calls += 1
            return forward(*args, **kwargs)

        self.transformer.forward = observed


def _build_transformer(job: wire.Job) -> WanTransformer3DModel:
    """The transformer in the job's shape, with every parameter loaded strictly."""
    network = job.network
    transformer = WanTransformer3DModel(
        num_attention_heads=network.num_heads,
        attention_head_dim=network.dim // network.num_heads,
        in_channels=network.in_dim,
        out_channels=network.out_dim,
        text_dim=network.text_dim,
        freq_dim=network.freq_dim,
        ffn_dim=network.ffn_dim,
        num_layers=network.num_layers,
    )
    weights = load_weights(job, job.device)
    transformer.load_state_dict({diffusers_name(k): v for k, v in weights.items()}, strict=True)
    return transformer


def _fix_sigmas(scheduler: UniPCMultistepScheduler, dtype: torch.dtype) -> None:
    """Let the pipeline's ``set_timesteps`` call build FlashDreams' table.

    Left alone, diffusers spaces sigmas differently: five steps give timesteps 999, 969, 923, 842,
    667 where FlashDreams has 999, 969, 922, 841, 666. The shift is applied by the scheduler.
    """
    set_timesteps = scheduler.set_timesteps

    def with_sigmas(num_inference_steps: int, device: Any = None) -> None:
        sigmas = np.linspace(0.999, 0.0, num_inference_steps + 1)[:-1]
        set_timesteps(sigmas=sigmas, device=device)
        scheduler.sigmas = scheduler.sigmas.to(dtype)

    scheduler.set_timesteps = with_sigmas


if __name__ == "__main__":
    drive.drive(DiffusersSide)
