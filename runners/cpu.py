"""Closes flashdreams 0.1.0's gaps on a machine without CUDA; import it before any recipe.

Three parts of the library exist for CUDA only: the Triton RoPE kernel, cuDNN attention and the
event profiler. On a machine with CUDA this module changes nothing.
"""

import sys
import time
import types

import torch
from torch import Tensor, nn

ROPE_MODULE = "flashdreams.core.attention.rope_kernel"
"""The library's only importer of Triton, replaced before it is imported."""


def apply_rotary_pos_emb(
    x_BSHD: Tensor, freqs: Tensor, interleaved: bool = False, inplace: bool = True
) -> Tensor:
    """Rotate query or key pairs, in place by default.

    Angles are float32 and their cosines are rounded to the input's dtype before the product, as in
    the kernel this takes the place of.

    Source: flashdreams 0.1.0, ``core/attention/rope_kernel.py``, ``apply_rotary_pos_emb``.
    """
    half = x_BSHD.shape[-1] // 2
    pairs = (
        (slice(0, None, 2), slice(1, None, 2)) if interleaved else (slice(half), slice(half, None))
    )
    angles = freqs[..., ::2] if interleaved else freqs[..., :half]
    angles_SHD = angles.float().reshape(freqs.shape[0], 1, half)
    cos, sin = angles_SHD.cos().to(x_BSHD.dtype), angles_SHD.sin().to(x_BSHD.dtype)
    first, second = (x_BSHD[..., pair].clone() for pair in pairs)
    out = x_BSHD if inplace else x_BSHD.clone()
    out[..., pairs[0]] = first * cos - second * sin
    out[..., pairs[1]] = second * cos + first * sin
    return out


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, return_lse: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Attention with cuDNN's contract: [B, H, S, D] in and out, log-sum-exp as [B, H, S, 1]."""
    if not return_lse:
        return nn.functional.scaled_dot_product_attention(query, key, value), None
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
    out, lse = attend(query, key, value)
    return out, lse.unsqueeze(-1)


def attention_in_force(backend: str) -> str:
    """Kernel behind a backend of the library: the backend, or on a CPU what PyTorch picks."""
    import flashdreams.core.attention.cp as attention  # noqa: PLC0415  after the RoPE module

    is_ours = attention.torch_sdpa_cudnn is scaled_dot_product_attention
    return "sdpa" if is_ours else backend


class CpuProfiler:
    """The library's event profiler on the monotonic clock."""

    def __init__(self) -> None:
        """Start timing."""
        self.start = time.perf_counter()
        self.ends: dict[str, float] = {}

    def record(self, stage: str) -> None:
        """Mark the end of a stage."""
        self.ends[stage] = time.perf_counter()

    def sync_and_summarize(self) -> dict[str, float]:
        """Milliseconds per stage, in the order they ended."""
        starts = [self.start, *self.ends.values()]
        return {
            stage: (end - start) * 1e3
            for (stage, end), start in zip(self.ends.items(), starts, strict=False)
        }


def install() -> None:
    """Put the CPU versions in place; does nothing where CUDA is available."""
    if torch.cuda.is_available() or ROPE_MODULE in sys.modules:
        return
    rope = types.ModuleType(ROPE_MODULE)
    vars(rope)["apply_rotary_pos_emb"] = apply_rotary_pos_emb
    sys.modules[ROPE_MODULE] = rope

    # These imports need the RoPE module above to be in place.
    import flashdreams.core.attention.cp as attention  # noqa: PLC0415
    import flashdreams.infra.pipeline.base as pipeline  # noqa: PLC0415

    attention.torch_sdpa_cudnn = scaled_dot_product_attention
    attention.torch_sdpa_flash = scaled_dot_product_attention
    pipeline.EventProfiler = CpuProfiler


install()
