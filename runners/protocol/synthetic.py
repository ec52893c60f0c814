"""Seeded weights, noise and prompt embeddings: what a ``prepare`` trial writes.

Run as ``python -m runners.protocol.synthetic request.json``.

All values are representable in bfloat16 and stored in it, so that a side in any dtype starts from
the same numbers and a precision floor measures arithmetic, not rounded inputs.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from runners.protocol import wire
from runners.protocol.decoder_shapes import SHAPES, TAEHV_OUTPUT_BIAS, WAN_VAE_OUTPUT
from runners.protocol.seeded_inputs import noise_key

Made = TypeVar("Made")

CLIP_DIM = 1280
"""Width of a CLIP token, the same in every Wan network."""


def wan_shapes(network: wire.Network) -> dict[str, tuple[int, ...]]:
    """Parameter names and shapes of Wan 2.1's transformer.

    Source: Wan-Video/Wan2.1 9737cba, ``wan/modules/model.py``, ``WanModel``; patch (1, 2, 2).
    """
    dim, ffn, freq, text = network.dim, network.ffn_dim, network.freq_dim, network.text_dim
    linears = {
        "text_embedding.0": (dim, text),
        "text_embedding.2": (dim, dim),
        "time_embedding.0": (dim, freq),
        "time_embedding.2": (dim, dim),
        "time_projection.1": (6 * dim, dim),
        "head.head": (4 * network.out_dim, dim),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (dim, network.in_dim, 1, 2, 2),
        "patch_embedding.bias": (dim,),
        "head.modulation": (1, 2, dim),
    }
    for layer in range(network.num_layers):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.modulation": (1, 6, dim)}
        shapes |= {f"{block}.norm3.{part}": (dim,) for part in ("weight", "bias")}
        linears |= {f"{block}.ffn.0": (ffn, dim), f"{block}.ffn.2": (dim, ffn)}
        for attention in ("self_attn", "cross_attn"):
            linears |= {f"{block}.{attention}.{name}": (dim, dim) for name in "qkvo"}
            shapes |= {f"{block}.{attention}.norm_{name}.weight": (dim,) for name in "qk"}
    if network.image_tokens:
        more_linears, more_shapes = _image_shapes(network)
        linears, shapes = linears | more_linears, shapes | more_shapes
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def _image_shapes(
    network: wire.Network,
) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, ...]]]:
    """Linear layers, and other parameters, that only video from an image has."""
    dim = network.dim
    linears = {"img_emb.proj.1": (CLIP_DIM, CLIP_DIM), "img_emb.proj.3": (dim, CLIP_DIM)}
    shapes: dict[str, tuple[int, ...]] = {}
    for norm, width in (("img_emb.proj.0", CLIP_DIM), ("img_emb.proj.4", dim)):
        shapes |= {f"{norm}.{part}": (width,) for part in ("weight", "bias")}
    for layer in range(network.num_layers):
        attention = f"blocks.{layer}.cross_attn"
        linears |= {f"{attention}.{name}": (dim, dim) for name in ("k_img", "v_img")}
        shapes |= {f"{attention}.norm_k_img.weight": (dim,)}
    return linears, shapes


def make_weights(network: wire.Network, seed: int) -> dict[str, Tensor]:
    """Seeded bfloat16 weights by parameter name.

    Every parameter has its own generator, so the values depend on neither order nor subset.
    Matrices have variance 1 / fan-in, which keeps the residual stream finite.
    """
    shapes = wan_shapes(network)
    return _in_threads({name: _parameter(name, shape, seed) for name, shape in shapes.items()})


def make_decoder(kind: str, width: int, seed: int) -> dict[str, Tensor]:
    """Seeded bfloat16 weights of a decoder by parameter name, made as :func:`make_weights` does.

    The output layers place a video between black and white: TAEHV clamps to [0, 1] and gets a bias
    of one half, the VAE to [-1, 1] and gets half the gain. TAEHV's kernels have no mean, or the
    positive mean that ReLU leaves would add up to one picture whatever the latents.
    """
    shapes = SHAPES[kind](width)
    made = _in_threads(
        {name: _parameter(f"{kind}/{name}", shape, seed) for name, shape in shapes.items()}
    )
    return {name: _between_black_and_white(f"{kind}/{name}", made[name]) for name in made}


def _between_black_and_white(name: str, values: Tensor) -> Tensor:
    if name == TAEHV_OUTPUT_BIAS:
        return values + 0.5
    if name == WAN_VAE_OUTPUT:
        return values * 0.5
    if name.startswith("taehv/") and values.ndim > 1:
        return values - values.float().mean((1, 2, 3), keepdim=True).to(values)
    return values


def _parameter(name: str, shape: tuple[int, ...], seed: int) -> Callable[[], Tensor]:
    def make() -> Tensor:
        values = _normal(shape, f"weights/{seed}/{name}")
        if name.endswith(".bias"):
            values *= 0.01
        elif len(shape) == 1 or name.endswith(".gamma"):  # a norm
            values.mul_(0.02).add_(1.0)
        elif name.endswith("modulation"):
            values *= shape[-1] ** -0.5
        else:
            values *= torch.Size(shape[1:]).numel() ** -0.5
        return values.to(torch.bfloat16)

    return make


def _in_threads(makers: dict[str, Callable[[], Made]]) -> dict[str, Made]:
    """Call every maker, as many at once as there are cores: random numbers leave the GIL."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda make: make(), makers.values())
        return dict(zip(makers, made, strict=True))


def make_noise(request: wire.PrepareRequest) -> dict[str, Tensor]:
    """The noise bank: [T, C, H, W] bfloat16 per (AR step, denoising step)."""
    return {
        noise_key(ar, step): _normal(
            request.latent_shape, f"noise/{request.noise_seed}/{ar}/{step}"
        ).to(torch.bfloat16)
        for ar in range(request.ar_steps)
        for step in range(request.draws_per_step)
    }


def make_text(request: wire.PrepareRequest) -> dict[str, Tensor]:
    """Stand-ins for what the encoders give, bfloat16.

    Prompt embeddings ``text`` and ``negative`` [L, D]; for video from an image also its CLIP tokens
    ``clip`` [L, D] and what the VAE makes of the first frame, ``image`` [T, C, H, W].
    """
    network = request.network
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("text", "negative"), (network.text_len, network.text_dim)
    )
    if network.image_tokens:
        shapes |= {"clip": (network.image_tokens, CLIP_DIM), "image": request.latent_shape}
    return {
        kind: _normal(shape, f"text/{kind}/{request.prompt}").to(torch.bfloat16)
        for kind, shape in shapes.items()
    }


def _normal(shape: tuple[int, ...], label: str) -> Tensor:
    """Standard normal values from a generator seeded by a label."""
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little", signed=True)
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def _save(tensors: dict[str, Tensor], path: str) -> None:
    beside = Path(path).with_suffix(".part")
    save_file(tensors, beside)
    beside.replace(path)


def main(request_path: str) -> None:
    """Make the files that one request names."""
    request = wire.read_json(wire.PrepareRequest, Path(request_path))
    if request.weights_path:
        _save(make_weights(request.network, request.weights_seed), request.weights_path)
    if request.noise_path:
        _save(make_noise(request), request.noise_path)
    if request.text_path:
        _save(make_text(request), request.text_path)
    if request.decoder_path:
        decoder = make_decoder(request.decoder, request.decoder_width, request.weights_seed)
        _save(decoder, request.decoder_path)


if __name__ == "__main__":
    main(sys.argv[1])
