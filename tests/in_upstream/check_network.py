"""Upstream's network at full size against the synthetic weights, run in its environment.

Both on the meta device, which holds shapes and no numbers. Prints what differs as JSON.

    python check_network.py ENVIRONMENT NETWORK_JSON
"""

import importlib
import json
import sys
from types import SimpleNamespace

import torch
from torch import nn

from runners.protocol import wire
from runners.protocol.kinds import KINDS

QUIET = SimpleNamespace(device="cpu", attention="sdpa")
"""What importing FastVideo's code needs of a job."""


def build_causal(network: wire.Network) -> nn.Module:
    """The network of Self-Forcing and Causal-Forcing."""
    causal_wan = importlib.import_module("upstream_envs.causal_wan")
    wan_network = importlib.import_module("upstream_envs.wan_network")
    upstream = causal_wan.import_upstream()
    return wan_network.empty(upstream.causal_model, "CausalWanModel", network, local_attn_size=-1)


def build_wan(network: wire.Network) -> nn.Module:
    """The network of Wan2.1."""
    adapter = importlib.import_module("adapter")
    return adapter.build_model(adapter.import_upstream(network), network)


def build_cosmos(network: wire.Network) -> nn.Module:
    """The network of Cosmos-Predict2.5."""
    adapter = importlib.import_module("adapter")
    with torch.device("meta"):
        return adapter.build_network(adapter.import_upstream(), network)


def build_fastvideo(stage: str, name: str, network: wire.Network) -> nn.Module:
    """One of FastVideo's two networks."""
    code = importlib.import_module("upstream_envs.fastvideo_code")
    driven = importlib.import_module(f"upstream_envs.{stage}").UPSTREAM
    upstream = code.import_upstream(QUIET, driven)
    with torch.device("meta"):
        return getattr(upstream.network, name)(code.build_arch(upstream, network), {})


def main(environment: str, network_json: str) -> None:
    """Compare names and shapes."""
    network = wire.from_json(wire.Network, network_json, "the command line")
    kind, _, stage = environment.partition(":")
    if kind.startswith("fastvideo"):
        name = {"fastvideo_causal": "Causal"}.get(stage, "") + "WanTransformer3DModel"
        model = build_fastvideo(stage, name, network)
        rename = importlib.import_module("upstream_envs.fastvideo_code").fastvideo_name
    else:
        build = {"wan21": build_wan, "cosmos_predict2": build_cosmos}.get(kind, build_causal)
        model, rename = build(network), str
    own = getattr(sys.modules.get("adapter"), "MADE_BY_UPSTREAM", ())
    theirs = {
        name: list(parameter.shape)
        for name, parameter in model.state_dict().items()
        if not name.startswith(own)
    }
    shapes = KINDS[network.kind].shapes(network)
    ours = {rename(name): list(shape) for name, shape in shapes.items()}
    answer = {
        "keys": len(theirs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "missing": sorted(theirs.keys() - ours.keys()),
        "surplus": sorted(ours.keys() - theirs.keys()),
        "shapes": sorted(k for k in theirs.keys() & ours.keys() if theirs[k] != ours[k]),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
