"""Upstream's decoders at full size against the synthetic weights, run in its environment.

Prints what differs as JSON, and how far TAEHV's frames of a block are from those of the whole clip.
"""

import importlib
import json

import torch
from torch import nn

from runners.protocol import decoder_shapes, synthetic
from upstream_envs import causal_decoders, causal_wan, wan_network

ENCODING = ("encoder.", "conv1.")
"""Parameters that no decoder has."""


def build() -> dict[str, nn.Module]:
    """Upstream's own modules on the meta device, as published."""
    causal_wan.import_upstream()
    vae = importlib.import_module("wan.modules.vae")
    taehv = importlib.import_module("demo_utils.taehv")
    with torch.device("meta"):
        return {
            "wan_vae": vae.WanVAE_(
                dim=decoder_shapes.NARROWEST["full"],
                z_dim=16,
                temperal_downsample=[False, True, True],
            ),
            "taehv": taehv.TAEHV(checkpoint_path=None),
        }


def differing(name: str, model: nn.Module) -> dict[str, object]:
    """Keys, and where names or shapes are not the same."""
    theirs = {
        key: tuple(value.shape)
        for key, value in model.state_dict().items()
        if not key.startswith(ENCODING)
    }
    ours = decoder_shapes.SHAPES[name](decoder_shapes.NARROWEST["full"])
    return {"keys": len(theirs), "differ": sorted(dict(theirs.items() ^ ours.items()))}


def distances(model: nn.Module) -> dict[int, float]:
    """Relative L2 of a block's frames from the clip's, by latent frames decoded before it."""
    model.encoder = nn.Identity()
    wan_network.fill(model, synthetic.make_decoder("taehv", 0, 0), torch.float32, "synthetic")
    latents = torch.randn(1, 18, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.decode_video(latents)[:, 60:]
        found = {}
        for context in (causal_decoders.DEMO_CONTEXT, causal_decoders.WHOLE_CONTEXT):
            block = model.decode_video(latents[:, 15 - context :], parallel=False)
            found[context] = float((block[:, 4 * context :] - whole).norm() / whole.norm())
    return found


if __name__ == "__main__":
    built = build()
    answer: dict[str, object] = {name: differing(name, model) for name, model in built.items()}
    print(json.dumps(answer | {"taehv_context": distances(built["taehv"])}))
