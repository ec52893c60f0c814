"""What is known of a kind of network; its modules fill one record each."""

from collections.abc import Callable
from dataclasses import dataclass

from runners.protocol.wire import Network

Shapes = dict[str, tuple[int, ...]]
"""Tensor name to its shape."""

WINDOW, PROMPT = "window", "prompt"
"""What an attention's keys are: all tokens in the KV window, or those of the prompt."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """Matrix products of one shape in a layer, over the tokens of a call."""

    name: str
    fan_in: int
    fan_out: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One attention of a layer."""

    name: str
    keys: str
    """:data:`WINDOW` or :data:`PROMPT`."""
    heads: int
    head_dim: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The large kernels of one layer; what runs once a prompt or a step is left out."""

    products: tuple[Product, ...]
    attentions: tuple[Attention, ...]

    @property
    def cached_values(self) -> int:
        """Keys and values that the layer caches of a token."""
        return sum(2 * a.heads * a.head_dim for a in self.attentions if a.keys == WINDOW)


def dit_layer(network: Network) -> Layer:
    """A layer of self-attention, cross-attention and an MLP.

    Its products are query, key, value and output of self-attention, query and output of
    cross-attention, and the two of the MLP. Keys and values of the prompt are made once, and a
    modulation has one row a call.
    """
    dim, ffn, heads = network.dim, network.ffn_dim, network.num_heads
    return Layer(
        products=(
            Product(name="linear_dim_dim", fan_in=dim, fan_out=dim, count=6),
            Product(name="linear_dim_ffn", fan_in=dim, fan_out=ffn, count=1),
            Product(name="linear_ffn_dim", fan_in=ffn, fan_out=dim, count=1),
        ),
        attentions=(
            Attention(name="self_attention", keys=WINDOW, heads=heads, head_dim=dim // heads),
            Attention(name="cross_attention", keys=PROMPT, heads=heads, head_dim=dim // heads),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class NetworkKind:
    """A kind of network: called with a network of it, each part says what such a one has."""

    shapes: Callable[[Network], Shapes]
    """Parameters, named and shaped as in upstream's checkpoint."""
    layer: Callable[[Network], Layer]
    encoded: Callable[[Network, tuple[int, ...]], Shapes]
    """What its encoders give; called with the latents' shape [T, C, H, W] of an AR step too."""
    sharpened: tuple[tuple[str, ...], ...]
    """Ends of the parameter names that each number of the rule ``sharp`` multiplies."""
    patch: int = 4
    """Latent pixels of a token."""

    def tokens(self, height: int, width: int) -> int:
        """Tokens of a latent frame."""
        return height * width // self.patch
