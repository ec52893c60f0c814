"""What adapters put in the place of modules that upstream imports and a comparison never reaches.

A shell is a package whose ``__init__`` is not run. An inert module has only the names that upstream
imports from it. Neither changes a line of upstream; a trial's facts name them all.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_HALF = (torch.float16, torch.bfloat16)


def has_source() -> bool:
    """Whether this environment has a staged source; else upstream is an installed package."""
    return "FDBENCH_SOURCE" in os.environ


def source_folder() -> Path:
    """The staged upstream source, which also becomes importable.

    Raises:
        RuntimeError: The adapter was not started by the harness.
    """
    folder = os.environ.get("FDBENCH_SOURCE")
    if not folder:
        raise RuntimeError("FDBENCH_SOURCE names no upstream source: start this through fdbench")
    sys.path.insert(0, folder)
    return Path(folder)


def source_facts() -> dict[str, str]:
    """Which source this process drives."""
    return {"commit": os.environ.get("FDBENCH_SOURCE_COMMIT", "not told")}


def register(name: str, path: list[str] | None = None) -> ModuleType:
    """Put an empty package into ``sys.modules``, with the spec that import probes insist on."""
    module, (parent, _, child) = ModuleType(name), name.rpartition(".")
    module.__path__ = path or []
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
    return module


def install_shells(root: Path, names: Iterable[str]) -> None:
    """Register packages under ``root`` without running them; parents before children."""
    for name in names:
        register(name, [str(root.joinpath(*name.split(".")))])


def install_inert(modules: Mapping[str, Iterable[str]]) -> None:
    """Register empty modules with the names, each an empty class, that upstream imports."""
    for name, attributes in modules.items():
        module = register(name)
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (), {}))


class ConfigMixin:
    """Stand-in for diffusers' mixin: keeps the arguments of ``__init__`` as ``config``."""

    def register_to_config(self, **values: Any) -> None:
        """Add to or change what ``config`` holds."""
        kept = vars(getattr(self, "config", SimpleNamespace()))
        self.config = SimpleNamespace(**{**kept, **values})


def register_to_config(init: Callable[..., None]) -> Callable[..., None]:
    """Stand-in for diffusers' decorator of ``__init__``."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def registering(self: ConfigMixin, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        values.pop(next(iter(signature.parameters)))
        self.register_to_config(**values)
        init(self, *args, **kwargs)

    return registering


class ModelMixin(nn.Module):
    """Stand-in for diffusers' mixin: only its base class is used."""


DIFFUSERS: dict[str, dict[str, Any]] = {
    "diffusers": {},
    "diffusers.configuration_utils": {
        "ConfigMixin": ConfigMixin,
        "register_to_config": register_to_config,
    },
    "diffusers.models": {},
    "diffusers.models.modeling_utils": {"ModelMixin": ModelMixin},
    "diffusers.schedulers": {},
    "diffusers.schedulers.scheduling_utils": {
        "KarrasDiffusionSchedulers": (),  # only listed
        "SchedulerMixin": type("SchedulerMixin", (), {}),
        "SchedulerOutput": type("SchedulerOutput", (), {}),
    },
    "diffusers.utils": {"deprecate": None, "is_scipy_available": lambda: False},
    "diffusers.utils.torch_utils": {"randn_tensor": None},
}
"""The part of diffusers that Wan's networks and solvers are declared with."""


def install_diffusers() -> None:
    """Register :data:`DIFFUSERS`, which needs no package."""
    for name, attributes in DIFFUSERS.items():
        vars(register(name)).update(attributes)


PLAIN = {
    "q_lens": None,
    "q_scale": None,
    "dropout_p": 0.0,
    "causal": False,
    "window_size": (-1, -1),
}
"""Arguments of Wan's attention that have one value in every call that is driven."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_lens: Tensor | None = None,
    softmax_scale: float | None = None,
    dtype: torch.dtype = torch.bfloat16,
    **others: Any,
) -> Tensor:
    """Takes the place of Wan's ``flash_attention``: PyTorch's, with the kernel the job names.

    Args:
        q: Queries [1, L, H, D].
        k: Keys [1, L, H, D].
        v: Values [1, L, H, D].
        k_lens: Number of keys that count, on the CPU; None for all.
        softmax_scale: None for 1/sqrt(D).
        dtype: What a GPU computes in where the inputs are float32.
        others: :data:`PLAIN`, and what is of no effect on a forward pass.

    Raises:
        ValueError: Upstream asks for what this does not do.

    Source: Wan-Video/Wan2.1 9737cba, ``wan/modules/attention.py``, ``flash_attention``.
    """
    asked = {name: others[name] for name in PLAIN if others.get(name, PLAIN[name]) != PLAIN[name]}
    if asked or q.shape[0] != 1:
        raise ValueError(f"upstream asks for attention over a batch of {q.shape[0]} with {asked}")
    if k_lens is not None:
        if k_lens.is_cuda:
            raise ValueError("k_lens is on the GPU: reading it would make the host wait")
        k, v = k[:, : int(k_lens[0])], v[:, : int(k_lens[0])]
    out_dtype = q.dtype
    if v.is_cuda and v.dtype not in _HALF:
        v = v.to(dtype)
    q, k = q.to(v.dtype), k.to(v.dtype)
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(*heads_first, scale=softmax_scale)
    return out.transpose(1, 2).to(out_dtype)
