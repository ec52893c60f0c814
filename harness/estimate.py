"""What a trial will need, estimated before it runs: memory and time from its shape; pure.

Estimates help to plan a night; no result ever contains one.
"""

from dataclasses import dataclass

from harness.suites import Device
from runners.protocol.wire import Job

BYTES_PER_VALUE = 2
"""Weights and KV cache are bfloat16 at full size."""
UTILISATION = 0.45
"""Share of the nominal speed that dense transformers of this size reach; a rule of thumb."""
START_S = 17.0
"""Start of a process, weights read and hashed: about what 1.4 billion parameters take."""
COMPILE_S = 180.0
"""What compiling the network adds to a process."""
PATCH = 4
"""Latent pixels per token, 2 x 2."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Need of one trial, per GPU."""

    memory_gb: float
    """Weights and KV cache, without activations."""
    seconds: float
    """Start to end of the process."""


def estimate(job: Job, parameters: int, device: Device, gpus: int = 1) -> Estimate:
    """Estimate one trial of a full-size job.

    Args:
        job: The trial's job.
        parameters: Of the network at full size.
        device: Where it runs.
        gpus: Processes that share the tokens of one trial.
    """
    network = job.network
    tokens_per_frame = job.latent_height * job.latent_width // PATCH
    tokens = job.len_t * tokens_per_frame
    context = (job.window_t + job.sink_t) * tokens_per_frame
    branches = 2 if job.guidance > 1 else 1
    cache = 2 * context * network.dim * network.num_layers * BYTES_PER_VALUE * branches
    attention = 4 * tokens * context * network.dim * network.num_layers
    forward = 2 * parameters * tokens + attention
    forwards = job.ar_steps * (job.denoising_steps * branches + 1)
    compute_s = forwards * forward / (device.nominal_tflops * 1e12 * UTILISATION * gpus)
    return Estimate(
        memory_gb=(parameters * BYTES_PER_VALUE + cache / gpus) / 1e9,
        seconds=START_S + compute_s + (COMPILE_S if job.compile else 0.0),
    )
