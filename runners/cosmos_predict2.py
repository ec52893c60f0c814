"""Cosmos-Predict2.5 2B at 720p: bidirectional video from text or from an image.

One AR step of 24 latent frames, 35 UniPC steps over Karras sigmas. Cosmos writes guidance as
``cond + 7 (cond - uncond)``, FlashDreams as ``uncond + s (cond - uncond)``: hence s = 8.

Source: the published configurations of flashdreams 0.1.0 (its ``integrations/cosmos_predict2``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from flashdreams.infra.config import derive_config
from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCSchedulerConfig
from flashdreams.recipes.cosmos.pipeline import CosmosInferencePipelineConfig
from flashdreams.recipes.cosmos.transformer import CosmosTransformerConfig
from flashdreams.recipes.cosmos.transformer.impl.network import (
    CosmosDiTNetworkConfig,
    state_dict_transform,
)
from flashdreams.recipes.wan import WanVAEDecoderConfig, WanVAEEncoderConfig

from runners.drivers import cosmos
from runners.video import ImageRunnerConfig, VideoRunnerConfig

CHECKPOINT = (
    "https://huggingface.co/nvidia/Cosmos-Predict2.5-2B/blob/main/base/post-trained/"
    "81edfebe-bd6a-4039-8c1d-737df1a790bf_ema_bf16.pt"
)
IMAGE = (
    "https://media.githubusercontent.com/media/nvidia-cosmos/cosmos-predict2.5/refs/heads/main/"
    "assets/base/robot_welding.jpg"
)
PROMPT = (
    "A robotic arm welds a seam on a large metal frame in a workshop. Blue-white sparks spray from "
    "the torch, smoke drifts upwards, and the arm creeps left along the glowing joint while the "
    "camera stands still."
)

T2V = VideoRunnerConfig(
    runner_name="cosmos2-t2v-2b-720p",
    description="Cosmos-Predict2.5 2B T2V at 720p, 35 UniPC steps with CFG, Wan VAE decoder.",
    prompt=PROMPT,
    pixel_height=720,
    pixel_width=1280,
    pipeline=CosmosInferencePipelineConfig(
        name="cosmos2-t2v-2b-720p",
        enable_sync_and_profile=True,
        decoder=WanVAEDecoderConfig(),
        diffusion_model=DiffusionModelConfig(
            seed=42,
            transformer=CosmosTransformerConfig(
                network=CosmosDiTNetworkConfig(),
                checkpoint_path=CHECKPOINT,
                state_dict_transform=state_dict_transform,
                batch_shape=(),
                len_t=24,
                window_size_t=24,
                guidance_scale=8.0,
                use_cuda_graph=False,
            ),
            scheduler=FlowMatchUniPCSchedulerConfig(
                num_inference_steps=35, shift=5.0, use_kerras_sigma=True, enable_tqdm=True
            ),
        ),
    ),
)

I2V = ImageRunnerConfig(
    runner_name="cosmos2-i2v-2b-720p",
    description="Cosmos-Predict2.5 2B I2V at 720p, 35 UniPC steps with CFG, Wan VAE decoder.",
    prompt=PROMPT,
    pixel_height=720,
    pixel_width=1280,
    image_path=IMAGE,
    pipeline=derive_config(
        T2V.pipeline,
        name="cosmos2-i2v-2b-720p",
        image_encoder=WanVAEEncoderConfig(),
        diffusion_model={"transformer": {"conditional_frame_timestep": 0.1}},
    ),
)

cosmos.register()
