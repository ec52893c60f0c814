"""Kernel time: which kernels count, how often, and at which shapes."""

import json
import sys
from dataclasses import replace

import pytest

from harness.environments.built import BuiltEnvironment
from harness.environments.declared import Environment
from harness.machine import gpus, telemetry
from harness.trials.kernel_time import kernel_time_of, measure, request_for
from runners.protocol.requests import KernelTimeResult
from tests.fakes import samples
from tests.fakes.nvml import Gpu, Nvml

pytestmark = pytest.mark.unit

KERNELS_MS = {
    "self_attention": 1e0,
    "cross_attention": 1e1,
    "linear_dim_dim": 1e2,
    "linear_dim_ffn": 1e4,
    "linear_ffn_dim": 1e5,
}
"""A power of ten each, so that the sum shows how often each was counted."""
LAYER_MS = 110_611.0
"""Both attentions, six square products (four of self-, two of cross-attention), the MLP's two."""


@pytest.mark.parametrize(
    ("changes", "calls"),
    [
        pytest.param({"ar_steps": 7, "denoising_steps": 4, "guidance": 1.0}, 4, id="streaming"),
        pytest.param({"ar_steps": 7, "denoising_steps": 4, "guidance": 3.0}, 8, id="guided"),
        pytest.param({"ar_steps": 1, "denoising_steps": 6, "guidance": 5.0}, 2, id="whole-video"),
    ],
)
def test_kernel_time_is_that_of_every_call(changes, calls):
    """All denoising calls of an AR step; of a whole video those of one denoising step."""
    told = tuple(map(float, range(changes["denoising_steps"])))
    job = samples.job(**changes, timesteps=told)
    alone = kernel_time_of(job, KernelTimeResult(kernels_ms=KERNELS_MS, torch="2.11.0"), "GPU-1")

    assert alone.forward_ms == pytest.approx(job.network.num_layers * LAYER_MS)
    assert alone.diffuse_ms == pytest.approx(calls * alone.forward_ms)
    assert (alone.gpu, alone.torch) == ("GPU-1", "2.11.0")


def test_kernels_are_timed_at_the_full_window():
    """Queries of one block, keys of sink and window; a token is two by two latent pixels."""
    request = request_for(
        samples.job(len_t=3, window_t=18, sink_t=3, latent_height=60, latent_width=104)
    )

    assert (request.tokens, request.context) == (3 * 1560, 21 * 1560)


def cell_on(device):
    """A cell whose candidate runs there."""
    cell = samples.cell()
    trials = tuple(replace(one, job=replace(one.job, device=device)) for one in cell.trials)
    return replace(cell, trials=trials)


def test_kernels_are_timed_for_two_seconds(flashdreams_env):
    """However small they are; on a CPU nobody looks at a GPU meanwhile."""
    cell = cell_on("cpu")
    alone = measure([cell], flashdreams_env, print)[cell.cell_id]

    assert 2.0 <= alone.timed_s < 60.0
    assert all(0 < ms < 1000 for ms in alone.kernels_ms.values())
    assert (alone.sm_mhz, alone.power_w, alone.gpu) == (None, None, "")


@pytest.fixture
def timing(tmp_path, monkeypatch):
    """An environment that times nothing for a moment, beside a GPU that is busy."""
    monkeypatch.setattr(telemetry, "PERIOD_S", 0.02)
    monkeypatch.setattr(gpus, "_LOCKS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = Nvml(Gpu()).install(monkeypatch)
    result = json.dumps({"kernels_ms": KERNELS_MS, "torch": "2.13.0", "timed_s": 2.5})
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f"#!{sys.executable}\nimport os, sys, time\ntime.sleep(0.5)\n"
        "assert not [n for n in os.listdir() if 'telemetry' in n]\n"
        f"open(sys.argv[-1], 'w').write({result!r})\n"
    )
    python.chmod(0o755)
    declared = Environment(description="a fake", packages=[], command=["python"])
    made = {"digest": "d", "code_digest": "c", "code": tmp_path, "declared": declared}
    yield BuiltEnvironment(name="fake", folder=tmp_path, **made)
    assert nvml.open == 0


@pytest.mark.contract
def test_gpu_is_watched_while_its_kernels_are_timed(timing):
    """Clock and power are those under load, for what the time is worth."""
    cell = cell_on("cuda")
    alone = measure([cell], timing, print)[cell.cell_id]

    assert (alone.sm_mhz, alone.power_w, alone.timed_s) == (1980, 600.0, 2.5)
    assert alone.gpu == "GPU-0"
    assert alone.kernels_ms == KERNELS_MS
