"""A checkpoint that is not exactly the network's parameters: both sides refuse it, by name."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from harness.environments.built import build_environment
from harness.environments.declared import driven, load_environments
from harness.plan.cells import make_plan
from harness.records import Outcome
from harness.trials import inputs
from harness.trials.launch import Limits, launch
from runners.protocol.wire import Artifact, sha256_file
from tests.fakes.listener import Listener

pytestmark = pytest.mark.real

KEY = "blocks.0.ffn.0.weight"
OWN_NAMES = {"flashdreams": KEY, "fastvideo": "blocks.0.ffn.fc_in.weight"}
"""What each side's own code calls it."""


def rename(header):
    """One parameter has another name: it is missing, and there is one too many."""
    header[f"other.{KEY}"] = header.pop(KEY)


def turn(header):
    """One parameter has its dimensions swapped: as many values, another shape."""
    header[KEY]["shape"].reverse()


def damage(weights: Path, how, target: Path) -> Artifact:
    """A copy of a safetensors file whose header was changed, under its own digest."""
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    how(header)
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return Artifact(path=str(target), sha256=sha256_file(target))


@pytest.mark.parametrize("how", [rename, turn])
@pytest.mark.parametrize("side", OWN_NAMES)
def test_side_names_the_parameter_that_is_wrong(side, how, flashdreams_env, tmp_path):
    """The trial fails before its first step, and its reason has the parameter."""
    _, plan = make_plan("smoke", "cpu", driven(load_environments()), "fastvideo")
    trial = next(t for t in plan.cells[0].trials if t.side.environment == side)
    ready = inputs.prepare(trial, flashdreams_env)
    weights = damage(Path(ready.job.weights.path), how, tmp_path / "damaged.safetensors")
    spoiled = replace(ready, job=replace(ready.job, weights=weights))
    result = launch(spoiled, build_environment(side, print), tmp_path / "w", Listener(), Limits())

    assert result.row.outcome == Outcome.FAILED
    assert OWN_NAMES[side] in result.row.reason
    assert result.steps == ()
