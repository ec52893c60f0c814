"""Drives the official Wan2.1 runners, from text and from an image, unpatched.

``WanT2V.generate`` or ``WanI2V.generate`` runs whole: its network, CFG and UniPC solver. Upstream
keeps weights and latents in float32 and computes under autocast, which a job spells as dtype
``autocast_bfloat16``.
"""

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import BankedTorch, NoiseBank, check_shape, load_artifact
from upstream_envs import stand_ins, wan_network
from upstream_envs.call_plan import PlannedCalls, UpstreamChangedError

SHELLS = ("wan", "wan.modules", "wan.utils", "wan.distributed")

INERT = {
    "wan.distributed.fsdp": ("shard_model",),
    "wan.modules.clip": ("CLIPModel",),
    "wan.modules.t5": ("T5EncoderModel",),
    "wan.modules.vae": ("WanVAE",),
    "torchvision": (),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": (),
}

AUTOCAST = {"autocast_bfloat16": torch.bfloat16, "autocast_float16": torch.float16}
"""Dtypes of a GPU job to what upstream computes in; weights and latents stay in float32."""

TRAIN_TIMESTEPS = 1000

VAE_STRIDE = (4, 8, 8)

DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("unipc",),
    "ar_steps": (1,),
    "sink_t": (0,),
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none",),
}
"""What this adapter does: one AR step that sees every frame, uncompiled, latents only."""


def import_upstream(network: wire.Network) -> Any:
    """Import upstream's loop and network with the attention of :mod:`upstream_envs.stand_ins`."""
    loop, runner = ("wan.text2video", "WanT2V")
    if network.image_tokens:
        loop, runner = ("wan.image2video", "WanI2V")
    stand_ins.install_shells(stand_ins.source_folder(), SHELLS)
    stand_ins.install_inert(INERT)
    stand_ins.install_diffusers()
    upstream = SimpleNamespace(
        model=importlib.import_module("wan.modules.model"),
        loop=importlib.import_module(loop),
    )
    upstream.runner = getattr(upstream.loop, runner)
    sys.modules["torchvision.transforms.functional"].to_tensor = torch.clone
    upstream.model.flash_attention = stand_ins.attention
    # A progress bar would write into the lines that the step report is on.
    upstream.loop.tqdm = lambda steps: steps
    return upstream


def build_model(upstream: Any, network: wire.Network) -> Any:
    """Upstream's network in a job's shape, parameters on the meta device."""
    task = "i2v" if network.image_tokens else "t2v"
    return wan_network.empty(upstream.model, "WanModel", network, model_type=task)


def read_call(_latents: list[Tensor], t: Tensor, **_: Any) -> tuple[None, Tensor]:
    """Timestep of one call of the network."""
    return None, t


class Wan21Side:
    """The official loop of a task, ready to run the whole job in one call."""

    def __init__(self, job: wire.Job) -> None:
        """Load network and inputs, and put noise and timing in place."""
        dtypes, kernels = (("float32",), ("sdpa",))
        if job.device == "cuda":
            dtypes, kernels = tuple(AUTOCAST), ("cudnn", "sdpa")
        more = {"window_t": (job.len_t,), "dtype": dtypes, "attention": kernels}
        drive.require(job, DRIVEN | more)
        self._job, self._upstream = job, import_upstream(job.network)
        self._guidance = job.guidance  # what the loop is called with
        drive.choose_kernels(job.attention)
        model = build_model(self._upstream, job.network)
        self._model = wan_network.load(model, job, torch.float32)
        self.bank = NoiseBank(job, job.device, torch.float32)
        self._encoded = load_artifact(job.text, job.device)
        # Upstream's text encoder gives bfloat16, which only autocast takes.
        if job.dtype not in AUTOCAST:
            self._encoded = {name: value.float() for name, value in self._encoded.items()}
        self._runner = self._build_runner()
        self._upstream.loop.torch = BankedTorch(self._draw)
        self._schedulers: list[Any] = []
        self._keep_schedulers()
        self._calls = PlannedCalls(job, model.forward, read_call)
        self._model.forward = self._calls
        self.facts = stand_ins.source_facts() | {
            "shells": ", ".join(SHELLS),
            "inert": ", ".join(INERT),
            "stand_ins": "diffusers mixins; torch.randn in the loop; no progress bar",
            "attention": f"scaled_dot_product_attention, {drive.attention_in_force()}",
            "autocast": job.dtype if job.dtype in AUTOCAST else "none on a CPU",
        }

    def _build_runner(self) -> Any:
        """Upstream's runner without its constructor, which loads every model from disk."""
        runner = self._upstream.runner.__new__(self._upstream.runner)
        image_CTHW = self._encoded.get("image", torch.empty(0, 0)).transpose(0, 1).float()
        vars(runner).update(
            device=torch.device(self._job.device),
            rank=0,
            t5_cpu=True,  # the embeddings are there already
            sp_size=1,
            num_train_timesteps=TRAIN_TIMESTEPS,
            param_dtype=AUTOCAST.get(self._job.dtype, torch.bfloat16),
            vae_stride=VAE_STRIDE,
            patch_size=self._model.patch_size,
            sample_neg_prompt="negative",
            model=self._model,
            text_encoder=lambda prompts, _device: [self._encoded[prompts[0]]],
            vae=SimpleNamespace(
                model=SimpleNamespace(z_dim=self._job.network.out_dim),
                encode=lambda _pixels: [image_CTHW],
                decode=self._take_latents,
            ),
            clip=SimpleNamespace(
                model=nn.Identity(), visual=lambda _pixels: self._encoded["clip"][None].float()
            ),
        )
        return runner

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        """Initial noise [C, T, H, W]."""
        return check_shape(self.bank.tensor(0, 0).transpose(0, 1).contiguous(), shape)

    def _keep_schedulers(self) -> None:
        """Let this side see the solver that the loop makes for itself."""
        make = self._upstream.loop.FlowUniPCMultistepScheduler

        def kept(**options: Any) -> Any:
            self._schedulers.append(make(**options))
            return self._schedulers[-1]

        self._upstream.loop.FlowUniPCMultistepScheduler = kept

    def _tables(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Sigmas and timesteps of the last solver."""
        scheduler = self._schedulers[-1]
        sigmas = tuple(scheduler.sigmas[:-1].tolist())  # the last one is the clean end
        return sigmas, tuple(map(float, scheduler.timesteps.tolist()))

    def _solver_in_force(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The tables of a solver made as the loop makes its own; ``run`` compares the two."""
        scheduler = self._upstream.loop.FlowUniPCMultistepScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS, shift=1, use_dynamic_shifting=False
        )
        scheduler.set_timesteps(self._job.denoising_steps, shift=self._job.shift)
        return self._tables()

    def _dtype(self) -> str:
        """``autocast_...`` where upstream computes in another dtype than its weights."""
        weights = str(wan_network.in_force(self._model)["dtype"])
        if self._job.device == "cpu":  # upstream's autocast is CUDA's
            return weights
        names = {dtype: name for name, dtype in AUTOCAST.items()}
        return names[self._runner.param_dtype] if weights == "float32" else weights

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded runner."""
        job = self._job
        sigmas, timesteps = self._solver_in_force()
        is_redirected = self._upstream.model.flash_attention is stand_ins.attention
        return wire.Settings(
            **drive.common_settings(job),
            **wan_network.in_force(self._model) | {"dtype": self._dtype()},
            ar_steps=1,
            sigmas=sigmas,
            timesteps=timesteps,
            timestep_rounding="none",
            guidance=self._guidance,
            len_t=job.len_t,
            window_t=job.len_t,
            sink_t=0,
            latent_shape=(job.len_t, self._model.out_dim, job.latent_height, job.latent_width),
            attention=drive.attention_in_force() if is_redirected else "upstream's own",
            cuda_graph=False,
            decoder="none",
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own ``generate``, then check how it used solver and network."""
        job, tables = self._job, self._solver_in_force()
        self._calls.recorder = recorder
        self._runner.generate(
            "text",
            **self._size(),
            frame_num=VAE_STRIDE[0] * (job.len_t - 1) + 1,
            shift=job.shift,
            sampling_steps=job.denoising_steps,
            guide_scale=self._guidance,
            seed=0,  # the noise comes from the bank
            offload_model=False,
        )
        if self._tables() != tables:
            raise UpstreamChangedError("the loop's solver has other tables than the settings say")
        self._calls.check()
        recorder.end(0, self._latents_CTHW.transpose(0, 1), print_line=True)

    def _size(self) -> dict[str, Any]:
        """Arguments of ``generate`` that say how large the video is; an image gives its aspect."""
        height, width = (
            stride * length
            for stride, length in zip(
                VAE_STRIDE[1:], (self._job.latent_height, self._job.latent_width), strict=True
            )
        )
        if not self._job.network.image_tokens:
            return {"size": (width, height)}
        image_CHW = torch.zeros(3, height, width)  # encoded already: only its shape is looked at
        # Upstream takes roots and rounds down: without one more pixel a height of 480 becomes 464.
        return {"img": image_CHW, "max_area": height * width + 1}

    def _take_latents(self, latents: list[Tensor]) -> list[Tensor]:
        """Stand-in for the decoder: what it is given is the result."""
        self._calls.recorder.mark("diffuse")
        (self._latents_CTHW,) = latents
        return latents


if __name__ == "__main__":
    drive.drive(Wan21Side)
