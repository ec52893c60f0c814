"""The runners' configurations and key remaps against what flashdreams 0.1.0 publishes."""

import torch

import runners
from runners import causal_wan22, cosmos_predict2, self_forcing

STREAMING = (42, 480, 832, 60)
RENOISED = [1000.0, 937.5, 833.333, 625.0]
SELF_FORCING = "gdhe17/Self-Forcing/checkpoints/self_forcing_dmd.pt"
CAUSAL_FORCING = "zhuhz22/Causal-Forcing/{}/causal_forcing.pt"
COSMOS = (
    "nvidia/Cosmos-Predict2.5-2B/base/post-trained/81edfebe-bd6a-4039-8c1d-737df1a790bf_ema_bf16.pt"
)
WAN_1_3B, WAN_14B = (30, 1536, 12, 8960, 16), (40, 5120, 40, 13824, 16)
COSMOS_2B = (28, 2048, 16, 4.0, 17)
PUBLISHED = {
    "self-forcing-wan2.1-t2v-1.3b": (
        *(WAN_1_3B, (3, 21, 0), 1.0, True, True),
        *([1000.0, 960.0, 888.889, 727.273], STREAMING, SELF_FORCING),
    ),
    "self-forcing-wan2.1-t2v-1.3b-taehv": (
        *(WAN_1_3B, (3, 21, 0), 1.0, True, True),
        *([1000.0, 960.0, 888.889, 727.273], STREAMING, SELF_FORCING),
    ),
    "self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope": (
        *(WAN_1_3B, (3, 7, 5), 1.0, False, False),
        *([1000.0, 960.0, 888.889, 727.273], (0, 480, 832, 80), SELF_FORCING),
    ),
    "causal-forcing-wan2.1-t2v-1.3b-chunkwise": (
        *(WAN_1_3B, (3, 21, 0), 1.0, True, True),
        *(RENOISED, STREAMING, CAUSAL_FORCING.format("chunkwise")),
    ),
    "causal-forcing-wan2.1-t2v-1.3b-framewise": (
        *(WAN_1_3B, (1, 21, 0), 1.0, True, True),
        *(RENOISED, STREAMING, CAUSAL_FORCING.format("framewise")),
    ),
    "causal-forcing-wan2.1-i2v-1.3b-framewise": (
        *(WAN_1_3B, (1, 21, 0), 1.0, True, True),
        *(RENOISED, STREAMING, CAUSAL_FORCING.format("framewise")),
    ),
    "fastvideo-causal-wan2.2-t2v-14b": (
        *(WAN_14B, (3, 21, 0), 1.0, True, True),
        [1000.0, 965.909, 921.053, 859.375, 729.167, 654.762, 555.556, 416.667],
        STREAMING,
        "FastVideo/CausalWan2.2-I2V-A14B-Preview-Diffusers/transformer/"
        "diffusion_pytorch_model.safetensors",
    ),
    "wan21-t2v-1.3b-480p": (
        *(WAN_1_3B, (21, 21, 0), 6.0, True, True),
        [999.0, 997.0, 994.0, 991.0, 989.0, 986.0, 983.0, 979.0],
        (42, 480, 832, 1),
        "Wan-AI/Wan2.1-T2V-1.3B/diffusion_pytorch_model.safetensors",
    ),
    "wan21-i2v-14b-480p": (
        *((*WAN_14B[:4], 36), (21, 21, 0), 5.0, True, True),
        [999.0, 991.0, 982.0, 973.0, 963.0, 954.0, 944.0, 933.0],
        (42, 832, 480, 1),
        "Wan-AI/Wan2.1-I2V-14B-480P/diffusion_pytorch_model.safetensors.index.json",
    ),
    "cosmos2-t2v-2b-720p": (
        *(COSMOS_2B, (24, 24, 0), 8.0, True, False),
        *([995.0, 994.0, 993.0, 992.0, 990.0, 988.0, 986.0, 984.0], (42, 720, 1280, 1), COSMOS),
    ),
    "cosmos2-i2v-2b-720p": (
        *(COSMOS_2B, (24, 24, 0), 8.0, True, False),
        *([995.0, 994.0, 993.0, 992.0, 990.0, 988.0, 986.0, 984.0], (42, 720, 1280, 1), COSMOS),
    ),
}
"""Slug to layers, width, heads, MLP and input channels of the network; frames per AR step, window
and sink; guidance; compile; CUDA graph; the first eight timesteps; seed, height, width and AR
steps; weights on Hugging Face.

Source: ``notes/flashdreams_0_1_0_runtime.md``, appendix B and section 3.1: read from the objects.
"""

SAMPLING_STEPS = {"wan21-t2v-1.3b-480p": 50, "wan21-i2v-14b-480p": 40}
# With Karras sigmas the library makes one step more than it is asked for.
SAMPLING_STEPS |= {"cosmos2-t2v-2b-720p": 36, "cosmos2-i2v-2b-720p": 36}


def read_back(config) -> tuple:
    """The figures of one configuration in the order of ``PUBLISHED``."""
    model = config.pipeline.diffusion_model
    transformer = getattr(model.transformer, "transformer_high_noise", model.transformer)
    network, scheduler = transformer.network, model.scheduler.setup()
    names = ("num_layers", "dim", "num_heads", "ffn_dim", "in_dim")
    if hasattr(network, "num_blocks"):
        names = ("num_blocks", "model_channels", "num_heads", "mlp_ratio", "in_channels")
    table = getattr(scheduler, "denoising_step_list", getattr(scheduler, "timesteps", None))
    return (
        tuple(getattr(network, name) for name in names),
        (transformer.len_t, transformer.window_size_t, transformer.sink_size_t),
        transformer.guidance_scale,
        transformer.compile_network,
        transformer.use_cuda_graph,
        [round(float(step), 3) for step in table[:8]],
        (model.seed, config.pixel_height, config.pixel_width, getattr(config, "total_blocks", 1)),
        transformer.checkpoint_path.removeprefix("https://huggingface.co/").replace(
            "/blob/main", ""
        ),
    )


def check_published_configurations() -> None:
    """Every slug carries the published figures, and what they share."""
    assert PUBLISHED.keys() == runners.RUNNERS.keys()
    for slug, published in PUBLISHED.items():
        config = runners.load(slug)
        assert read_back(config) == published, (slug, read_back(config))
        model = config.pipeline.diffusion_model
        scheduler = model.scheduler.setup()
        steps = len(getattr(scheduler, "denoising_step_list", getattr(scheduler, "timesteps", ())))
        assert steps == SAMPLING_STEPS.get(slug, len(published[5])), slug
        assert config.runner_name == config.pipeline.name == slug
        assert config.pipeline.enable_sync_and_profile
        assert (config.fps, model.context_noise, config.size) == (16, 0, "full")


def check_published_components() -> None:
    """Decoders, encoders and how each recipe takes its image."""
    pipelines = {slug: runners.load(slug).pipeline for slug in runners.RUNNERS}
    decoders = {slug: type(pipeline.decoder).__name__ for slug, pipeline in pipelines.items()}
    assert decoders.pop("self-forcing-wan2.1-t2v-1.3b-taehv") == "TeahvVAEDecoderConfig"
    assert set(decoders.values()) == {"WanVAEDecoderConfig"}
    from_image = {
        slug
        for slug, pipeline in pipelines.items()
        if pipeline.encoder is not None or pipeline.image_encoder is not None
    }
    assert from_image == {slug for slug in runners.RUNNERS if "i2v" in slug}
    causal = pipelines["causal-forcing-wan2.1-i2v-1.3b-framewise"]
    assert causal.diffusion_model.transformer.stamp_image_latent
    wan = pipelines["wan21-i2v-14b-480p"]
    assert wan.diffusion_model.transformer.concat_image_mask_to_latent
    assert wan.diffusion_model.transformer.network.cross_attn_enable_img
    assert type(wan.image_encoder).__name__ == "CLIPImageEncoderConfig"
    cosmos = pipelines["cosmos2-i2v-2b-720p"]
    assert cosmos.diffusion_model.transformer.conditional_frame_timestep == 0.1
    assert cosmos.diffusion_model.scheduler.use_kerras_sigma
    assert type(cosmos.image_encoder).__name__ == "WanVAEEncoderConfig"
    assert pipelines["cosmos2-t2v-2b-720p"].text_encoder.revision.startswith("3210bec0")
    both = pipelines["fastvideo-causal-wan2.2-t2v-14b"].diffusion_model.transformer
    assert both.boundary_timestep == 875
    assert "/transformer_2/" in both.transformer_low_noise.checkpoint_path
    rerope = pipelines["self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope"]
    assert not rerope.diffusion_model.transformer.network.apply_rope_before_kvcache


def parameter_names(slug: str) -> set[str]:
    """Names of a slug's network at full size, made without its weights."""
    transformer = runners.load(slug).pipeline.diffusion_model.transformer
    network = getattr(transformer, "transformer_high_noise", transformer).network
    with torch.device("meta"):
        return set(network.setup().state_dict())


def check_diffusers_names_become_those_of_the_network() -> None:
    """Every parameter of diffusers' Wan transformer lands on one of the network, none is left."""
    block = [f"{norm}.{part}" for norm in ("norm2",) for part in ("weight", "bias")]
    block += ["scale_shift_table"]
    for attention in ("attn1", "attn2"):
        block += [f"{attention}.norm_{name}.weight" for name in "qk"]
        linears = ("to_q", "to_k", "to_v", "to_out.0")
        block += [f"{attention}.{name}.{part}" for name in linears for part in ("weight", "bias")]
    embedders = [f"{kind}_embedder.linear_{n}" for kind in ("text", "time") for n in (1, 2)]
    outside = [f"condition_embedder.{name}" for name in (*embedders, "time_proj")]
    outside = [
        f"{name}.{part}"
        for name in (*outside, "patch_embedding", "proj_out")
        for part in ("weight", "bias")
    ]
    wanted = parameter_names("fastvideo-causal-wan2.2-t2v-14b")
    for feed_forward in (("net.0.proj", "net.2"), ("fc_in", "fc_out")):
        ffn = [f"ffn.{name}.{part}" for name in feed_forward for part in ("weight", "bias")]
        names = [f"blocks.{layer}.{name}" for layer in range(40) for name in (*block, *ffn)]
        diffusers = dict.fromkeys([*names, *outside, "scale_shift_table"], torch.empty(0))
        renamed = causal_wan22.from_diffusers(diffusers)
        assert len(renamed) == len(diffusers)
        assert renamed.keys() == wanted, renamed.keys() ^ wanted


def check_training_names_become_those_of_the_network() -> None:
    """Cosmos' and Self-Forcing's training checkpoints land on exactly the network's parameters."""
    wanted = parameter_names("cosmos2-t2v-2b-720p")
    checkpoint = dict.fromkeys([f"net.{name}" for name in wanted], torch.empty(0))
    dropped = ("net.pos_embedder.seq", "net.blocks.0.attn._extra_state", "net.accum_iteration")
    checkpoint |= dict.fromkeys(dropped, torch.empty(0))
    assert cosmos_predict2.state_dict_transform(checkpoint).keys() == wanted
    wanted = parameter_names("self-forcing-wan2.1-t2v-1.3b")
    wrapped = dict.fromkeys([f"model._fsdp_wrapped_module.{name}" for name in wanted])
    assert self_forcing.unwrap_checkpoint({"generator_ema": wrapped}).keys() == wanted
