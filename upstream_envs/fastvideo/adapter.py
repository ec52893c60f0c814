"""Drives FastVideo 0.2.1's causal DMD stage (Self-Forcing on Wan 2.1) with none of it changed.

Run as ``python adapter.py job.json``. Packages whose ``__init__`` imports every model become
shells, modules that this path never reaches are inert, and timing sits around the network.
"""

import importlib
import importlib.metadata
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from runners.protocol import drive, wire
from runners.protocol.inputs import BankedTorch, NoiseBank, check_shape, load_artifact
from runners.protocol.recorder import Recorder
from upstream_envs import stand_ins, wan_network
from upstream_envs.call_plan import CausalCalls

SHELLS = (
    *("fastvideo", "fastvideo.configs", "fastvideo.configs.pipelines"),
    *("fastvideo.models", "fastvideo.models.dits", "fastvideo.models.loader"),
    *("fastvideo.models.schedulers", "fastvideo.pipelines", "fastvideo.pipelines.stages"),
)
"""Packages whose ``__init__`` is not run; parents before children."""

INERT = {
    "diffusers.loaders": (),
    "diffusers.loaders.lora_base": ("_best_guess_weight_name",),
    "fastvideo.models.loader.component_loader": ("TransformerLoader",),
    "fastvideo.models.schedulers.scheduling_flow_match_euler_discrete": (
        "FlowMatchEulerDiscreteScheduler",
    ),
    "remote_pdb": ("RemotePdb",),
    "torchvision": (),
    "torchvision.utils": ("make_grid",),
}
"""Empty modules, and the names that FastVideo imports from each and never uses here."""

UPSTREAM = {
    "args": "fastvideo.fastvideo_args",
    "batches": "fastvideo.pipelines.pipeline_batch_info",
    "configs": "fastvideo.configs.pipelines.wan",
    "groups": "fastvideo.distributed.parallel_state",
    "network": "fastvideo.models.dits.causal_wanvideo",
    "platforms": "fastvideo.platforms",
    "scheduling": "fastvideo.models.schedulers.scheduling_self_forcing_flow_match",
    "stages": "fastvideo.pipelines.stages.causal_denoising",
}
"""The modules that are driven, by the name they go by here."""

MODULE_NAMES = {
    "text_embedding.0": "condition_embedder.text_embedder.fc_in",
    "text_embedding.2": "condition_embedder.text_embedder.fc_out",
    "time_embedding.0": "condition_embedder.time_embedder.mlp.fc_in",
    "time_embedding.2": "condition_embedder.time_embedder.mlp.fc_out",
    "time_projection.1": "condition_embedder.time_modulation.linear",
    "patch_embedding": "patch_embedding.proj",
    "head.head": "proj_out",
}
"""Wan 2.1's module to FastVideo's, outside the blocks."""

BLOCK_NAMES = {
    "norm3": "self_attn_residual_norm.norm",
    "ffn.0": "ffn.fc_in",
    "ffn.2": "ffn.fc_out",
    "self_attn.o": "to_out",
    "cross_attn.o": "attn2.to_out",
    **{f"self_attn.{name}": f"to_{name}" for name in "qkv"},
    **{f"cross_attn.{name}": f"attn2.to_{name}" for name in "qkv"},
    **{f"self_attn.norm_{name}": f"norm_{name}" for name in "qk"},
    **{f"cross_attn.norm_{name}": f"attn2.norm_{name}" for name in "qk"},
}
"""Wan 2.1's module to FastVideo's, inside a block."""

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


def import_upstream(job: wire.Job) -> Any:
    """Import :data:`UPSTREAM`, set up for one process without ``torch.distributed``."""
    os.environ["FASTVIDEO_ATTENTION_BACKEND"] = "TORCH_SDPA"
    root = Path(str(importlib.metadata.distribution("fastvideo").locate_file("")))
    stand_ins.install_shells(root, SHELLS)
    stand_ins.install_inert(INERT)
    modules = {name: importlib.import_module(module) for name, module in UPSTREAM.items()}
    upstream = SimpleNamespace(**modules)
    upstream.groups._SP = SimpleNamespace(rank_in_group=0, world_size=1)
    if job.device == "cpu":
        # FastVideo's CPU platform names neither a device nor an attention backend.
        platform = upstream.platforms.current_platform
        platform.get_attn_backend_cls = lambda *_: "fastvideo.attention.backends.sdpa.SDPABackend"
        upstream.stages.get_local_torch_device = lambda: torch.device("cpu")
    drive.choose_kernels(job.attention)
    return upstream


def fastvideo_name(name: str) -> str:
    """Wan 2.1's parameter name in FastVideo's spelling; an unknown one stays, for strict loading.

    Source: fastvideo 0.2.1, ``models/dits/causal_wanvideo.py``, ``CausalWanTransformer3DModel``.
    """
    path, _, leaf = name.rpartition(".")
    if leaf == "modulation":
        return f"{path}.scale_shift_table".removeprefix("head.")
    if path.startswith("blocks."):
        _, layer, part = path.split(".", 2)
        return f"blocks.{layer}.{BLOCK_NAMES.get(part, part)}.{leaf}"
    return f"{MODULE_NAMES.get(path, path)}.{leaf}"


def build_config(upstream: Any, job: wire.Job) -> Any:
    """FastVideo's Self-Forcing pipeline config with the job's network, window and steps."""
    network = job.network
    as_published = job.ar_steps * job.len_t <= UNLIMITED_FRAMES == job.window_t and not job.sink_t
    arch = upstream.configs.WanVideoArchConfig(
        num_attention_heads=network.num_heads,
        attention_head_dim=network.dim // network.num_heads,
        in_channels=network.in_dim,
        out_channels=network.out_dim,
        text_dim=network.text_dim,
        freq_dim=network.freq_dim,
        ffn_dim=network.ffn_dim,
        num_layers=network.num_layers,
        local_attn_size=-1 if as_published else job.window_t + job.sink_t,
        sink_size=job.sink_t,
        num_frames_per_block=job.len_t,
    )
    arch.text_len = network.text_len  # not a field of the dataclass
    config = upstream.configs.SelfForcingWanT2V480PConfig(
        dit_config=upstream.configs.WanVideoConfig(arch_config=arch),
        dmd_denoising_steps=list(job.denoising_timesteps),
    )
    config.text_encoder_configs[0].arch_config.text_len = network.text_len
    return config


def load_transformer(upstream: Any, dit_config: Any, job: wire.Job) -> Any:
    """The causal transformer with the job's weights, strictly loaded."""
    dtype, weights = drive.torch_dtype(job.dtype), load_artifact(job.weights, job.device)
    state = {fastvideo_name(name): value.to(job.device, dtype) for name, value in weights.items()}
    with torch.device("meta"):
        transformer = upstream.network.CausalWanTransformer3DModel(dit_config, {})
    transformer.load_state_dict(state, strict=True, assign=True)
    return transformer.eval().requires_grad_(False)


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


class FastVideoSide:
    """FastVideo's causal stage, ready to run the whole job in one call."""

    def __init__(self, job: wire.Job) -> None:
        """Load network, stage and inputs, and put the stand-ins for noise and timing in place."""
        kernels = ("sdpa",) if job.device == "cpu" else ("cudnn", "sdpa")
        drive.require(job, DRIVEN | {"attention": kernels})
        self._job, upstream = job, import_upstream(job)
        self._config = build_config(upstream, job)
        self._transformer = load_transformer(upstream, self._config.dit_config, job)
        self._stage = build_stage(upstream, self._transformer, job.shift)
        self._autocast_off = upstream.args.FastVideoArgs.disable_autocast
        self.bank = NoiseBank(job, job.device, drive.torch_dtype(job.dtype))
        self._batch = self._build_batch(upstream)
        # The stage filters keyword arguments by signature; upstream's is (*args, **kwargs) as well.
        self._calls = CausalCalls(job, self._transformer.forward, read_call)
        self._transformer.forward = self._calls
        upstream.stages.torch = BankedTorch(self._draw)
        self.facts = {name: importlib.metadata.version(name) for name in ("fastvideo", "diffusers")}
        self.facts |= {
            "shells": ", ".join(SHELLS),
            "inert": ", ".join(INERT),
            "stand_ins": "sequence group of one; torch.randn in the stage; no progress bar",
            "attention": f"TORCH_SDPA, {drive.attention_in_force()}",
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

    def _attention(self) -> str:
        """Attention in force: every layer's backend, and the kernels PyTorch may pick."""
        layers = [m for b in self._transformer.blocks for m in (b.attn1.attn, b.attn2.attn)]
        (backend,) = {layer.backend.name for layer in layers}
        return drive.attention_in_force() if backend == "TORCH_SDPA" else str(backend)

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded stage."""
        job, len_t = self._job, self._stage.num_frames_per_block
        _, channels, frames, height, width = self._batch.latents.shape
        (sink_t,) = {block.attn1.sink_size for block in self._transformer.blocks}
        scheduler = self._stage.scheduler
        rows = TRAIN_TIMESTEPS - torch.tensor(self._config.dmd_denoising_steps)  # as in forward
        return wire.Settings(
            slug=job.slug,
            size=job.size,
            weights_sha256=wire.sha256_once(Path(job.weights.path)),
            noise_sha256=wire.sha256_file(Path(job.noise.path)),
            text_sha256=wire.sha256_file(Path(job.text.path)),
            seed=job.seed,
            ar_steps=frames // len_t,
            sigmas=tuple(scheduler.sigmas[rows].tolist()),
            timesteps=tuple(scheduler.timesteps[rows].tolist()),
            timestep_rounding="none",
            guidance=1.0,
            len_t=len_t,
            window_t=self._cache_frames() - sink_t,
            sink_t=sink_t,
            latent_shape=(len_t, channels, height, width),
            attention=self._attention(),
            cuda_graph=False,
            decoder="none",
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            cudnn=drive.cudnn_version(),
            **wan_network.in_force(self._transformer),
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own ``forward`` over all AR steps, then check how it used the network."""
        self._calls.recorder = recorder
        args = SimpleNamespace(pipeline_config=self._config, disable_autocast=self._autocast_off)
        self._stage.forward(self._batch, args)
        self._calls.check()


def build(job: wire.Job) -> FastVideoSide:
    """The driven side of a job."""
    return FastVideoSide(job)


if __name__ == "__main__":
    drive.drive(build)
