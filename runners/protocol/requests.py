"""What the harness asks of a candidate's environment before trials: shared inputs, kernel times.

Standard library only and Python 3.10, as ``wire``.
"""

from dataclasses import dataclass

from runners.protocol.wire import Network


@dataclass(frozen=True, kw_only=True)
class PrepareRequest:
    """Synthetic inputs that both sides read, and where each goes; an empty path is not made."""

    network: Network
    weights_seed: int
    noise_seed: int
    prompt: str
    ar_steps: int
    draws_per_step: int
    """Noise tensors per AR step: the initial one and one per renoising."""
    latent_shape: tuple[int, ...]
    """[T, C, H, W] of one AR step."""
    weights_path: str
    noise_path: str
    text_path: str
    decoder: str = "none"
    """Whose weights to make; see ``Job``."""
    decoder_width: int = 0
    """Channels of the Wan VAE's narrowest stage."""
    decoder_path: str = ""
    networks: int = 1
    weights_rule: str = "flat"
    weights_gains: tuple[float, ...] = ()
    input_names: tuple[str, ...] = ()
    inputs_path: str = ""


@dataclass(frozen=True, kw_only=True)
class KernelTimeRequest:
    """Shapes whose large kernels are timed alone."""

    network: Network
    tokens: int
    """Queries of one network call."""
    context: int
    """Keys that self-attention sees once the window is full."""
    dtype: str
    device: str
    attention: str


@dataclass(frozen=True, kw_only=True)
class KernelTimeResult:
    """What the kernels of one layer take alone, in the median of their calls."""

    kernels_ms: dict[str, float]
    torch: str
    timed_s: float = 0.0
    """How long kernels were timed in all; 0 where nobody looked."""
