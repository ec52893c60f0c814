"""What takes the place of Transformer Engine, whose extensions need CUDA, in NVIDIA's networks."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from upstream_envs import stand_ins


class RMSNorm(nn.Module):
    """Root-mean-square norm, float32 inside as Transformer Engine's is."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        """A norm over the last ``width`` values."""
        super().__init__()
        self.weight, self._eps = nn.Parameter(torch.ones(width)), eps

    def reset_parameters(self) -> None:
        """Nothing: the job's weights follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised values in the input's dtype."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)
        return (wide * scale * self.weight.float()).to(x.dtype)


def apply_rotary_pos_emb(x_BSHD: Tensor, freqs_S11D: Tensor, **_: object) -> Tensor:
    """Rotate halves by the angles given for each position, float32 inside."""
    angles, wide, half = freqs_S11D.float()[None, :, 0], x_BSHD.float(), x_BSHD.shape[-1] // 2
    turned = torch.cat((-wide[..., half:], wide[..., :half]), -1)
    return (wide * angles.cos() + turned * angles.sin()).to(x_BSHD.dtype)


def attention(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
    """PyTorch's attention with the kernel the job names: [B, S, H, D] in, [B, S, H * D] out.

    Under the float32 strategy query and key come in float32 and the values in 16 bit; upstream's
    own op casts all to 16 bit too.

    Source: nvidia-cosmos/cosmos-predict2.5 50369b8, ``networks/attention.py``, ``attention``.
    """
    heads_first = (
        x.flatten(1, -3).transpose(1, 2).to(v_BSHD.dtype) for x in (q_BSHD, k_BSHD, v_BSHD)
    )
    out = scaled_dot_product_attention(*heads_first).transpose(1, 2).flatten(2)
    return out.unflatten(1, q_BSHD.shape[1:-2])


def install() -> None:
    """Register the part of Transformer Engine that these networks are declared with."""
    modules = {
        "transformer_engine": {},
        "transformer_engine.pytorch": {"RMSNorm": RMSNorm},
        "transformer_engine.pytorch.attention": {"apply_rotary_pos_emb": apply_rotary_pos_emb},
    }
    for name, attributes in modules.items():
        vars(stand_ins.register(name)).update(attributes)
