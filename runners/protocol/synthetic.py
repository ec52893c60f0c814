"""Seeded weights, noise, prompt embeddings and named inputs: what a ``prepare`` trial writes.

Run as ``python -m runners.protocol.synthetic request.json``.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate, pixel_unshuffle

from runners.protocol import named_inputs, wire
from runners.protocol.decoder_shapes import SHAPES, TAEHV_OUTPUT_BIAS, WAN_VAE_OUTPUT
from runners.protocol.kinds import KINDS
from runners.protocol.requests import PrepareRequest
from runners.protocol.seeded_inputs import noise_key
from runners.protocol.seeded_weights import in_threads, make_weights, normal, parameter

TURN, STEP = 0.02, 0.05
"""Radians and units that a seeded camera turns and moves in a frame, at most."""
FOCAL = (0.5051, 0.8979)
"""Focal lengths in units of the image's width and height, as HY-WorldPlay's example has them."""
LABELS = 81
"""How many different action labels there are."""


def make_decoder(kind: str, width: int, seed: int) -> dict[str, Tensor]:
    """Seeded bfloat16 weights of a decoder by parameter name, made as a network's are.

    The output layers place a video between black and white: TAEHV clamps to [0, 1] and gets a bias
    of one half, the VAE to [-1, 1] and gets half the gain. TAEHV's kernels have no mean, or the
    positive mean that ReLU leaves would add up to one picture whatever the latents.
    """
    shapes = SHAPES[kind](width)
    made = in_threads(
        {name: parameter(f"{kind}/{name}", shape, seed) for name, shape in shapes.items()}
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


def make_noise(request: PrepareRequest) -> dict[str, Tensor]:
    """The noise bank: [T, C, H, W] bfloat16 per (AR step, denoising step)."""
    return {
        noise_key(ar, step): normal(
            request.latent_shape, f"noise/{request.noise_seed}/{ar}/{step}"
        ).to(torch.bfloat16)
        for ar in range(request.ar_steps)
        for step in range(request.draws_per_step)
    }


def make_text(request: PrepareRequest) -> dict[str, Tensor]:
    """Stand-ins for what the encoders of the network's kind give, bfloat16."""
    shapes = KINDS[request.network.kind].encoded(request.network, request.latent_shape)
    return {
        name: normal(shape, f"text/{name}/{request.prompt}").to(torch.bfloat16)
        for name, shape in shapes.items()
    }


def make_inputs(request: PrepareRequest) -> dict[str, Tensor]:
    """Every named input of a request; see :mod:`runners.protocol.named_inputs`."""
    extent = named_inputs.Extent(*request.latent_shape, request.ar_steps)
    made = {}
    for key, one in named_inputs.keys(request.input_names, extent).items():
        label = f"input/{request.noise_seed}/{key}"
        made[key] = VALUES[one.values](one.shape(extent), label).contiguous()
    return made


def _normal(shape: tuple[int, ...], label: str) -> Tensor:
    return normal(shape, label).to(torch.bfloat16)


def _poses(shape: tuple[int, ...], label: str) -> Tensor:
    """World to camera [F, 4, 4], float32, of a camera that turns and moves a little each frame."""
    frames = shape[0]
    steps = normal((frames, 4), label).clamp(-1, 1).cumsum(0) - normal((1, 4), label).clamp(-1, 1)
    angles = TURN * steps[:, 0]
    cosines, sines = angles.cos(), angles.sin()
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 0, 0], poses[:, 0, 2] = cosines, sines
    poses[:, 2, 0], poses[:, 2, 2] = -sines, cosines
    poses[:, :3, 3] = STEP * steps[:, 1:]
    return poses


def _intrinsics(shape: tuple[int, ...], _label: str) -> Tensor:
    """Pinhole cameras [F, 3, 3] in units of the image, float32."""
    one = torch.tensor([[FOCAL[0], 0.0, 0.5], [0.0, FOCAL[1], 0.5], [0.0, 0.0, 1.0]])
    return one.expand(shape)


def _labels(shape: tuple[int, ...], label: str) -> Tensor:
    """Whole numbers in [0, LABELS), int64."""
    return (normal(shape, label).abs() * 1e6).long() % LABELS


def _rays(shape: tuple[int, ...], label: str) -> Tensor:
    """Plücker rays [T, 6 * 8 * 8, H, W]: moment and direction of each pixel's ray, bfloat16."""
    frames, _, height, width = shape
    side = named_inputs.PIXELS
    poses = _poses((frames, 4, 4), label)
    y = (torch.arange(height * side) + 0.5) / (height * side)
    x = (torch.arange(width * side) + 0.5) / (width * side)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    seen = torch.stack(
        ((columns - 0.5) / FOCAL[0], (rows - 0.5) / FOCAL[1], torch.ones_like(rows)), -1
    )
    turned = poses[:, :3, :3].transpose(1, 2)  # camera to world
    directions = torch.einsum("fij,hwj->fhwi", turned, seen / seen.norm(dim=-1, keepdim=True))
    origins = -torch.einsum("fij,fj->fi", turned, poses[:, :3, 3])[:, None, None].expand_as(
        directions
    )
    rays = torch.cat((torch.linalg.cross(origins, directions), directions), -1)
    return pixel_unshuffle(rays.permute(0, 3, 1, 2), side).to(torch.bfloat16)


def _video(shape: tuple[int, ...], label: str) -> Tensor:
    """Frames [T, 3, H, W] in [-1, 1] without detail finer than an eighth, bfloat16."""
    frames, channels, height, width = shape
    coarse = normal((frames, channels, max(2, height // 8), max(2, width // 8)), label)
    return interpolate(coarse, (height, width), mode="bilinear").div(2).clamp(-1, 1).bfloat16()


VALUES: dict[str, Callable[[tuple[int, ...], str], Tensor]] = {
    named_inputs.NORMAL: _normal,
    named_inputs.POSES: _poses,
    named_inputs.INTRINSICS: _intrinsics,
    named_inputs.LABELS: _labels,
    named_inputs.RAYS: _rays,
    named_inputs.VIDEO: _video,
}
"""Values of a named input to what makes them, called with shape and label."""


def _save(tensors: dict[str, Tensor], path: str) -> None:
    beside = Path(path).with_suffix(".part")
    save_file(tensors, beside)
    beside.replace(path)


def main(request_path: str) -> None:
    """Make the files that one request names."""
    request = wire.read_json(PrepareRequest, Path(request_path))
    if request.weights_path:
        weights = make_weights(
            request.network,
            request.weights_seed,
            request.weights_rule,
            request.weights_gains,
            request.networks,
        )
        _save(weights, request.weights_path)
    if request.noise_path:
        _save(make_noise(request), request.noise_path)
    if request.text_path:
        _save(make_text(request), request.text_path)
    if request.inputs_path:
        _save(make_inputs(request), request.inputs_path)
    if request.decoder_path:
        decoder = make_decoder(request.decoder, request.decoder_width, request.weights_seed)
        _save(decoder, request.decoder_path)


if __name__ == "__main__":
    main(sys.argv[1])
