"""Drives an adapter: job in, settings, AR steps and captures out."""

import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from runners.protocol import seeded_weights, wire
from runners.protocol.recorder import Recorder
from runners.protocol.seeded_inputs import NoiseBank, inputs_in_force

KERNELS = ("cudnn", "flash", "mem_efficient", "math")
"""PyTorch's attention kernels, as its flags spell them."""


class UnsupportedJobError(ValueError):
    """The job asks for something that this side does not do."""


class DrivenSide(Protocol):
    """What an adapter's ``build`` returns."""

    bank: NoiseBank
    facts: dict[str, str]
    """Versions, identities and stand-ins to keep with the trial; not compared."""

    def settings(self) -> wire.Settings:
        """Read what is in force from the live objects."""

    def run(self, recorder: Recorder) -> None:
        """Run every AR step of the job."""


def drive(build: Callable[[wire.Job], DrivenSide]) -> None:
    """Run the adapter of ``python adapter.py job.json`` from job to last event."""
    job_path = Path(sys.argv[1])
    job = read_job(job_path)
    apply_threads(job)
    recorder = Recorder(job, job_path.parent)
    side = build(job)
    settings = side.settings()
    recorder.settings(settings)
    with torch.no_grad():
        side.run(recorder)
    _require_no_graph(settings)
    recorder.close(side.bank.draws, side.facts)


def read_job(path: Path) -> wire.Job:
    """The job of a trial, of this protocol and for one process.

    Raises:
        UnsupportedJobError: Another protocol, or several ranks, which no side writes events of yet.
    """
    job = wire.read_json(wire.Job, path)
    require(job, {"protocol": (wire.PROTOCOL_VERSION,), "ranks": (1,)})
    return job


def _require_no_graph(settings: wire.Settings) -> None:
    """Refuse a finished side that captured a CUDA graph and said before that it would not.

    Raises:
        UnsupportedJobError: It did.
    """
    if settings.cuda_graph:
        return
    if any(isinstance(found, torch.cuda.CUDAGraph) for found in gc.get_objects()):
        raise UnsupportedJobError("settings.cuda_graph is False and a CUDA graph was captured")


def require(job: wire.Job, driven: Mapping[str, tuple[object, ...]]) -> None:
    """Refuse a job with a value that a side does not drive.

    Args:
        job: The job.
        driven: Job field to the values that are driven.

    Raises:
        UnsupportedJobError: A field has another value.
    """
    for name, values in driven.items():
        if getattr(job, name) not in values:
            listed = " or ".join(map(repr, values))
            raise UnsupportedJobError(f"job.{name} is {getattr(job, name)!r}: driven is {listed}")


def choose_kernels(attention: str) -> None:
    """Allow PyTorch only cuDNN's attention kernel, or with ``sdpa`` all that it picks from.

    Process-wide flags, because ``sdpa_kernel`` around each call would cost time in each call. Some
    upstream code sets these flags on import, so this comes after.
    """
    for kernel in KERNELS:
        allow = getattr(torch.backends.cuda, f"enable_{kernel}_sdp")
        allow(attention in ("sdpa", kernel))


def attention_in_force() -> str:
    """``sdpa`` where PyTorch may pick any attention kernel, else the allowed ones."""
    cuda = torch.backends.cuda
    allowed = [kernel for kernel in KERNELS if getattr(cuda, f"{kernel}_sdp_enabled")()]
    return "sdpa" if len(allowed) == len(KERNELS) else "+".join(allowed)


def apply_threads(job: wire.Job) -> None:
    """Set the number of CPU threads the job asks for; 0 leaves PyTorch's default."""
    if job.threads:
        torch.set_num_threads(job.threads)


def torch_dtype(name: str) -> torch.dtype:
    """The dtype a job names, such as ``bfloat16``."""
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise wire.WireError(f"job.dtype: {name!r} is not a dtype")
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.bfloat16`` as the job spells it."""
    return str(dtype).removeprefix("torch.")


def common_settings(job: wire.Job) -> dict[str, Any]:
    """Settings that every side reads alike: the files it was given, and the PyTorch it runs on."""
    return {
        "slug": job.slug,
        "size": job.size,
        "weights_sha256": seeded_weights.sha256_in_force(job),
        "noise_sha256": wire.sha256_once(job.noise.path),
        "text_sha256": wire.sha256_once(job.text.path),
        "inputs_sha256": inputs_in_force(job),
        "ranks": ranks(),
        "seed": job.seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cudnn": cudnn_version(),
    }


def ranks() -> int:
    """Processes that share this trial."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def cudnn_version() -> str:
    """Version of the cuDNN that PyTorch loads, or ``none``."""
    version = torch.backends.cudnn.version()
    return "none" if version is None else str(version)
