"""Wan 2.1 at 480p: bidirectional video from text (1.3B) or from an image (14B).

One AR step of 21 latent frames.

Source: the published configurations of flashdreams 0.1.0 (its ``integrations/wan21``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCSchedulerConfig
from flashdreams.infra.encoder.image.clip import CLIPImageEncoderConfig
from flashdreams.recipes.wan import (
    Wan21TransformerConfig,
    WanDiTNetwork1pt3BConfig,
    WanDiTNetwork14BConfig,
    WanI2VCtrlEncoderConfig,
    WanInferencePipelineConfig,
    WanVAEDecoderConfig,
    WanVAEEncoderConfig,
)

from runners.drivers import wan21
from runners.video import ImageRunnerConfig, VideoRunnerConfig

IMAGE = "https://raw.githubusercontent.com/Wan-Video/Wan2.1/main/examples/i2v_input.JPG"

T2V = VideoRunnerConfig(
    runner_name="wan21-t2v-1.3b-480p",
    description="Wan 2.1 T2V 1.3B at 480p, 50 UniPC steps with CFG, Wan VAE decoder.",
    pipeline=WanInferencePipelineConfig(
        name="wan21-t2v-1.3b-480p",
        enable_sync_and_profile=True,
        decoder=WanVAEDecoderConfig(),
        diffusion_model=DiffusionModelConfig(
            seed=42,
            transformer=Wan21TransformerConfig(
                network=WanDiTNetwork1pt3BConfig(),
                checkpoint_path=(
                    "https://huggingface.co/Wan-AI/Wan2.1-T2V-1.3B/blob/main/"
                    "diffusion_pytorch_model.safetensors"
                ),
                batch_shape=(),
                len_t=21,
                window_size_t=21,
                guidance_scale=6.0,
            ),
            scheduler=FlowMatchUniPCSchedulerConfig(
                num_inference_steps=50, shift=8.0, enable_tqdm=True
            ),
        ),
    ),
)

I2V = ImageRunnerConfig(
    runner_name="wan21-i2v-14b-480p",
    description="Wan 2.1 I2V 14B at 480p, 40 UniPC steps with CFG, Wan VAE decoder.",
    prompt=(
        "A white cat in sunglasses sits on a surfboard and looks calmly into the camera. Behind it "
        "a blurred summer beach: clear water, green hills, a blue sky with small clouds."
    ),
    pixel_height=832,
    pixel_width=480,
    image_path=IMAGE,
    pipeline=WanInferencePipelineConfig(
        name="wan21-i2v-14b-480p",
        enable_sync_and_profile=True,
        encoder=WanI2VCtrlEncoderConfig(encoder=WanVAEEncoderConfig()),
        image_encoder=CLIPImageEncoderConfig(),
        decoder=WanVAEDecoderConfig(),
        diffusion_model=DiffusionModelConfig(
            seed=42,
            transformer=Wan21TransformerConfig(
                # Noise, first-frame mask and first-frame latent side by side.
                network=WanDiTNetwork14BConfig(in_dim=16 + 4 + 16, cross_attn_enable_img=True),
                checkpoint_path=(
                    "https://huggingface.co/Wan-AI/Wan2.1-I2V-14B-480P/blob/main/"
                    "diffusion_pytorch_model.safetensors.index.json"
                ),
                batch_shape=(),
                len_t=21,
                window_size_t=21,
                guidance_scale=5.0,
                concat_image_mask_to_latent=True,
            ),
            scheduler=FlowMatchUniPCSchedulerConfig(
                num_inference_steps=40, shift=3.0, enable_tqdm=True
            ),
        ),
    ),
)

wan21.register()
