"""Drives FastVideo's bidirectional denoising stage (Wan 2.1 from text) with none of it changed."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import NoiseBank, load_artifact
from upstream_envs import fastvideo_code, wan_network
from upstream_envs.call_plan import PlannedCalls

UPSTREAM = {
    "network": "fastvideo.models.dits.wanvideo",
    "scheduling": "fastvideo.models.schedulers.scheduling_flow_unipc_multistep",
    "stages": "fastvideo.pipelines.stages.denoising",
}

DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("unipc",),
    "ar_steps": (1,),
    "sink_t": (0,),
    "dtype": ("bfloat16",),  # hard-coded in the stage
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none",),
}
"""What this adapter does: one AR step that sees every frame, uncompiled, latents only."""


def build_scheduler(upstream: Any, job: wire.Job) -> Any:
    """FastVideo's UniPC solver with the tables of the official runner.

    FastVideo's own pipeline gives the shift to the constructor, and ``set_timesteps`` then shifts
    the shifted range once more; given to ``set_timesteps`` alone it is applied once.
    """
    scheduler = upstream.scheduling.FlowUniPCMultistepScheduler(shift=1.0)
    scheduler.set_timesteps(job.denoising_steps, device=job.device, shift=job.shift)
    return scheduler


def read_call(_latents: Tensor, _text: Any, timestep: Tensor, **_: Any) -> tuple[None, Tensor]:
    """Timestep of one call of the transformer."""
    return None, timestep


class FastVideoDenoisingSide:
    """FastVideo's denoising stage, ready to run the whole job in one call."""

    def __init__(self, job: wire.Job) -> None:
        """Load network, stage and inputs, and put the timers in place."""
        kernels = ("sdpa",) if job.device == "cpu" else ("cudnn", "sdpa")
        drive.require(job, DRIVEN | {"attention": kernels, "window_t": (job.len_t,)})
        self._job, upstream = job, fastvideo_code.import_upstream(job, UPSTREAM)
        dit_config = fastvideo_code.build_arch(upstream, job.network)
        self._config = upstream.configs.WanT2V480PConfig(dit_config=dit_config)
        self._transformer = fastvideo_code.load_transformer(
            upstream.network.WanTransformer3DModel, dit_config, job
        )
        self._scheduler = build_scheduler(upstream, job)
        self._stage = upstream.stages.DenoisingStage(self._transformer, self._scheduler)
        # The bar would write into the lines that the step report is on.
        self._stage.progress_bar = lambda **_: nullcontext(SimpleNamespace(update=lambda: None))
        self._autocast_off = upstream.args.FastVideoArgs.disable_autocast
        self.bank = NoiseBank(job, job.device, drive.torch_dtype(job.dtype))
        self._batch = self._build_batch(upstream)
        self._calls = PlannedCalls(job, self._transformer.forward, read_call)
        self._transformer.forward = self._calls
        self.facts = fastvideo_code.facts() | {
            "stand_ins": "sequence group of one; initial latents; no progress bar",
            "shift": "given to set_timesteps; FastVideo's pipeline also gives it to the solver",
            "autocast": "off" if self._autocast_off else "as shipped: bfloat16 on CUDA",
        }

    def _build_batch(self, upstream: Any) -> Any:
        """Initial noise, prompts and timesteps, as FastVideo's own stages leave them."""
        noise_TCHW = self.bank.tensor(0, 0)
        text = {name: value.to(noise_TCHW) for name, value in load_artifact(self._job.text).items()}
        return upstream.batches.ForwardBatch(
            data_type="video",
            latents=noise_TCHW.transpose(0, 1).unsqueeze(0).contiguous(),  # [1, C, T, H, W]
            prompt_embeds=[text["text"].unsqueeze(0)],
            negative_prompt_embeds=[text["negative"].unsqueeze(0)],
            guidance_scale=self._job.guidance,
            num_inference_steps=self._job.denoising_steps,
            timesteps=self._scheduler.timesteps,
        )

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded stage."""
        job, batch = self._job, self._batch
        _, channels, frames, height, width = batch.latents.shape
        return wire.Settings(
            **drive.common_settings(job),
            **wan_network.in_force(self._transformer),
            ar_steps=1,
            sigmas=tuple(self._scheduler.sigmas[:-1].tolist()),
            timesteps=tuple(map(float, batch.timesteps.tolist())),
            timestep_rounding="none",
            guidance=batch.guidance_scale if batch.do_classifier_free_guidance else 1.0,
            len_t=frames,
            window_t=frames,
            sink_t=0,
            latent_shape=(frames, channels, height, width),
            attention=fastvideo_code.attention_in_force(self._transformer),
            cuda_graph=False,
            decoder="none",
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own ``forward``, then check how it used the network."""
        self._calls.recorder = recorder
        args = SimpleNamespace(
            pipeline_config=self._config,
            disable_autocast=self._autocast_off,
            model_loaded={"transformer": True},
            dit_cpu_offload=False,
            dit_layerwise_offload=False,
            use_fsdp_inference=False,
        )
        batch = self._stage.forward(self._batch, args)
        recorder.mark("diffuse")
        self._calls.check()
        recorder.end(0, batch.latents[0].transpose(0, 1), print_line=True)
