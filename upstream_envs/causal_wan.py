"""Drives the causal inference pipeline that Self-Forcing and Causal-Forcing share, unpatched.

Their repositories have the same network and the same loop, ``CausalInferencePipeline.inference``.
It runs whole; from outside come weights, noise, prompt embeddings, the attention kernel and timers.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from runners.protocol import drive, solvers, wire
from runners.protocol.kinds import KINDS
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import (
    BankedTorch,
    NoiseBank,
    check_shape,
    load_artifact,
    load_inputs,
)
from upstream_envs import causal_decoders, stand_ins, wan_network
from upstream_envs.call_plan import PlannedCalls

SHELLS = ("wan", "wan.modules", "pipeline", "utils", "demo_utils")

INERT = {
    "wan.modules.tokenizers": ("HuggingfaceTokenizer",),
    "wan.modules.t5": ("umt5_xxl",),
    "demo_utils.memory": (
        *("gpu", "get_cuda_free_memory_gb", "DynamicSwapInstaller"),
        "move_model_to_device_with_memory_preservation",
    ),
}

UPSTREAM = {
    "model": "wan.modules.model",
    "causal_model": "wan.modules.causal_model",
    "wrapper": "utils.wan_wrapper",
    "inference": "pipeline.causal_inference",
}
"""The modules that are driven, by the name they go by here."""

DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("self_forcing",),
    "dtype": ("bfloat16", "float16", "float32", "float64"),
    "guidance": (1.0,),
    "sink_t": (0,),
    "given_frames": (0,),
    "input_names": ((),),
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none", *causal_decoders.DECODERS),
}
"""What this adapter does."""

PUBLISHED_FRAMES = 21
"""Latent frames that upstream's KV cache holds with ``local_attn_size`` -1, as published."""


def import_upstream() -> Any:
    """Import :data:`UPSTREAM` with the attention of :mod:`upstream_envs.stand_ins`."""
    stand_ins.install_shells(stand_ins.source_folder(), SHELLS)
    stand_ins.install_inert(INERT)
    stand_ins.install_diffusers()
    modules = {name: importlib.import_module(module) for name, module in UPSTREAM.items()}
    upstream = SimpleNamespace(**modules)
    upstream.model.flash_attention = upstream.causal_model.attention = stand_ins.attention
    # Progress bars and notes would write into the lines that the step report is on.
    upstream.inference.print = lambda *_: None
    if hasattr(upstream.inference, "tqdm"):
        upstream.inference.tqdm = SimpleNamespace(tqdm=lambda steps: steps)
    return upstream


def build_generator(upstream: Any, job: wire.Job) -> Any:
    """Upstream's wrapper around the network, with the job's weights strictly loaded."""
    is_published = job.ar_steps * job.len_t <= PUBLISHED_FRAMES == job.window_t
    window = {"local_attn_size", "sink_size"}  # some wrappers pass more, about loading
    upstream.causal_model.CausalWanModel.from_pretrained = lambda _path, **options: (
        wan_network.empty(
            upstream.causal_model,
            "CausalWanModel",
            job.network,
            **{name: value for name, value in options.items() if name in window},
        )
    )
    generator = upstream.wrapper.WanDiffusionWrapper(
        is_causal=True,
        timestep_shift=job.shift,
        # Only a local window makes upstream drop frames; without one the cache must hold them all.
        local_attn_size=-1 if is_published else job.window_t + job.sink_t,
        sink_size=job.sink_t,
    )
    wan_network.load(generator.model, job, drive.torch_dtype(job.dtype))
    if job.sink_t:  # upstream counts 1560 tokens a frame here
        for block in generator.model.blocks:
            block.self_attn.max_attention_size = (job.window_t + job.sink_t) * frame_tokens(job)
    return generator


def frame_tokens(job: wire.Job) -> int:
    """Tokens of a latent frame."""
    return KINDS[job.network.kind].tokens(job.latent_height, job.latent_width)


def build_pipeline(upstream: Any, generator: Any, job: wire.Job, text: Tensor) -> Any:
    """Upstream's pipeline; prompt embeddings are given, its decoding of the whole clip left out."""
    options = SimpleNamespace(
        denoising_step_list=list(job.denoising_timesteps),
        warp_denoising_step=True,
        num_frame_per_block=job.len_t,
        independent_first_frame=False,
        context_noise=0,
    )
    pipeline = upstream.inference.CausalInferencePipeline(
        options,
        device=job.device,
        generator=generator,
        text_encoder=lambda **_: {"prompt_embeds": text.unsqueeze(0)},
        vae=SimpleNamespace(decode_to_pixel=lambda latents, **_: latents),
    )
    pipeline.num_transformer_blocks = job.network.num_layers
    pipeline.frame_seq_length = frame_tokens(job)
    pipeline.kv_cache1 = [_self_attention_cache(job, pipeline) for _ in generator.model.blocks]
    pipeline.crossattn_cache = [{"is_init": False} for _ in generator.model.blocks]
    return pipeline


def _self_attention_cache(job: wire.Job, pipeline: Any) -> dict[str, Tensor]:
    """Upstream's cache of one layer; its own ``_initialize_kv_cache`` knows one width only."""
    network, dtype = job.network, drive.torch_dtype(job.dtype)
    heads = (network.num_heads, network.dim // network.num_heads)
    shape = (1, (job.window_t + job.sink_t) * pipeline.frame_seq_length, *heads)
    cache = {name: torch.zeros(shape, dtype=dtype, device=job.device) for name in "kv"}
    ends = ("global_end_index", "local_end_index")
    return cache | {name: torch.zeros(1, dtype=torch.long, device=job.device) for name in ends}


def read_call(noisy_image_or_video: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
    """Latents [T, C, H, W] and timesteps of one call of the wrapper."""
    return noisy_image_or_video[0], timestep


def _given(job: wire.Job, like: Tensor) -> Tensor | None:
    """Latent frames [1, T, C, H, W] that a video starts from; None where it starts from text."""
    if not job.given_frames:
        return None
    return load_inputs(job)["first_frame"].to(like).unsqueeze(0)


class CausalWanSide:
    """The causal pipeline, ready to run the whole job in one call."""

    driven = DRIVEN
    """What a repository of its own may drive besides."""

    def __init__(self, job: wire.Job) -> None:
        """Load network, pipeline and inputs, and put noise and timing in place."""
        kernels = ("sdpa",) if job.device == "cpu" else ("cudnn", "sdpa")
        drive.require(job, self.driven | {"attention": kernels})
        self._job, self._upstream = job, import_upstream()
        drive.choose_kernels(job.attention)
        dtype = drive.torch_dtype(job.dtype)
        self._text = load_artifact(job.text)["text"].to(job.device, dtype)
        self._generator = build_generator(self._upstream, job)
        self._pipeline = build_pipeline(self._upstream, self._generator, job, self._text)
        self.bank = NoiseBank(job, job.device, dtype)
        drawn = [ar for ar in range(job.ar_steps) if not solvers.is_given(job, ar)]
        noise = torch.cat([self.bank.tensor(ar, 0) for ar in drawn])
        self._noise_BTCHW = noise.unsqueeze(0)
        self._given_BTCHW = _given(job, noise)
        self._calls = PlannedCalls(job, self._generator.forward, read_call)
        self._generator.forward = self._calls
        if job.decoder != "none":
            self._calls.decoder = causal_decoders.DECODERS[job.decoder](self._upstream, job)
        self._upstream.inference.torch = BankedTorch(self._draw)
        self.facts = stand_ins.source_facts() | {
            "shells": ", ".join(SHELLS),
            "inert": ", ".join(INERT),
            "stand_ins": "diffusers mixins; torch.randn_like in the pipeline; no progress bar",
            "attention": f"scaled_dot_product_attention, {drive.attention_in_force()}",
            "local_attn_size": str(self._pipeline.local_attn_size),
        }

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        """Noise [T, C, H, W] to mix in before the next denoising step."""
        noise = self.bank.tensor(self._calls.ar, self._calls.step + 1)
        return check_shape(noise, shape)

    def _attention(self) -> str:
        names = (self._upstream.model.flash_attention, self._upstream.causal_model.attention)
        is_redirected = all(name is stand_ins.attention for name in names)
        return drive.attention_in_force() if is_redirected else "upstream's own"

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded pipeline."""
        job, pipeline, scheduler = self._job, self._pipeline, self._generator.scheduler
        _, frames, channels, height, width = self._noise_BTCHW.shape
        (cached_tokens,) = {cache["k"].shape[1] for cache in pipeline.kv_cache1}
        (sink_t,) = {block.self_attn.sink_size for block in self._generator.model.blocks}
        given_frames = 0 if self._given_BTCHW is None else self._given_BTCHW.shape[1]
        told = pipeline.denoising_step_list
        rows = (scheduler.timesteps[None] - told[:, None]).abs().argmin(1)  # as upstream looks up
        return wire.Settings(
            **drive.common_settings(job),
            ar_steps=(frames + given_frames) // pipeline.num_frame_per_block,
            sigmas=tuple(scheduler.sigmas[rows].tolist()),
            timesteps=tuple(told.tolist()),
            timestep_rounding="none",
            guidance=1.0,
            len_t=pipeline.num_frame_per_block,
            window_t=cached_tokens // pipeline.frame_seq_length - sink_t,
            sink_t=sink_t,
            latent_shape=(pipeline.num_frame_per_block, channels, height, width),
            attention=self._attention(),
            cuda_graph=False,
            given_frames=given_frames,
            context_noise=pipeline.args.context_noise,
            decoder=causal_decoders.name_in_force(self._calls.decoder),
            decoder_weights_sha256=wire.sha256_once(job.decoder_weights.path)
            if job.decoder_weights
            else "none",
            **wan_network.in_force(self._generator),
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own ``inference`` over all AR steps, then check its network calls."""
        self._calls.recorder = recorder
        given = {} if self._given_BTCHW is None else {"initial_latent": self._given_BTCHW}
        self._pipeline.inference(self._noise_BTCHW, text_prompts=[""], **given)
        self._calls.check()
        if self._calls.decoder is not None:
            self.facts |= self._calls.decoder.facts
