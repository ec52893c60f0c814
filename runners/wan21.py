"""Wan 2.1 T2V 1.3B: bidirectional text-to-video, one AR step of 21 latent frames.

Source: the published configuration of flashdreams 0.1.0 (its ``integrations/wan21``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCSchedulerConfig
from flashdreams.recipes.wan import (
    Wan21TransformerConfig,
    WanDiTNetwork1pt3BConfig,
    WanInferencePipelineConfig,
    WanVAEDecoderConfig,
)

from runners.text_to_video import TextToVideoRunnerConfig

T2V = TextToVideoRunnerConfig(
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
