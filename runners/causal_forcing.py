"""Causal-Forcing on Wan 2.1 1.3B: streaming video by blocks of three latent frames, or one by one.

Self-Forcing's network and sampler with other weights and shift 5. The framewise weights also
continue an image, which is written over the first latent frame.

Source: the published configurations of flashdreams 0.1.0 (its ``integrations/causal_forcing``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from flashdreams.infra.config import derive_config
from flashdreams.recipes.wan import WanI2VCtrlEncoderConfig, WanVAEEncoderConfig

from runners.self_forcing import WAN_VAE
from runners.video import StreamingImageRunnerConfig

_CHECKPOINT = "https://huggingface.co/zhuhz22/Causal-Forcing/blob/main/{}/causal_forcing.pt"
IMAGE = (
    "https://raw.githubusercontent.com/thu-ml/Causal-Forcing/refs/heads/main/"
    "prompts/i2v/26-15/000001.png"
)

CHUNKWISE = derive_config(
    WAN_VAE,
    runner_name="causal-forcing-wan2.1-t2v-1.3b-chunkwise",
    description="Causal-Forcing Wan 2.1 T2V 1.3B, blocks of 3 latent frames, 4 denoising steps.",
    pipeline={
        "name": "causal-forcing-wan2.1-t2v-1.3b-chunkwise",
        "diffusion_model": {
            "transformer": {"checkpoint_path": _CHECKPOINT.format("chunkwise")},
            "scheduler": {"shift": 5.0},
        },
    },
)

FRAMEWISE = derive_config(
    CHUNKWISE,
    runner_name="causal-forcing-wan2.1-t2v-1.3b-framewise",
    description="Causal-Forcing Wan 2.1 T2V 1.3B, one latent frame at a time, 4 denoising steps.",
    pipeline={
        "name": "causal-forcing-wan2.1-t2v-1.3b-framewise",
        "diffusion_model": {
            "transformer": {"checkpoint_path": _CHECKPOINT.format("framewise"), "len_t": 1},
        },
    },
)

I2V = StreamingImageRunnerConfig(
    runner_name="causal-forcing-wan2.1-i2v-1.3b-framewise",
    description="Causal-Forcing Wan 2.1 I2V 1.3B, one latent frame at a time, 4 denoising steps.",
    image_path=IMAGE,
    pipeline=derive_config(
        FRAMEWISE.pipeline,
        name="causal-forcing-wan2.1-i2v-1.3b-framewise",
        encoder=WanI2VCtrlEncoderConfig(encoder=WanVAEEncoderConfig()),
        diffusion_model={"transformer": {"stamp_image_latent": True}},
    ),
)
