"""Checks of what the recorder says of an AR step beside its stages; run with ``check_parts``."""

import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch

from runners.protocol import recorder, wire

JOB = SimpleNamespace(
    device="cpu", nonce="n", dtype="float32", profile_steps=(), capture_steps=(0,)
)
PAUSE_S = 0.05


def one_step(made: recorder.Recorder, ar: int) -> None:
    """A step that is prompt, whose library prints for a while, and whose frames take a while."""

    def frames() -> torch.Tensor:
        time.sleep(PAUSE_S)
        return torch.zeros(1, 3, 2, 2)

    made.begin()
    made.denoise()
    time.sleep(PAUSE_S)
    made.mark("diffuse")
    made.finished()
    time.sleep(PAUSE_S)
    made.end(ar, torch.zeros(1, 1, 2, 2), print_line=False, frames=frames)


def steps_of(num_steps: int) -> list[wire.StepEvent]:
    """Events of so many steps; the first is captured."""
    with TemporaryDirectory() as folder:
        made = recorder.Recorder(JOB, Path(folder))
        for ar in range(num_steps):
            one_step(made, ar)
        made.close(0, {})
        *steps, _ = wire.read_events(Path(folder) / wire.EVENTS_FILE, "n")
    return steps


def check_moments_of_a_step_are_on_the_machines_clock() -> None:
    """It ends when the device is done, as on the host's clock, and is told after its captures."""
    before_s = time.monotonic()
    first, second = steps_of(2)
    after_s = time.monotonic()

    assert before_s <= first.began_at_s
    assert abs(1e3 * (first.ended_at_s - first.began_at_s) - first.wall_ms) < 1.0
    assert first.told_at_s >= first.ended_at_s + 2 * PAUSE_S  # printing and capturing
    assert PAUSE_S <= second.told_at_s - second.ended_at_s < 2 * PAUSE_S  # printing alone
    assert first.told_at_s <= second.began_at_s <= second.told_at_s <= after_s


def check_preemptions_are_those_within_a_step() -> None:
    """The count as a step ends less the one as it began; what is printed and captured is none."""
    theirs, counted = recorder._preempted, count(100, 7)
    recorder._preempted = lambda: next(counted)
    try:
        steps = steps_of(2)
    finally:
        recorder._preempted = theirs

    assert [step.preempted for step in steps] == [7, 7]
    assert theirs() >= 0


def check_allocator_is_asked_on_a_gpu_alone() -> None:
    """A CPU has no allocator that keeps a peak."""
    theirs = torch.cuda.max_memory_allocated
    torch.cuda.max_memory_allocated = lambda: 3 << 30
    try:
        on_gpu = recorder.Recorder._memory_peak_gib(
            SimpleNamespace(job=SimpleNamespace(device="cuda"))
        )
        (on_cpu,) = steps_of(1)
    finally:
        torch.cuda.max_memory_allocated = theirs

    assert (on_gpu, on_cpu.memory_peak_gib) == (3.0, None)
