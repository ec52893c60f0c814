"""Cosmos-Predict2.5's diffusion transformer.

Source: nvidia-cosmos/cosmos-predict2.5 50369b8, ``networks/minimal_v4_dit.py`` and
``minimal_v1_lvg_dit.py``; patch (1, 2, 2).
"""

from runners.protocol.kinds.kind import NetworkKind, Shapes, dit_layer
from runners.protocol.wire import Network


def shapes(network: Network) -> Shapes:
    """Its parameters; beside its latents it sees a mask of the given frames and one of padding."""
    dim, rank, cross = network.dim, network.adaln_dim, network.cross_dim
    found: Shapes = {
        "x_embedder.proj.1.weight": (dim, 4 * (network.in_dim + 1)),
        "t_embedder.1.linear_1.weight": (dim, dim),
        "t_embedder.1.linear_2.weight": (3 * dim, dim),
        "t_embedding_norm.weight": (dim,),
        "crossattn_proj.0.weight": (cross, network.text_dim),
        "crossattn_proj.0.bias": (cross,),
        "final_layer.linear.weight": (4 * network.out_dim, dim),
        "final_layer.adaln_modulation.1.weight": (rank, dim),
        "final_layer.adaln_modulation.2.weight": (2 * dim, rank),
    }
    for index in range(network.num_layers):
        found |= _block(f"blocks.{index}", network)
    return found


def _block(block: str, network: Network) -> Shapes:
    dim, rank, head_dim = network.dim, network.adaln_dim, network.dim // network.num_heads
    found: Shapes = {
        f"{block}.mlp.layer1.weight": (network.ffn_dim, dim),
        f"{block}.mlp.layer2.weight": (dim, network.ffn_dim),
    }
    for attention, keys in (("self_attn", dim), ("cross_attn", network.cross_dim)):
        widths = {"q_proj": dim, "k_proj": keys, "v_proj": keys, "output_proj": dim}
        found |= {f"{block}.{attention}.{name}.weight": (dim, w) for name, w in widths.items()}
        found |= {f"{block}.{attention}.{name}_norm.weight": (head_dim,) for name in "qk"}
    for part in ("self_attn", "cross_attn", "mlp"):
        modulation = f"{block}.adaln_modulation_{part}"
        found |= {f"{modulation}.1.weight": (rank, dim), f"{modulation}.2.weight": (3 * dim, rank)}
    return found


def encoded(network: Network, _latent_shape: tuple[int, ...]) -> Shapes:
    """Prompt embeddings ``text`` and ``negative`` [L, D]."""
    return dict.fromkeys(("text", "negative"), (network.text_len, network.text_dim))


COSMOS = NetworkKind(
    shapes=shapes,
    layer=dit_layer,
    encoded=encoded,
    sharpened=(
        ("self_attn.q_norm.weight", "self_attn.k_norm.weight"),
        ("cross_attn.q_norm.weight", "cross_attn.k_norm.weight"),
    ),
)
