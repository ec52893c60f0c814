"""What is read of a loaded network, run in an environment with torch and safetensors."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn

from runners.protocol import wire
from upstream_envs import wan_network

WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


def load(weights: dict[str, torch.Tensor]) -> nn.Module:
    """Load weights into a linear layer on the meta device."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(weights, path)
        artifact = wire.Artifact(path=str(path), sha256=wire.sha256_file(path))
        job = SimpleNamespace(weights=artifact, device="cpu", weights_from="file")
        return wan_network.load(nn.Linear(3, 2, device="meta"), job, torch.float32)


def refusal(weights: dict[str, torch.Tensor]) -> str:
    """What loading says; fails if it says nothing."""
    try:
        load(weights)
    except wan_network.CheckpointMismatchError as error:
        return str(error)
    raise AssertionError("a damaged checkpoint was loaded")


class Plain(nn.Module):
    """A module whose forward is as written."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Its input."""
        return x


class KeptOut(Plain):
    """A module that its maker keeps out of compilation."""

    forward = torch.compiler.disable(Plain.forward)


class Decorated(Plain):
    """A module whose maker compiles its forward."""

    forward = torch.compile(Plain.forward)


def check_compilation_is_seen_in_all_its_ways() -> None:
    """By method, by wrapper, by forward, by decorator; what is kept out is not compiled."""
    by_method, by_forward = Plain(), Plain()
    by_method.compile()
    by_forward.forward = torch.compile(by_forward.forward)
    compiled = [by_method, by_forward, torch.compile(Plain()), Decorated()]
    assert all(map(wan_network._is_compiled, compiled))
    assert not any(map(wan_network._is_compiled, [Plain(), KeptOut()]))


def check_whole_checkpoint_is_loaded() -> None:
    """Values arrive, in the dtype asked for."""
    layer = load(WEIGHTS)
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, WEIGHTS["weight"])


def check_missing_parameter_is_named() -> None:
    """By its name, with the file."""
    told = refusal({"weight": WEIGHTS["weight"]})
    assert told.endswith("weights.safetensors: bias is missing")


def check_surplus_parameter_is_named() -> None:
    """Weights of a larger network are not cut down."""
    told = refusal({**WEIGHTS, "gate": torch.ones(2)})
    assert "gate is no parameter of the network" in told


def check_shape_is_named() -> None:
    """With both shapes."""
    told = refusal({**WEIGHTS, "bias": torch.ones(3)})
    assert "bias has shape (3,), the network's has (2,)" in told


def check_altered_file_is_refused() -> None:
    """A file that is not the job's is not even read."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(WEIGHTS, path)
        artifact = wire.Artifact(path=str(path), sha256=wire.sha256_file(path))
        job = SimpleNamespace(
            weights=replace(artifact, sha256="0" * 64), device="cpu", weights_from="file"
        )
        try:
            wan_network.load(nn.Linear(3, 2, device="meta"), job, torch.float32)
        except RuntimeError as error:
            assert "the job says 000" in str(error)  # noqa: PT017
        else:
            raise AssertionError("an altered file was loaded")


if __name__ == "__main__":
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(name)
