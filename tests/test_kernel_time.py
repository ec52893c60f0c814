"""Kernel time: which kernels count, how often, and at which shapes."""

import pytest

from harness.trials.kernel_time import kernel_time_of, request_for
from runners.protocol.requests import KernelTimeResult
from tests.fakes import samples

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
    job = samples.job(**changes)
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
