"""A harness that is killed: no process of it stays, gc finds its containers, the run goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from harness.errors import Interrupted
from harness.integrity import gc, repair
from harness.machine.owners import (
    OWNER,
    OWNER_VARIABLE,
    is_orphan,
    owner_label,
    runs_in_own_container,
)
from harness.sandboxes import engine
from harness.store.run import open_run
from harness.trials.launch import Limits
from tests.conftest import alive, still_alive
from tests.fakes import workplace
from tests.fakes.listener import Listener

pytestmark = pytest.mark.contract

KILLS, SEED = 50, 20261124
HARNESS = """
import sys
from pathlib import Path
from harness.environments.declared import (Environment)
from harness.environments.built import (BuiltEnvironment)
from harness.trials.launch import Limits, launch
from runners.protocol.wire import Artifact
from tests.fakes import samples
from tests.fakes.listener import Listener
folder, image = Path(sys.argv[1]), sys.argv[2]
python = "python3" if image else sys.executable
one = Environment(description="", packages=[], command=[python, "adapter.py", "{job}"],
                  variables={"FAKE_SIDE": "hangs_deaf"})
env = BuiltEnvironment(name="fake", declared=one, digest="d", folder=Path("/usr"),
                       code_digest="c", code=folder / "code", image=image)
inputs = {n: Artifact(path=str(folder / n), sha256="aa") for n in ("weights", "noise", "text")}
launch(samples.trial(**inputs), env, folder / "work", Listener(), Limits())
"""


@pytest.fixture
def place(tmp_path, monkeypatch, base_image):
    """A suite whose sides run in containers."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    return workplace.contain(workplace.make(tmp_path), base_image)


def start_harness(folder, image=""):
    """A harness in a process of its own, once its side hangs."""
    command = [sys.executable, "-c", HARNESS, str(folder), image]
    harness = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
    wait_for((folder / "work" / "pids.json").exists)
    time.sleep(0.3)
    return harness


def wait_for(what, limit_s=20.0):
    """Wait until something holds."""
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def mine(pid):
    """Containers of a process."""
    found = engine.connect().api.containers(all=True, filters={"label": OWNER})
    return [one["Id"] for one in found if one["Labels"][OWNER].split()[3] == str(pid)]


@pytest.mark.parametrize("sandbox", ["process"], indirect=True)
def test_side_dies_with_its_harness(environment, trial, tmp_path):
    """A process group whose harness was killed is gone, children and deaf sides included."""
    environment("hangs_deaf"), trial()
    harness = start_harness(tmp_path)
    pids = json.loads((tmp_path / "work" / "pids.json").read_text())
    assert all(map(alive, pids))
    harness.kill()
    harness.wait()

    assert still_alive(pids) == []


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
def test_gc_removes_a_dead_harness_container_and_no_other(environment, trial, tmp_path, base_image):
    """By its label: a container of a living harness, and one of somebody else's, stay."""
    environment("hangs_deaf"), trial()
    api = engine.connect().api
    kept = [
        api.create_container(base_image, ["true"], labels=labels)["Id"]
        for labels in ({}, {OWNER: owner_label()}, {OWNER: "no label of fdbench's"})
    ]
    harness = start_harness(tmp_path, base_image)
    (left,) = mine(harness.pid)
    harness.kill()
    harness.wait()
    try:
        removed = [what for what in gc.collect(()) if left[:12] in what]
        there = {one["Id"] for one in api.containers(all=True)}
    finally:
        for container in kept:
            api.remove_container(container)

    assert removed == [f"container {left[:12]}, trial candidate.flashdreams.0"]
    assert left not in there
    assert there.issuperset(kept)
    assert [what for what in gc.collect(()) if "container" in what] == []


@pytest.mark.slow  # a second gc on this machine would be in its way
def test_gc_removes_an_orphaned_process_and_no_other():
    """A process that carries a dead harness's label is ended; one of a living harness is not."""
    dead = owner_label().rsplit(" ", 1)[0] + " 1"
    sleepers = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, OWNER_VARIABLE: owner})
        for owner in (dead, owner_label())
    ]
    try:
        wait_for(lambda: all(Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in sleepers))
        removed = list(gc.collect(()))
        assert f"process {sleepers[0].pid}" in removed
        assert sleepers[0].wait(5) == -signal.SIGKILL
        assert sleepers[1].poll() is None
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


@pytest.mark.slow  # a second gc on this machine would be in its way
@pytest.mark.parametrize("sandbox", ["process"], indirect=True)
def test_gc_removes_the_temporary_folder_of_a_dead_harness(environment, trial, tmp_path):
    """A killed harness cannot tidy up; one that lives keeps the folders of its sides."""
    environment("hangs_deaf"), trial()
    harness = start_harness(tmp_path)
    pids = json.loads((tmp_path / "work" / "pids.json").read_text())
    variables = Path(f"/proc/{pids[0]}/environ").read_bytes().split(b"\0")
    (folder,) = [v.removeprefix(b"TMPDIR=").decode() for v in variables if v[:7] == b"TMPDIR="]
    assert f"folder {folder}" not in list(gc.collect(()))
    harness.kill()
    harness.wait()
    assert Path(folder).is_dir()

    assert f"folder {folder}" in list(gc.collect(()))
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("change", "orphan"),
    [
        pytest.param(lambda words: words, False, id="alive"),
        pytest.param(lambda words: [*words[:4], "1"], True, id="pid-used-again"),
        pytest.param(
            lambda words: [*words[:2], "pid:[1]", *words[3:]], False, id="other-namespace"
        ),
        pytest.param(lambda words: words[:3], False, id="no-label"),
    ],
)
def test_orphans_are_told_from_others(change, orphan):
    """Only a process that is surely gone makes an orphan."""
    assert is_orphan(" ".join(change(owner_label().split(" ")))) is orphan


@pytest.mark.parametrize("sandbox", ["docker"], indirect=True)
def test_process_in_an_own_container_is_no_stranger(run):
    """A side in a container is nobody's child here, and still one of this harness's."""
    seen = []

    class Looker(Listener):
        def step_done(self, trial, ar, total_ms):
            (container,) = mine(os.getpid())
            pid = engine.connect().api.inspect_container(container)["State"]["Pid"]
            seen.append((runs_in_own_container(pid), runs_in_own_container(os.getpid())))

    run("waits", watcher=Looker(), limits=Limits(wall_s=30, stall_s=1))

    assert set(seen) == {(True, False)}


def leaves_nothing(pid):
    """Whether a process has no container once what it left is collected."""
    list(gc.collect(()))
    return not mine(pid)


def test_contained_run_killed_at_random_moments_goes_on(place, tmp_path):
    """Killed, cleaned up, resumed: the tables of an undisturbed run each time, nothing left."""
    assert place.run(tmp_path / "undisturbed", only="left") == 0
    wanted, moments = workplace.tables(tmp_path / "undisturbed"), random.Random(SEED)
    killed, stopped = [], 0
    command = [sys.executable, "-m", "tests.fakes.worker", tmp_path, "docker", place.base]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        for number in range(KILLS):
            run = tmp_path / f"killed{number}"
            server.stdin.write(json.dumps([str(run), "left"]) + "\n")
            server.stdin.flush()
            pid, begun = int(server.stdout.readline()), time.monotonic()
            if not number:  # never killed: how long one takes
                server.stdout.readline()
                length_s = time.monotonic() - begun
                continue
            time.sleep(moments.uniform(0, length_s))
            with suppress(ProcessLookupError):  # it was faster
                os.kill(pid, signal.SIGKILL)
            stopped += int(server.stdout.readline().split()[1]) == signal.SIGKILL
            killed.append(pid)
            wait_for(partial(leaves_nothing, pid))
            if (run / "run.json").exists():
                assert place.resume(run) == 0, number
                assert workplace.tables(run) == wanted, number
                assert repair.examine(open_run(run)) == ()
        server.stdin.close()
    for pid in killed:  # again: the engine finishes what a process asked for before it was killed
        wait_for(partial(leaves_nothing, pid))
    assert stopped > KILLS / 3


class Pressing(workplace.Silent):
    """A user who presses Ctrl-C at the start of the second trial, as often as given."""

    def __init__(self, times, number=signal.SIGINT):
        self.trials, self.notes, self._times, self._number = 0, [], times, number

    def note(self, text):
        """Keep it."""
        self.notes.append(text)

    def trial_started(self, trial):
        """Press."""
        self.trials += 1
        for _ in range(self._times if self.trials == 2 else 0):
            os.kill(os.getpid(), self._number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("watcher", "kept"),
    [
        pytest.param(Pressing(1), 2, id="once"),
        pytest.param(Pressing(2), 1, id="twice"),
        pytest.param(Pressing(1, signal.SIGTERM), 1, id="sigterm"),
    ],
)
def test_interrupt_once_finishes_the_trial_twice_stops_it(tmp_path, monkeypatch, watcher, kept):
    """Either way what is finished is stored, and the rest can be run later."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    place = workplace.make(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="--resume"):
        place.run(tmp_path / "run", watcher=watcher)

    assert len(list((tmp_path / "run" / "logs").iterdir())) == kept
    assert any("again to stop it now" in note for note in watcher.notes) is (
        kept == 2 or watcher._number != signal.SIGTERM
    )
    assert signal.getsignal(signal.SIGINT) == before
    assert place.resume(tmp_path / "run") == 0
