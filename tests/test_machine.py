"""A run is refused where its device is not, with what to do instead."""

import pytest

from harness.errors import EnvironmentFault
from harness.machine.fingerprint import Machine, read_machine, require_device
from harness.plan.suites import load_devices

pytestmark = pytest.mark.unit

DEVICES = load_devices()
H200 = DEVICES["h200"].nvml[0]


def machine(*gpus):
    """A machine with these GPUs."""
    return Machine(
        cpu="a CPU",
        cores=2,
        memory_gib=16.0,
        system="Linux 6",
        python="3.11",
        fdbench="0.1.0",
        gpus=gpus,
        driver="580",
    )


def refusal(here, key, gpus):
    """Why a device is refused; empty if it is not."""
    try:
        require_device(here, key, DEVICES[key], gpus)
    except EnvironmentFault as fault:
        return str(fault)
    return ""


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_enough_gpus_are_accepted(gpus):
    """As many as the plan needs, or more; other models beside them do not count."""
    assert refusal(machine("Another GPU", *[H200] * 8), "h200", gpus) == ""


@pytest.mark.parametrize("here", [1, 2, 3])
def test_more_gpus_than_there_are_is_refused(here):
    """The message has both numbers and how to find cells that fit."""
    said = refusal(machine(*[H200] * here, "Another GPU"), "h200", 4)

    assert f"needs 4 GPUs of --gpu h200; this machine has {here}" in said
    assert "fdbench run --only" in said


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        pytest.param((), "no NVIDIA GPU", id="none"),
        pytest.param(("NVIDIA T4",), "NVIDIA T4", id="another"),
    ],
)
def test_another_device_is_refused(gpus, said):
    """What is here and what runs without a GPU are both named."""
    refused = refusal(machine(*gpus), "h200", 1)

    assert f"this machine has {said}" in refused
    assert "fdbench run --suite smoke --gpu cpu" in refused


def test_cpu_is_everywhere():
    """A CPU run asks for no GPU, however many a recipe would use."""
    assert refusal(read_machine(), "cpu", 8) == ""
