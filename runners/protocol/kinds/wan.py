"""Wan 2.1's diffusion transformer.

Source: Wan-Video/Wan2.1 9737cba, ``wan/modules/model.py``, ``WanModel``; patch (1, 2, 2).
"""

from runners.protocol.kinds.kind import NetworkKind, Shapes, dit_layer
from runners.protocol.wire import Network

CLIP_DIM = 1280
"""Width of a CLIP token, the same in every Wan network."""


def shapes(network: Network) -> Shapes:
    """Its parameters."""
    dim, ffn, freq, text = network.dim, network.ffn_dim, network.freq_dim, network.text_dim
    linears = {
        "text_embedding.0": (dim, text),
        "text_embedding.2": (dim, dim),
        "time_embedding.0": (dim, freq),
        "time_embedding.2": (dim, dim),
        "time_projection.1": (6 * dim, dim),
        "head.head": (4 * network.out_dim, dim),
    }
    found: Shapes = {
        "patch_embedding.weight": (dim, network.in_dim, 1, 2, 2),
        "patch_embedding.bias": (dim,),
        "head.modulation": (1, 2, dim),
    }
    for index in range(network.num_layers):
        block = f"blocks.{index}"
        found |= {f"{block}.modulation": (1, 6, dim)}
        found |= {f"{block}.norm3.{part}": (dim,) for part in ("weight", "bias")}
        linears |= {f"{block}.ffn.0": (ffn, dim), f"{block}.ffn.2": (dim, ffn)}
        for attention in ("self_attn", "cross_attn"):
            linears |= {f"{block}.{attention}.{name}": (dim, dim) for name in "qkvo"}
            found |= {f"{block}.{attention}.norm_{name}.weight": (dim,) for name in "qk"}
    if network.image_tokens:
        more_linears, more = _image_shapes(network)
        linears, found = linears | more_linears, found | more
    for name, shape in linears.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def _image_shapes(network: Network) -> tuple[dict[str, tuple[int, int]], Shapes]:
    """Linear layers, and other parameters, that only video from an image has."""
    dim = network.dim
    linears = {"img_emb.proj.1": (CLIP_DIM, CLIP_DIM), "img_emb.proj.3": (dim, CLIP_DIM)}
    found: Shapes = {}
    for norm, width in (("img_emb.proj.0", CLIP_DIM), ("img_emb.proj.4", dim)):
        found |= {f"{norm}.{part}": (width,) for part in ("weight", "bias")}
    for index in range(network.num_layers):
        attention = f"blocks.{index}.cross_attn"
        linears |= {f"{attention}.{name}": (dim, dim) for name in ("k_img", "v_img")}
        found |= {f"{attention}.norm_k_img.weight": (dim,)}
    return linears, found


def encoded(network: Network, latent_shape: tuple[int, ...]) -> Shapes:
    """Prompt embeddings ``text`` and ``negative`` [L, D].

    For video from an image beside the latents also its CLIP tokens ``clip`` [L, D] and what the VAE
    makes of the first frame, ``image`` [T, C, H, W].
    """
    found: Shapes = dict.fromkeys(("text", "negative"), (network.text_len, network.text_dim))
    if network.image_tokens:
        found |= {"clip": (network.image_tokens, CLIP_DIM), "image": latent_shape}
    return found


WAN = NetworkKind(
    shapes=shapes,
    layer=dit_layer,
    encoded=encoded,
    sharpened=(
        ("self_attn.norm_q.weight", "self_attn.norm_k.weight"),
        ("cross_attn.norm_q.weight", "cross_attn.norm_k.weight", "cross_attn.norm_k_img.weight"),
    ),
)
