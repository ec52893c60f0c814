"""Leases of GPUs, without a GPU: UUIDs and figures are invented."""

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from harness.errors import EnvironmentFault
from harness.machine import gpus

pytestmark = pytest.mark.contract

HOLDER = """
import sys, time
from harness.machine.gpus import leased
with leased((sys.argv[1],), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A UUID that no other test uses, with its locks in a folder of the test's own."""
    monkeypatch.setattr(gpus, "_LOCKS", Path(tmp_path))
    return f"GPU-{uuid.uuid4()}"


def hold(gpu, folder):
    """Another harness that has the GPU until its input ends."""
    code = (
        "from pathlib import Path; from harness.machine import gpus\n"
        f"gpus._LOCKS = Path({str(folder)!r})"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code + HOLDER, gpu],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert other.stdout.readline() == "held\n"
    return other


def test_second_harness_waits_for_the_gpu(gpu, tmp_path):
    """It says so once, and starts when the first is done."""
    other, said = hold(gpu, tmp_path), []

    def note(text):
        """Keep it, and let the other end in a while."""
        said.append((time.monotonic(), text))
        other.stdin.close()

    with gpus.leased((gpu,), note):
        assert other.wait(10) == 0
    other.stdout.close()

    assert [text for _, text in said] == [f"waiting for {gpu}, which another fdbench uses"]


def test_stop_is_heard_while_a_gpu_is_waited_for(gpu, tmp_path):
    """Not only when its holder is done, which may be hours away."""
    other = hold(gpu, tmp_path)

    def ask():
        """A user who presses Ctrl-C."""
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), gpus.leased((gpu,), lambda _: None, ask):
        pytest.fail("the GPU was not free")
    other.communicate()


def test_lease_ends_with_its_holder(gpu, tmp_path):
    """A harness that was killed holds nothing."""
    other = hold(gpu, tmp_path)
    with gpus.leased_now((gpu,)) as ours:
        assert not ours
    other.kill()
    other.communicate()

    with gpus.leased_now((gpu,)) as ours:
        assert ours


def test_leases_of_several_gpus_do_not_cross(gpu, tmp_path):
    """Taken in one order whatever order they are named in, and given back together."""
    with gpus.leased((f"{gpu}-b", f"{gpu}-a"), print):
        assert len(list(tmp_path.glob("*.lock"))) == 2
    with gpus.leased_now((f"{gpu}-a", f"{gpu}-b")) as ours:
        assert ours


def test_memory_that_does_not_come_back_is_a_fault(monkeypatch):
    """The next trial would not have the GPU for itself."""
    monkeypatch.setattr(gpus, "memory_in_use", lambda uuids: dict.fromkeys(uuids, 3 << 30))
    with pytest.raises(EnvironmentFault, match=r"GPU-a has 2\.0 GiB more in use than before"):
        gpus.require_returned({"GPU-a": 1 << 30}, limit_s=0.1)


def test_memory_that_comes_back_late_is_waited_for(monkeypatch):
    """A driver takes a moment to free what a killed process had."""
    figures = iter([5 << 30, 5 << 30, 1 << 30])
    monkeypatch.setattr(gpus, "_ASK_S", 0.01)
    monkeypatch.setattr(gpus, "memory_in_use", lambda uuids: dict.fromkeys(uuids, next(figures)))

    gpus.require_returned({"GPU-a": 1 << 30})

    assert next(figures, None) is None
