"""An engine that goes away, or refuses: infrastructure, never a slow or a wrong side."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from harness.environments import images
from harness.errors import EnvironmentFault
from harness.records import TrialRow
from harness.sandboxes import engine
from harness.store.run import open_run
from harness.trials.launch import Grant
from tests.fakes import workplace
from tests.fakes.listener import Listener

pytestmark = pytest.mark.contract

STARTS_S = 60


class OwnEngine:
    """An engine of this module's own, which may be killed."""

    def __init__(self, folder):
        self._folder, self.host = folder, f"unix://{folder}/engine.sock"
        self._command = [
            # In a network of its own: an engine without a bridge removes that of another.
            *("unshare", "--net", "dockerd", "--host", self.host, "--data-root", folder / "data"),
            *("--exec-root", folder / "run", "--pidfile", folder / "pid"),
            *("--bridge", "none", "--iptables=false"),
        ]
        self._process = None

    def start(self):
        """Start it and wait until it answers."""
        # A process id that nobody has collected yet would pass for a running one.
        for left in self._folder.rglob("containerd.pid"):
            left.unlink()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + STARTS_S
        while not self._answers():
            assert time.monotonic() < until, (self._folder / "log").read_text()[-1000:]
            time.sleep(0.1)

    def _answers(self):
        words = ["docker", "-H", self.host, "info"]
        return not subprocess.run(words, capture_output=True, check=False).returncode

    def end(self, number):
        """End it by a signal."""
        self._process.send_signal(number)
        self._process.wait()

    def unmount(self):
        """Let go of its data: a killed engine leaves them mounted on themselves, once a start."""
        words = ["umount", self._folder / "data"]
        while not subprocess.run(words, capture_output=True, check=False).returncode:
            pass

    def containers(self):
        """Every container it has."""
        words = ["docker", "-H", self.host, "ps", "--all", "--quiet"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def own_engine(base_image, tmp_path_factory):
    """It, with the base image in it."""
    if os.geteuid() or not shutil.which("dockerd"):
        pytest.skip("no container engine of its own: run as root, where dockerd is installed")
    made = OwnEngine(tmp_path_factory.mktemp("engine"))
    made.start()
    name = os.environ["FDBENCH_BASE"]
    with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as saved:
        words = ["docker", "-H", made.host, "load", "--quiet"]
        subprocess.run(words, stdin=saved.stdout, check=True, stdout=subprocess.DEVNULL)
    yield made
    made.end(signal.SIGTERM)
    made.unmount()


@pytest.fixture
def in_own_engine(own_engine, monkeypatch):
    """This process talks to it."""
    monkeypatch.setenv("DOCKER_HOST", own_engine.host)
    engine.forget()
    yield own_engine
    engine.forget()


class Restarter(Listener):
    """Restarts the engine at a trial's first step."""

    def __init__(self, own, number):
        super().__init__()
        self._own, self._number = own, number

    def step_done(self, trial, ar, total_ms):
        """Restart it."""
        super().step_done(trial, ar, total_ms)
        self._own.end(self._number)
        self._own.start()


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_engine_restarted_mid_step(in_own_engine, run, number):
    """The trial has no outcome, the fault says why, and no container is left."""
    watcher = Restarter(in_own_engine, number)
    with pytest.raises(engine.LostEngineFault, match="engine was lost during a trial"):
        run("waits", watcher=watcher)

    assert watcher.told == ["started", 0]
    assert in_own_engine.containers() == []


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
def test_engine_gone_for_good(in_own_engine, run, monkeypatch):
    """Without an engine to ask, the message names the container and what removes it later."""
    monkeypatch.setattr("harness.sandboxes.docker._REMOVE_S", 1.0)

    class Ender(Listener):
        def step_done(self, trial, ar, total_ms):
            in_own_engine.end(signal.SIGTERM)

    try:
        with pytest.raises(engine.LostEngineFault, match=r"may still be running.*\n.*fdbench gc"):
            run("waits", watcher=Ender())
    finally:
        in_own_engine.start()
        for container in in_own_engine.containers():
            words = ["docker", "-H", in_own_engine.host, "rm", "--force", container]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class AtThird(workplace.Silent):
    """Ends the engine as the third trial starts."""

    def __init__(self, own):
        self._own, self._trials = own, 0

    def trial_started(self, trial):
        """End it at the third."""
        self._trials += 1
        if self._trials == 3:
            self._own.end(signal.SIGKILL)


def test_run_goes_on_after_its_engine_was_lost(in_own_engine, base_image, tmp_path, monkeypatch):
    """Exit code 5, finished trials kept, and the rest makes the tables of an undisturbed run."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    place = workplace.contain(workplace.make(tmp_path), base_image)
    assert place.run(tmp_path / "undisturbed", only="left") == 0
    with pytest.raises(EnvironmentFault) as fault:
        place.run(tmp_path / "run", only="left", watcher=AtThird(in_own_engine))
    in_own_engine.start()
    kept = {row.trial_id for row in open_run(tmp_path / "run").read_rows(TrialRow)}

    assert fault.value.exit_code == 5
    assert len(kept) == 2
    assert place.resume(tmp_path / "run") == 0
    assert workplace.tables(tmp_path / "run") == workplace.tables(tmp_path / "undisturbed")
    assert in_own_engine.containers() == []


class Between(workplace.Silent):
    """Restarts the engine as the third trial starts."""

    def __init__(self, own):
        self._own, self._trials = own, 0

    def trial_started(self, trial):
        """Restart it at the third."""
        self._trials += 1
        if self._trials == 3:
            self._own.end(signal.SIGTERM)
            self._own.start()


def test_engine_restarted_between_trials_disturbs_nothing(
    in_own_engine, base_image, tmp_path, monkeypatch
):
    """Nothing ran, so nothing is lost, and a later failure is still the side's own."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    place = workplace.contain(workplace.make(tmp_path), base_image)

    assert place.run(tmp_path / "run", only="left", watcher=Between(in_own_engine)) == 0


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
def test_gpu_that_the_engine_cannot_give(run):
    """An engine without NVIDIA's runtime refuses; the trial is no failure of a side."""
    uuid = "GPU-00000000-0000-0000-0000-000000000000"
    with pytest.raises(EnvironmentFault, match=r"container cannot be started: .*nvidia"):
        run("completes", grant=Grant(gpus=(uuid,)))


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
@pytest.mark.parametrize("seen", ["GPU-a", "GPU-a\nGPU-b\nGPU-c", ""], ids=["less", "more", "none"])
def test_container_that_sees_other_gpus_runs_nothing(run, base_image, tmp_path, monkeypatch, seen):
    """Exactly the GPUs of the trial are visible inside, or the side is not started."""
    monkeypatch.setattr("harness.sandboxes.docker._device_requests", lambda gpus: [])
    image = with_nvidia_smi(base_image, seen)
    with pytest.raises(
        EnvironmentFault, match=r"this container sees GPUs .*was given GPU-a,GPU-b,"
    ):
        run("completes", grant=Grant(gpus=("GPU-b", "GPU-a")), image=image)

    assert not (tmp_path / "work" / "settings.json").exists()


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
def test_container_that_sees_its_gpus_runs(run, base_image, monkeypatch):
    """In whatever order they are listed."""
    monkeypatch.setattr("harness.sandboxes.docker._device_requests", lambda gpus: [])
    image = with_nvidia_smi(base_image, "GPU-b\nGPU-a")

    assert run("completes", grant=Grant(gpus=("GPU-a", "GPU-b")), image=image).row.ar_steps == 3


def with_nvidia_smi(base_image, lines):
    """An image with a program that lists GPUs as NVIDIA's does."""
    script = f"#!/bin/sh\nprintf '%s\\n' '{lines}'\n"
    text = f"FROM {base_image}\nCOPY smi /usr/bin/nvidia-smi\nRUN chmod 755 /usr/bin/nvidia-smi\n"
    packed = images._pack({"Dockerfile": text, "smi": script})
    image, _ = engine.connect().images.build(fileobj=packed, custom_context=True, rm=True)
    return image.id
