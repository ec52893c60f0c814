"""``--size tiny``: any runner's configuration, shrunk to seconds on a CPU, without a download.

Network, video, window and number of UniPC steps shrink; weights are random, and stand-ins take the
place of umT5, Cosmos-Reason1 and CLIP. Whatever is not about size stays as published, except that
on a CPU nothing is compiled or captured and decoders compute in float32.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import imageio.v3 as iio
import numpy as np
import torch
from flashdreams.infra.config import derive_config
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCSchedulerConfig
from flashdreams.infra.diffusion.transformer import TransformerConfig
from flashdreams.infra.encoder import Encoder, EncoderConfig
from flashdreams.infra.encoder.image.clip import CLIPImageEncoderConfig
from flashdreams.infra.encoder.text.cosmos_reason1 import CosmosReason1TextEncoderConfig
from flashdreams.infra.encoder.text.umt5 import UMT5TextEncoderConfig
from flashdreams.infra.runner import RunnerConfig
from flashdreams.recipes.taehv import TeahvVAEDecoderConfig
from flashdreams.recipes.taehv import impl as taehv
from flashdreams.recipes.wan import WanVAEDecoderConfig, WanVAEEncoderConfig
from flashdreams.recipes.wan.autoencoder import vae
from loguru import logger
from torch import Tensor, nn

from runners import families, first_frame

Config = TypeVar("Config", bound=RunnerConfig)

SEED = 0
"""Seed of every synthetic weight."""
LIMITS = {"pixel_height": 64, "pixel_width": 64, "total_blocks": 7}
"""The most a runner's own options ask for; seven blocks also fill the longest tiny window."""
TEXT_SHAPE = (16, 64)
"""Tokens of a prompt and their width."""
CLIP_SHAPE = (257, 1280)
"""Tokens of an image and their width, fixed in Wan's network."""
VAE_WIDTH = 16
GPU_ONLY = {"compile_network", "use_compile", "use_cuda_graph"}
"""Options that are off on a CPU."""


@dataclass(kw_only=True)
class SeededTextEncoderConfig(EncoderConfig):
    """Stands in for umT5 (11 GB) and Cosmos-Reason1 (14 GB)."""

    _target: type["SeededTextEncoder"] = field(default_factory=lambda: SeededTextEncoder)


@dataclass(kw_only=True)
class SeededImageEncoderConfig(EncoderConfig):
    """Stands in for CLIP."""

    _target: type["SeededImageEncoder"] = field(default_factory=lambda: SeededImageEncoder)


class _SeededEncoder(Encoder):
    """Embeds by content: noise whose seed is the digest of what is encoded."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        # A buffer follows ``.to(device)``, and with it the embeddings.
        self.register_buffer("anchor", torch.zeros(0, dtype=torch.bfloat16), persistent=False)

    def embed(self, content: bytes, shape: tuple[int, ...]) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little", signed=True)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return noise.to(self.anchor)


class SeededTextEncoder(_SeededEncoder):
    """Embeds a prompt as noise seeded by its text."""

    def forward(self, input: list[str]) -> Tensor:  # noqa: A002  the library's name
        """Embeddings [N, tokens, width]."""
        return torch.stack([self.embed(text.encode(), TEXT_SHAPE) for text in input])


class SeededImageEncoder(_SeededEncoder):
    """Embeds an image as noise seeded by its pixels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the library's name
        """Embeddings [..., 257, 1280] of images [..., C, H, W]."""
        content = input.float().cpu().numpy().tobytes()
        return self.embed(content, CLIP_SHAPE).expand(*input.shape[:-3], *CLIP_SHAPE)


STAND_INS: dict[type, Callable[[], EncoderConfig]] = {
    UMT5TextEncoderConfig: SeededTextEncoderConfig,
    CosmosReason1TextEncoderConfig: SeededTextEncoderConfig,
    CLIPImageEncoderConfig: SeededImageEncoderConfig,
}
"""Encoder that would be downloaded to the one that takes its place."""

SMALLER: dict[type, dict[str, Any]] = {
    WanVAEEncoderConfig: {"base_dim": VAE_WIDTH},
    WanVAEDecoderConfig: {"base_dim": VAE_WIDTH},
    FlowMatchUniPCSchedulerConfig: {"num_inference_steps": 4},
}
"""Configuration to the values that are about size; a family adds those of its network."""


@contextmanager
def shrunk(config: Config) -> Iterator[Config]:
    """The configuration at tiny size; build the runner inside, where its files and seed are."""
    with TemporaryDirectory(prefix="fdbench-tiny-") as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        small = derive_config(config, device=config.device if torch.cuda.is_available() else "cpu")
        for option, limit in LIMITS.items():
            if hasattr(small, option):
                setattr(small, option, min(getattr(small, option), limit))
        if first_frame.is_address(str(getattr(small, "image_path", ""))):
            small.image_path = str(_image(Path(folder)))
        _shrink(small.pipeline, Path(folder), on_cpu=small.device == "cpu")
        logger.warning(
            f"[{config.runner_name}] --size tiny on {small.device}: a small network with synthetic "
            f"weights (seed {SEED}) and stand-ins for the text and image encoders; the video is "
            "noise and the timings are of no model"
        )
        torch.manual_seed(SEED)
        yield small


def _shrink(config: Any, folder: Path, *, on_cpu: bool) -> None:
    """Shrink a component and what it is made of, in place."""
    tables = [SMALLER, *(family.smaller for family in families.registered())]
    for kind, values in itertools.chain.from_iterable(table.items() for table in tables):
        if isinstance(config, kind):
            vars(config).update(values)
    if isinstance(config, TransformerConfig) and hasattr(config, "window_size_t"):
        _shorten(config)
    if type(config) in CHECKPOINTS:
        config.checkpoint_path = _checkpoint(folder, *CHECKPOINTS[type(config)])
    _adapt(config, on_cpu=on_cpu)
    for name, part in list(vars(config).items()):
        if type(part) in STAND_INS:
            setattr(config, name, STAND_INS[type(part)]())
        elif dataclasses.is_dataclass(part) and not isinstance(part, type):
            _shrink(part, folder, on_cpu=on_cpu)


def _adapt(config: Any, *, on_cpu: bool) -> None:
    if not on_cpu:
        return
    vars(config).update(dict.fromkeys(GPU_ONLY & vars(config).keys(), False))
    if isinstance(config, WanVAEDecoderConfig | TeahvVAEDecoderConfig):
        # In 16 bit a CPU without AVX-512 takes half a minute for a quarter of a second's work.
        config.dtype = torch.float32


def _shorten(transformer: Any) -> None:
    """Three latent frames at most per AR step; a longer window holds two such steps."""
    is_one_step = transformer.len_t == transformer.window_size_t
    transformer.len_t = min(transformer.len_t, 3)
    if is_one_step:
        transformer.window_size_t = transformer.len_t
    elif transformer.sink_size_t == 0:
        transformer.window_size_t = min(transformer.window_size_t, 6)


def _checkpoint(folder: Path, name: str, make: Callable[[], dict[str, nn.Module]]) -> str:
    """Write a checkpoint file unless another component of the pipeline has."""
    path = folder / name
    if not path.exists():
        weights = {
            f"{prefix}.{key}": value
            for prefix, module in make().items()
            for key, value in module.state_dict().items()
        }
        torch.save(weights, path)
    return str(path)


def _wan_vae() -> dict[str, nn.Module]:
    """Source: flashdreams 0.1.0, ``recipes/wan/autoencoder/vae.py``, ``WanVAE``."""
    z_dim = vae.WanVAE.Z_DIM
    return {
        "encoder": vae.Encoder3d(
            dim=VAE_WIDTH, z_dim=2 * z_dim, temperal_downsample=(False, True, True)
        ),
        "conv1": vae.CausalConv3d(2 * z_dim, 2 * z_dim, 1),
        "decoder": vae.Decoder3d(dim=VAE_WIDTH, z_dim=z_dim, temperal_upsample=(True, True, False)),
        "conv2": vae.CausalConv3d(z_dim, z_dim, 1),
    }


def _taehv() -> dict[str, nn.Module]:
    """Source: flashdreams 0.1.0, ``recipes/taehv/impl.py``, ``TAEHV``; its widths are fixed."""
    decoder = taehv.Decoder(
        n_f=(256, 128, 64, 64),
        latent_channels=vae.WanVAE.Z_DIM,
        image_channels=3,
        patch_size=1,
        decoder_time_upscale=(True, True),
        decoder_space_upscale=(True, True, True),
        act_func=nn.ReLU(inplace=True),
    )
    # PyTorch's own initial weights fade to a black video on the way through its many layers.
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return {"decoder": decoder}


CHECKPOINTS: dict[type, tuple[str, Callable[[], dict[str, nn.Module]]]] = {
    WanVAEEncoderConfig: ("wan_vae.pth", _wan_vae),
    WanVAEDecoderConfig: ("wan_vae.pth", _wan_vae),
    # The library scales latents for files whose name says so.
    TeahvVAEDecoderConfig: ("lighttae.pth", _taehv),
}
"""Component that insists on a checkpoint file to the file's name and contents."""


def _image(folder: Path) -> Path:
    """A seeded image in place of one that would be downloaded."""
    path = folder / "first_frame.png"
    levels = np.random.default_rng(SEED).integers(256, size=(48, 80, 3), dtype=np.uint8)
    iio.imwrite(path, levels)
    return path
