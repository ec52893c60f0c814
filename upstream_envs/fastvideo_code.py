"""FastVideo's code, made ready to be driven: imports, networks and parameter names.

The release 0.2.1 and the commit af2ee9c differ in their networks only. Packages whose ``__init__``
imports every model become shells, and modules that a stage never reaches are inert.
"""

import importlib
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from runners.protocol import drive, wire
from upstream_envs import stand_ins, wan_network

SHELLS = (
    *("fastvideo", "fastvideo.configs", "fastvideo.configs.pipelines"),
    *("fastvideo.models", "fastvideo.models.dits", "fastvideo.models.loader"),
    *("fastvideo.models.schedulers", "fastvideo.pipelines", "fastvideo.pipelines.stages"),
)
"""Packages whose ``__init__`` is not run; parents before children."""

INERT = {
    "diffusers.loaders": (),
    "diffusers.loaders.lora_base": ("_best_guess_weight_name",),
    "fastvideo.models.loader.component_loader": ("TransformerLoader",),
    "fastvideo.models.schedulers.scheduling_flow_match_euler_discrete": (
        "FlowMatchEulerDiscreteScheduler",
    ),
    "remote_pdb": ("RemotePdb",),
    "torchvision": (),
    "torchvision.utils": ("make_grid",),
}
"""Empty modules, and the names that FastVideo imports from each and never uses here."""

UPSTREAM = {
    "args": "fastvideo.fastvideo_args",
    "arch": "fastvideo.configs.models.dits.wanvideo",
    "batches": "fastvideo.pipelines.pipeline_batch_info",
    "configs": "fastvideo.configs.pipelines.wan",
    "groups": "fastvideo.distributed.parallel_state",
    "platforms": "fastvideo.platforms",
}
"""The modules that every stage is driven with, by the name they go by here."""

MODULE_NAMES = {
    "text_embedding.0": "condition_embedder.text_embedder.fc_in",
    "text_embedding.2": "condition_embedder.text_embedder.fc_out",
    "time_embedding.0": "condition_embedder.time_embedder.mlp.fc_in",
    "time_embedding.2": "condition_embedder.time_embedder.mlp.fc_out",
    "time_projection.1": "condition_embedder.time_modulation.linear",
    "patch_embedding": "patch_embedding.proj",
    "head.head": "proj_out",
}
"""Wan 2.1's module to FastVideo's, outside the blocks."""

BLOCK_NAMES = {
    "norm3": "self_attn_residual_norm.norm",
    "ffn.0": "ffn.fc_in",
    "ffn.2": "ffn.fc_out",
    "self_attn.o": "to_out",
    "cross_attn.o": "attn2.to_out",
    **{f"self_attn.{name}": f"to_{name}" for name in "qkv"},
    **{f"cross_attn.{name}": f"attn2.to_{name}" for name in "qkv"},
    **{f"self_attn.norm_{name}": f"norm_{name}" for name in "qk"},
    **{f"cross_attn.norm_{name}": f"attn2.norm_{name}" for name in "qk"},
}
"""Wan 2.1's module to FastVideo's, inside a block."""


def _root() -> Path:
    """The pinned source where the environment has one, else the installed package."""
    if stand_ins.has_source():
        return stand_ins.source_folder()
    return Path(str(importlib.metadata.distribution("fastvideo").locate_file("")))


def import_upstream(job: wire.Job, driven: Mapping[str, str]) -> Any:
    """Import :data:`UPSTREAM` and ``driven``, for one process without ``torch.distributed``.

    Args:
        job: The job.
        driven: ``network``, ``scheduling`` and ``stages`` to their modules.
    """
    os.environ["FASTVIDEO_ATTENTION_BACKEND"] = "TORCH_SDPA"
    stand_ins.install_shells(_root(), SHELLS)
    stand_ins.install_inert(INERT)
    modules = {**UPSTREAM, **driven}
    modules = {name: importlib.import_module(module) for name, module in modules.items()}
    upstream = SimpleNamespace(**modules)
    # FastVideo's own group, without the process group that its constructor asks for.
    group = upstream.groups.GroupCoordinator.__new__(upstream.groups.GroupCoordinator)
    vars(group).update(rank_in_group=0, local_rank=0, world_size=1)
    upstream.groups._SP = upstream.groups._WORLD = group
    if job.device == "cpu":
        # FastVideo's CPU platform names neither a device nor an attention backend.
        platform = upstream.platforms.current_platform
        platform.get_attn_backend_cls = lambda *_: "fastvideo.attention.backends.sdpa.SDPABackend"
        upstream.stages.get_local_torch_device = lambda: torch.device("cpu")
    drive.choose_kernels(job.attention)
    return upstream


def fastvideo_name(name: str) -> str:
    """Wan 2.1's parameter name in FastVideo's spelling; an unknown one stays, for strict loading.

    Source: fastvideo 0.2.1, ``models/dits/causal_wanvideo.py``, ``CausalWanTransformer3DModel``.
    """
    path, _, leaf = name.rpartition(".")
    if leaf == "modulation":
        return f"{path}.scale_shift_table".removeprefix("head.")
    if path.startswith("blocks."):
        _, layer, part = path.split(".", 2)
        return f"blocks.{layer}.{BLOCK_NAMES.get(part, part)}.{leaf}"
    return f"{MODULE_NAMES.get(path, path)}.{leaf}"


def build_arch(upstream: Any, network: wire.Network, **options: Any) -> Any:
    """FastVideo's description of a Wan network in a job's shape."""
    arch = upstream.arch.WanVideoArchConfig(
        num_attention_heads=network.num_heads,
        attention_head_dim=network.dim // network.num_heads,
        in_channels=network.in_dim,
        out_channels=network.out_dim,
        text_dim=network.text_dim,
        freq_dim=network.freq_dim,
        ffn_dim=network.ffn_dim,
        num_layers=network.num_layers,
        **options,
    )
    arch.text_len = network.text_len  # not a field of the dataclass
    return upstream.configs.WanVideoConfig(arch_config=arch)


def load_transformer(transformer_class: Any, dit_config: Any, job: wire.Job) -> Any:
    """A transformer with the job's weights, strictly loaded."""
    with torch.device("meta"):
        transformer = transformer_class(dit_config, {})
    return wan_network.load(transformer, job, drive.torch_dtype(job.dtype), fastvideo_name)


def attention_in_force(transformer: Any) -> str:
    """Attention of every layer: PyTorch's with the kernels it may pick, or else its class."""
    layers = [m for b in transformer.blocks for m in (b.attn1, b.attn2.attn)]
    kinds = {type(getattr(layer, "attn", layer).attn_impl).__name__ for layer in layers}
    return drive.attention_in_force() if kinds == {"SDPAImpl"} else ", ".join(sorted(kinds))


def facts() -> dict[str, str]:
    """Identity of the code, and what stood in for the rest of it."""
    identity = {"fastvideo": "at its pinned commit", **stand_ins.source_facts()}
    if not stand_ins.has_source():
        identity = {"fastvideo": importlib.metadata.version("fastvideo")}
    return identity | {
        "diffusers": importlib.metadata.version("diffusers"),
        "shells": ", ".join(SHELLS),
        "inert": ", ".join(INERT),
        "attention": f"TORCH_SDPA, {drive.attention_in_force()}",
    }
