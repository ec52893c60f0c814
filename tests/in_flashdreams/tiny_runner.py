"""The Self-Forcing runner's own configuration, shrunk for a CPU, with weights made here.

Registered under a name of its own; everything that is not about size stays as published.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from runners.self_forcing import WAN_VAE

# isort: split

from flashdreams.infra.config import derive_config
from flashdreams.infra.encoder import Encoder, EncoderConfig
from flashdreams.recipes.wan.autoencoder import vae


@dataclass(kw_only=True)
class SeededTextEncoderConfig(EncoderConfig):
    """Stands in for umT5, whose 11 GB are downloaded."""

    _target: type["SeededTextEncoder"] = field(default_factory=lambda: SeededTextEncoder)


class SeededTextEncoder(Encoder):
    """Embeds a prompt as noise seeded by its text."""

    def forward(self, input: list[str]) -> torch.Tensor:  # noqa: A002  the library's name
        """Embeddings [N, 16, 64]."""
        seeds = [hashlib.sha256(text.encode()).digest()[0] for text in input]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack([torch.randn(16, 64, generator=g) for g in generators])


def _decoder_weights(path: Path) -> str:
    """A complete Wan VAE decoder of width 16 with seeded weights."""
    torch.manual_seed(0)
    decoder = vae.Decoder3d(dim=16, z_dim=16, temperal_upsample=(True, True, False))
    first = vae.CausalConv3d(16, 16, 1)
    weights = {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    weights |= {f"conv2.{key}": value for key, value in first.state_dict().items()}
    torch.save(weights, path)
    return str(path)


RUNNER = derive_config(
    WAN_VAE,
    runner_name="tiny-self-forcing",
    device="cpu",
    pixel_height=64,
    pixel_width=64,
    pipeline={
        "text_encoder": SeededTextEncoderConfig(),
        "decoder": {
            "checkpoint_path": _decoder_weights(Path(os.environ["TINY_WEIGHTS"])),
            "base_dim": 16,
            "use_cuda_graph": False,
            "dtype": torch.float32,
        },
        "diffusion_model": {
            "transformer": {
                "network": {
                    "dim": 256,
                    "ffn_dim": 512,
                    "num_heads": 2,
                    "num_layers": 2,
                    "text_len": 16,
                    "text_dim": 64,
                },
                "checkpoint_path": None,
                "dtype": torch.float32,
                "window_size_t": 6,
                "compile_network": False,
                "use_cuda_graph": False,
            }
        },
    },
)
