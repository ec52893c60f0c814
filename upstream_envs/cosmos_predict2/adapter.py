"""Drives the official Cosmos-Predict2.5 from text, unpatched; run as ``adapter.py job.json``.

``generate_samples_from_batch`` runs whole: its network, guidance and UniPC over Karras' grid. From
outside come weights, noise, prompt embeddings, the attention kernel and timers.
"""

import importlib
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import NoiseBank, check_shape, load_artifact
from runners.protocol.seeded_weights import load_weights
from upstream_envs import stand_ins, te_stand_ins, wan_network
from upstream_envs.call_plan import PlannedCalls

SOURCE = "cosmos_predict2._src"
PREDICT, IMAGINAIRE, COMMON = f"{SOURCE}.predict2", f"{SOURCE}.imaginaire", f"{SOURCE}.common"

SHELLS = (
    *("cosmos_predict2", SOURCE, IMAGINAIRE, f"{IMAGINAIRE}.utils", PREDICT),
    *(f"{PREDICT}.{name}" for name in ("networks", "models", "modules", "utils", "configs")),
    *(f"{PREDICT}.configs.video2world", f"{PREDICT}.configs.video2world.defaults"),
)

INERT = {
    "megatron": (),
    "megatron.core": ("parallel_state",),
    "hydra": (),
    "hydra.core": (),
    "hydra.core.config_store": ("ConfigStore",),
    "omegaconf": (),
    "omegaconf.listconfig": ("ListConfig",),
    "torchvision": (),
    "torchvision.transforms": (),
    f"{IMAGINAIRE}.lazy_config": ("LazyDict", "instantiate"),
    f"{IMAGINAIRE}.model": ("ImaginaireModel",),
    f"{IMAGINAIRE}.utils.distributed": (),
    f"{IMAGINAIRE}.utils.easy_io": ("easy_io",),
    f"{IMAGINAIRE}.utils.ema": ("FastEmaModelUpdater",),
    f"{IMAGINAIRE}.utils.log": (),
    f"{IMAGINAIRE}.utils.misc": (),
    COMMON: (),
    f"{COMMON}.functional": (),
    f"{COMMON}.functional.batch_ops": ("batch_mul",),
    f"{COMMON}.types": (),
    f"{COMMON}.types.denoise_prediction": ("DenoisePrediction",),
    f"{COMMON}.utils": (),
    f"{COMMON}.utils.checkpointer": ("non_strict_load_model",),
    f"{COMMON}.utils.count_params": ("count_params",),
    f"{COMMON}.utils.disabled_train": ("disabled_train",),
    f"{COMMON}.utils.fsdp_helper": ("hsdp_device_mesh",),
    f"{COMMON}.utils.optim_instantiate": ("get_base_scheduler",),
    f"{PREDICT}.datasets": (),
    f"{PREDICT}.datasets.utils": ("VIDEO_RES_SIZE_INFO",),
    f"{PREDICT}.models.text2world_model": ("EMAConfig", "DenoisePrediction"),
    f"{PREDICT}.models.video2world_wan2pt1_model": ("WAN2PT1_I2V_COND_LATENT_KEY",),
    f"{PREDICT}.modules.neighborhood_attn": ("NeighborhoodAttention",),
    f"{PREDICT}.networks.clip": ("Wan2pt1CLIPEmb",),
    f"{PREDICT}.schedulers": (),
    f"{PREDICT}.schedulers.rectified_flow": ("RectifiedFlow",),
    f"{PREDICT}.text_encoders": (),
    f"{PREDICT}.text_encoders.text_encoder": ("TextEncoder", "TextEncoderConfig"),
    f"{PREDICT}.tokenizers": (),
    f"{PREDICT}.tokenizers.base_vae": ("BaseVAE",),
    f"{PREDICT}.utils.dtensor_helper": (
        *("DTensorFastEmaModelUpdater", "broadcast_dtensor_model_states"),
    ),
    f"{PREDICT}.utils.torch_future": ("clip_grad_norm_",),
}

UPSTREAM = {
    "network": f"{PREDICT}.networks.minimal_v1_lvg_dit",
    "blocks": f"{PREDICT}.networks.minimal_v4_dit",
    "sampler": f"{PREDICT}.models.text2world_model_rectified_flow",
    "model": f"{PREDICT}.models.video2world_model_rectified_flow",
    "conditions": f"{PREDICT}.configs.video2world.defaults.conditioner",
}
"""The modules that are driven, by the name they go by here."""

MADE_BY_UPSTREAM = ("accum_", "pos_embedder.")
"""Starts of names in its state that are no weights: training counters, and RoPE's tables."""

DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("unipc_karras",),
    "ar_steps": (1,),
    "sink_t": (0,),
    "given_frames": (0,),
    "compile": (False,),
    "cuda_graph": (False,),
    "decoder": ("none",),
}
"""What this adapter does: one AR step that sees every frame, uncompiled, latents only."""


def _stand_in(module: str, **attributes: Any) -> None:
    vars(sys.modules[module]).update(attributes)


def import_upstream() -> Any:
    """Import :data:`UPSTREAM` with what stands in for training code and CUDA extensions."""
    stand_ins.install_shells(stand_ins.source_folder(), SHELLS)
    stand_ins.install_diffusers()
    stand_ins.install_inert(INERT)
    te_stand_ins.install()
    _stand_in(f"{IMAGINAIRE}.utils.log", debug=lambda *_, **__: None, info=lambda *_, **__: None)
    # Decorators of classes that are declared on import.
    _stand_in(f"{IMAGINAIRE}.utils.misc", timer=lambda *_: lambda method: method)
    _stand_in(f"{IMAGINAIRE}.lazy_config", LazyCall=lambda _: lambda *_, **__: None)
    resize = SimpleNamespace(
        resize=lambda x, size, **_: interpolate(x, size=tuple(size), mode="nearest")
    )
    nearest = SimpleNamespace(NEAREST="nearest")
    _stand_in("torchvision.transforms", functional=resize, InterpolationMode=nearest)
    upstream = SimpleNamespace(
        **{name: importlib.import_module(module) for name, module in UPSTREAM.items()}
    )
    upstream.blocks.torch_attention_op = te_stand_ins.attention
    # A progress bar would write into the lines that the step report is on.
    upstream.sampler.tqdm = SimpleNamespace(tqdm=lambda steps, **_: steps)
    alone = SimpleNamespace(is_initialized=lambda: False)
    upstream.sampler.parallel_state = upstream.model.parallel_state = alone
    return upstream


def build_network(upstream: Any, network: wire.Network) -> nn.Module:
    """Upstream's network in a job's shape, as its post-trained checkpoint is configured."""
    return upstream.network.MinimalV1LVGDiT(
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=network.in_dim - 1,  # it adds the mask of given frames itself
        out_channels=network.out_dim,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=network.dim,
        num_blocks=network.num_layers,
        num_heads=network.num_heads,
        mlp_ratio=network.ffn_dim / network.dim,
        atten_backend="torch",
        crossattn_emb_channels=network.cross_dim,
        use_crossattn_projection=True,
        crossattn_proj_in_channels=network.text_dim,
        pos_emb_cls="rope3d",
        use_adaln_lora=True,
        adaln_lora_dim=network.adaln_dim,
        rope_h_extrapolation_ratio=3.0,
        rope_w_extrapolation_ratio=3.0,
        rope_enable_fps_modulation=False,
        timestep_scale=0.001,
        use_wan_fp32_strategy=True,
    )


def load_network(upstream: Any, job: wire.Job) -> nn.Module:
    """The network with the job's weights, strictly loaded, on the job's device."""
    dtype = drive.torch_dtype(job.dtype)
    network = build_network(upstream, job.network).to(job.device, dtype)
    weights = load_weights(job, job.device)
    wanted = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.startswith(MADE_BY_UPSTREAM)
    }
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wan_network.require_match(wanted, given, job.weights.path)
    network.load_state_dict({n: w.to(dtype) for n, w in weights.items()}, strict=False)
    return network.eval().requires_grad_(False)


def read_call(*_: Any, timesteps_B_T: Tensor, **__: Any) -> tuple[None, Tensor]:
    """Timesteps of one call of the network, one a latent frame."""
    return None, timesteps_B_T


class CosmosSide:
    """The official sampler, ready to run the whole job in one call."""

    def __init__(self, job: wire.Job) -> None:
        """Load network and inputs, and put noise and timing in place."""
        dtypes, kernels = (("float32",), ("sdpa",))  # its float32 parts are CUDA's autocast
        if job.device == "cuda":
            dtypes, kernels = ("bfloat16", "float16", "float32"), ("cudnn", "sdpa")
        more = {"window_t": (job.len_t,), "dtype": dtypes, "attention": kernels}
        drive.require(job, DRIVEN | more)
        self._job, self._upstream = job, import_upstream()
        drive.choose_kernels(job.attention)
        self._network = load_network(self._upstream, job)
        self._guidance = job.guidance - 1  # upstream adds the prompt's prediction once more
        self.bank = NoiseBank(job, job.device, torch.float32)
        self._text = load_artifact(job.text, job.device)
        self._model = self._build_model()
        self._calls = PlannedCalls(job, self._network.forward, read_call)
        self._network.forward = self._calls
        self._upstream.sampler.misc = SimpleNamespace(arch_invariant_rand=self._draw)
        self.facts = stand_ins.source_facts() | {
            "shells": ", ".join(SHELLS),
            "inert": ", ".join(INERT),
            "stand_ins": "Transformer Engine's RMSNorm and RoPE; diffusers mixins; noise; no bar",
            "attention": f"scaled_dot_product_attention, {drive.attention_in_force()}",
            "float32": "time embedding, modulation and last layer, under CUDA's autocast",
        }

    def _draw(self, shape: tuple[int, ...], *_: Any) -> Tensor:
        """Initial noise [1, C, T, H, W]; upstream's state stays in float32."""
        return check_shape(self.bank.tensor(0, 0).transpose(0, 1)[None].contiguous(), shape)

    def _conditions(self) -> tuple[Any, Any]:
        """What upstream's conditioner makes of prompt and negative prompt; nothing is padded."""
        job, dtype = self._job, drive.torch_dtype(self._job.dtype)
        size = (1, 1, job.latent_height, job.latent_width)
        return tuple(
            self._upstream.conditions.Video2WorldCondition(
                crossattn_emb=self._text[name].to(dtype)[None],
                use_video_condition=torch.tensor([True]),  # upstream fills it
                padding_mask=torch.zeros(size, device=job.device, dtype=dtype),
            )
            for name in ("text", "negative")
        )

    def _build_model(self) -> Any:
        """Upstream's model around the network, without its constructor and its data loading."""
        job, upstream = self._job, self._upstream
        shape = (1, job.network.out_dim, job.len_t, job.latent_height, job.latent_width)
        nothing_given = torch.zeros(shape, device=job.device)

        class FromText(upstream.model.Video2WorldModelRectifiedFlow):
            def __init__(self) -> None:
                pass

            is_image_batch = staticmethod(lambda _: False)
            _normalize_video_databatch_inplace = staticmethod(lambda _: None)
            _augment_image_dim_inplace = staticmethod(lambda _: None)
            get_data_and_condition = staticmethod(lambda _: (nothing_given, nothing_given, None))
            broadcast_split_for_model_parallelsim = staticmethod(lambda *values: values)

        model, conditions = FromText(), self._conditions()
        vars(model).update(
            net=self._network,
            input_data_key="video",
            tensor_kwargs={"device": job.device, "dtype": drive.torch_dtype(job.dtype)},
            conditioner=SimpleNamespace(get_condition_with_negative_prompt=lambda _: conditions),
            sample_scheduler=upstream.sampler.FlowUniPCMultistepScheduler(
                num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
            ),
            config=SimpleNamespace(
                use_kerras_sigma_at_inference=True,
                conditional_frame_timestep=0.1,
                denoise_replace_gt_frames=True,
                min_num_conditional_frames=0,
                max_num_conditional_frames=0,
                conditional_frames_probs=None,
            ),
        )
        return model

    def settings(self) -> wire.Settings:
        """Read what is in force from the loaded model."""
        job, scheduler = self._job, self._model.sample_scheduler
        scheduler.set_timesteps(job.denoising_steps - 1, use_kerras_sigma=True)  # as in the sampler
        _, channels, frames, height, width = self._model.get_data_and_condition({})[1].shape
        is_redirected = self._upstream.blocks.torch_attention_op is te_stand_ins.attention
        return wire.Settings(
            **drive.common_settings(job),
            **wan_network.in_force(self._network),
            ar_steps=1,
            sigmas=tuple(scheduler.sigmas[:-1].tolist()),  # the last one is the clean end
            timesteps=tuple(map(float, scheduler.timesteps.tolist())),
            timestep_rounding="none",
            guidance=self._guidance + 1,
            len_t=frames,
            window_t=frames,
            sink_t=0,
            latent_shape=(frames, channels, height, width),
            attention=drive.attention_in_force() if is_redirected else "upstream's own",
            cuda_graph=False,
            decoder="none",
        )

    def run(self, recorder: Recorder) -> None:
        """Run upstream's own sampler, then check how it used its network."""
        job, network = self._job, self._job.network
        self._calls.recorder = recorder
        latents_BCTHW = self._model.generate_samples_from_batch(
            {"video": torch.zeros(1), "num_conditional_frames": 0},
            guidance=self._guidance,
            state_shape=(network.out_dim, job.len_t, job.latent_height, job.latent_width),
            num_steps=job.denoising_steps - 1,  # its grid has one point more
            is_negative_prompt=True,
        )
        recorder.mark("diffuse")
        self._calls.check()
        recorder.end(0, latents_BCTHW[0].transpose(0, 1), print_line=True)


if __name__ == "__main__":
    drive.drive(CosmosSide)
