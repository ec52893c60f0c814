"""What a trial will need, estimated before it runs: memory and time from its shape; pure.

Estimates help to plan a night; no result ever contains one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from harness.plan.suites import Device
from runners.protocol import solvers
from runners.protocol.kinds import KINDS
from runners.protocol.wire import Job, Network

BYTES_PER_VALUE = 2
"""Weights and KV cache are bfloat16 at full size."""
UTILISATION = 0.45
"""Share of the nominal speed that dense transformers of this size reach; a rule of thumb."""
START_S = 11.0
"""Start of a process without its weights."""
READ_S_PER_GB = 1.8
"""Weights read, hashed and copied to the GPU: with 2.8 GB of them a process took 14 to 17 s."""
COMPILE_S = 180.0
"""What compiling the network adds to a process."""
FRAMES_S_PER_GB = 15.0
"""Frames decoded, saved, hashed and compared: 13 AR steps of 29 MB each took 4 to 7 s a process."""
KERNEL_TIME_S = 12.0
"""What timing a cell's kernels alone takes before its first trial."""
FRAMES_PER_LATENT, PIXELS_PER_LATENT = 4, 64
"""How many video frames, and how many pixels each, a decoder makes of one latent pixel."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Need of one trial, per GPU."""

    memory_gb: float
    """Weights and KV cache, without activations."""
    seconds: float
    """Start to end of the process."""


def memory_gb(job: Job, parameters: int, gpus: int = 1) -> float:
    """Weights and KV cache of one trial per GPU, in GB; see :func:`estimate`."""
    network = job.network
    context = (job.window_t + job.sink_t) * _tokens_per_frame(job)
    cache = context * _cached_values(network) * job.networks * BYTES_PER_VALUE * _branches(job)
    return (parameters * BYTES_PER_VALUE + cache / gpus) / 1e9


def estimate(job: Job, parameters: int, device: Device, gpus: int = 1) -> Estimate:
    """Estimate one trial of a full-size job.

    Args:
        job: The trial's job.
        parameters: Of the network at full size.
        device: Where it runs.
        gpus: Processes that share the tokens of one trial.
    """
    network = job.network
    tokens = job.len_t * _tokens_per_frame(job)
    context = (job.window_t + job.sink_t) * _tokens_per_frame(job)
    # One network of several runs at a time.
    forward = 2 * parameters // job.networks * tokens
    forward += 2 * tokens * context * _cached_values(network)
    forwards = sum(len(solvers.calls(job, ar)) for ar in range(job.ar_steps))
    compute_s = forwards * forward / (device.nominal_tflops * 1e12 * UTILISATION * gpus)
    read_s = READ_S_PER_GB * parameters * BYTES_PER_VALUE / 1e9
    frames_s = 0.0
    if job.decoder != "none":
        frames_s = FRAMES_S_PER_GB * job.ar_steps * _frame_bytes(job) / 1e9
    return Estimate(
        memory_gb=memory_gb(job, parameters, gpus),
        seconds=START_S + read_s + compute_s + frames_s + (COMPILE_S if job.compile else 0.0),
    )


def estimate_cell(jobs: Iterable[Job], parameters: int, device: Device) -> Estimate | None:
    """Estimate a cell from the jobs of its trials.

    Returns:
        The largest trial's memory, and the time of all trials and of what is timed before them;
        None at tiny size, or on a device without a nominal speed.
    """
    full = [job for job in jobs if job.size == "full"]
    if not full or not device.nominal_tflops:
        return None
    needs = [estimate(job, parameters, device, job.gpus) for job in full]
    return Estimate(
        memory_gb=max(need.memory_gb for need in needs),
        seconds=KERNEL_TIME_S + sum(need.seconds for need in needs),
    )


def _frame_bytes(job: Job) -> int:
    """Decoded RGB frames of an AR step, in 16 bit."""
    pixels = job.len_t * job.latent_height * job.latent_width * FRAMES_PER_LATENT
    return 3 * pixels * PIXELS_PER_LATENT * BYTES_PER_VALUE


def _cached_values(network: Network) -> int:
    """Keys and values that a network caches of a token."""
    return KINDS[network.kind].layer(network).cached_values * network.num_layers


def _tokens_per_frame(job: Job) -> int:
    kind = KINDS[job.network.kind]
    return kind.tokens(job.latent_height, job.latent_width)


def _branches(job: Job) -> int:
    """Forward passes of a denoising step: two under classifier-free guidance."""
    return 2 if job.guidance > 1 else 1
