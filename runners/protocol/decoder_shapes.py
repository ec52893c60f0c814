"""Parameter names and shapes of the decoders, as upstream's checkpoints have them.

Only what decodes: a checkpoint's encoder is left out, since no side builds it.
"""

from collections.abc import Callable, Iterator

Shapes = dict[str, tuple[int, ...]]

Z_DIM = 16
"""Latent channels of both decoders."""
TAEHV_WIDTHS = (256, 128, 64, 64)
"""Channels after each spatial doubling."""
TAEHV_OUTPUT_BIAS = "taehv/decoder.22.bias"
WAN_VAE_OUTPUT = "wan_vae/decoder.head.2.weight"


def wan_vae_shapes(width: int) -> Shapes:
    """Decoder of the Wan 2.1 VAE.

    Args:
        width: Channels of its narrowest stage; 96 as published.

    Source: guandeh17/Self-Forcing 33593df, ``wan/modules/vae.py``, ``WanVAE_``.
    """
    wide, middle = 4 * width, "decoder.middle"
    shapes = _conv("conv2", Z_DIM, Z_DIM, (1, 1, 1))
    shapes |= _conv("decoder.conv1", Z_DIM, wide, (3, 3, 3))
    shapes |= _residual(f"{middle}.0", wide, wide) | _residual(f"{middle}.2", wide, wide)
    shapes |= {f"{middle}.1.norm.gamma": (wide, 1, 1)}
    shapes |= _conv(f"{middle}.1.to_qkv", wide, 3 * wide, (1, 1))
    shapes |= _conv(f"{middle}.1.proj", wide, wide, (1, 1))
    for index, (kind, before, after) in enumerate(_wan_vae_stages(width)):
        name = f"decoder.upsamples.{index}"
        if kind == "residual":
            shapes |= _residual(name, before, after)
            continue
        shapes |= _conv(f"{name}.resample.1", before, after, (3, 3))
        if kind == "upsample3d":
            shapes |= _conv(f"{name}.time_conv", before, 2 * before, (3, 1, 1))
    shapes |= {"decoder.head.0.gamma": (width, 1, 1, 1)}
    return shapes | _conv("decoder.head.2", width, 3, (3, 3, 3))


def _wan_vae_stages(width: int) -> Iterator[tuple[str, int, int]]:
    """Blocks of the upsampling path: kind, channels before and after."""
    resamplings = ("upsample3d", "upsample3d", "upsample2d", "")
    for before, after, resampling in zip((4, 2, 2, 1), (4, 4, 2, 1), resamplings, strict=True):
        yield "residual", before * width, after * width
        yield "residual", after * width, after * width
        yield "residual", after * width, after * width
        if resampling:
            yield resampling, after * width, after * width // 2


def _residual(name: str, before: int, after: int) -> Shapes:
    shapes = {f"{name}.residual.0.gamma": (before, 1, 1, 1)}
    shapes |= _conv(f"{name}.residual.2", before, after, (3, 3, 3))
    shapes |= {f"{name}.residual.3.gamma": (after, 1, 1, 1)}
    shapes |= _conv(f"{name}.residual.6", after, after, (3, 3, 3))
    return (
        shapes if before == after else shapes | _conv(f"{name}.shortcut", before, after, (1,) * 3)
    )


def taehv_shapes(_width: int) -> Shapes:
    """Decoder of TAEHV for Wan 2.1, whose widths are fixed.

    Source: guandeh17/Self-Forcing 33593df, ``demo_utils/taehv.py``, ``TAEHV``.
    """
    shapes = _conv("decoder.1", Z_DIM, TAEHV_WIDTHS[0], (3, 3))
    stages = zip(TAEHV_WIDTHS, TAEHV_WIDTHS[1:], (1, 2, 2), strict=False)
    for stage, (width, after, stride) in enumerate(stages):
        first = 3 + 6 * stage
        for block in range(first, first + 3):  # each sees its input and the frame before
            shapes |= _conv(f"decoder.{block}.conv.0", 2 * width, width, (3, 3))
            shapes |= _conv(f"decoder.{block}.conv.2", width, width, (3, 3))
            shapes |= _conv(f"decoder.{block}.conv.4", width, width, (3, 3))
        shapes |= {f"decoder.{first + 4}.conv.weight": (width * stride, width, 1, 1)}
        shapes |= {f"decoder.{first + 5}.weight": (after, width, 3, 3)}
    return shapes | _conv("decoder.22", TAEHV_WIDTHS[-1], 3, (3, 3))


def _conv(name: str, before: int, after: int, kernel: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": (after, before, *kernel), f"{name}.bias": (after,)}


SHAPES: dict[str, Callable[[int], Shapes]] = {"wan_vae": wan_vae_shapes, "taehv": taehv_shapes}
"""Decoder to its parameters; called with ``decoder_width`` of a request."""

NARROWEST = {"full": 96, "tiny": 16}
"""Channels of the Wan VAE's narrowest stage by size; TAEHV's are fixed in its code."""

OTHER_ATTENTION_SHARE = {"wan_vae": 0.1}
"""Decoder with attention of its own to the most of all attention time that may be of other kernels.

The Wan VAE has one head, as wide as its channels (384), and cuDNN's kernel takes 256 at most, so on
both sides PyTorch picks another one. It looks at one latent frame at a time and is a small part.
"""
