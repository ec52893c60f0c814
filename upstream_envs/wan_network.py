"""Wan's own transformer classes: built without filling memory twice, loaded strictly."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from runners.protocol import drive, wire
from runners.protocol.seeded_weights import load_weights


def empty(module: ModuleType, name: str, network: wire.Network, **options: Any) -> nn.Module:
    """Class ``name`` of upstream's ``module`` in a job's shape, parameters on the meta device."""
    rope_params = module.rope_params

    def on_the_cpu(*args: Any) -> Tensor:
        with torch.device("cpu"):  # a table, no parameter: nothing would fill it later
            return rope_params(*args)

    module.rope_params = on_the_cpu
    try:
        with torch.device("meta"):
            return getattr(module, name)(
                text_len=network.text_len,
                in_dim=network.in_dim,
                dim=network.dim,
                ffn_dim=network.ffn_dim,
                freq_dim=network.freq_dim,
                text_dim=network.text_dim,
                out_dim=network.out_dim,
                num_heads=network.num_heads,
                num_layers=network.num_layers,
                **options,
            )
    finally:
        module.rope_params = rope_params


class CheckpointMismatchError(ValueError):
    """The job's weights are not exactly the parameters of upstream's network."""


def load(
    model: nn.Module,
    job: wire.Job,
    dtype: torch.dtype,
    rename: Callable[[str], str] = lambda name: name,
) -> nn.Module:
    """Fill an empty model with the job's weights, on the job's device.

    Args:
        model: Its parameters may be on the meta device.
        job: The job.
        dtype: Of the filled parameters.
        rename: Wan's parameter name to upstream's.

    Raises:
        CheckpointMismatchError: A parameter is missing, surplus or of another shape.
    """
    where = job.weights.path or "weights made on the device"
    return fill(model, load_weights(job, job.device), dtype, where, rename)


def fill(
    model: nn.Module,
    weights: dict[str, Tensor],
    dtype: torch.dtype,
    where: str,
    rename: Callable[[str], str] = lambda name: name,
) -> nn.Module:
    """Fill an empty model with exactly these weights, emptying the dict; see :func:`load`."""
    require_match(
        {name: tuple(parameter.shape) for name, parameter in model.state_dict().items()},
        {rename(name): tuple(value.shape) for name, value in weights.items()},
        where,
    )
    # One at a time: a second copy of all parameters might not fit beside the first.
    state = {rename(name): weights.pop(name).to(dtype) for name in list(weights)}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def require_match(
    wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Refuse weights that are not exactly what a network has.

    Raises:
        CheckpointMismatchError: Names the first parameter that is wrong.
    """
    wrong = [f"{name} is missing" for name in wanted if name not in given]
    wrong += [f"{name} is no parameter of the network" for name in given if name not in wanted]
    wrong += [
        f"{name} has shape {given[name]}, the network's has {shape}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointMismatchError(f"{where}: {wrong[0]}{more}")


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module, or its ``forward``, was given to ``torch.compile`` in any of its ways."""
    forward = module.forward
    is_wrapped = hasattr(forward, "_torchdynamo_orig_callable")
    # What is kept out of compilation is wrapped as well.
    is_kept_out = getattr(forward, "_torchdynamo_disable", False)
    # By its name: importing the class takes more than a second of every start.
    is_proxy = type(module).__name__ == "OptimizedModule"
    is_one = module._compiled_call_impl is not None or is_proxy
    return is_one or (is_wrapped and not is_kept_out)


def in_force(model: nn.Module) -> dict[str, Any]:
    """Settings that a loaded model itself shows.

    Raises:
        ValueError: Its parameters have several dtypes or devices.
    """
    parameters = list(model.parameters())
    (dtype,) = {parameter.dtype for parameter in parameters}
    (device,) = {parameter.device.type for parameter in parameters}
    return {
        "num_parameters": sum(parameter.numel() for parameter in parameters),
        "dtype": drive.dtype_name(dtype),
        "device": device,
        "compile": any(map(_is_compiled, model.modules())),
    }
