"""Fixtures of several test modules: the smoke run, environments, trials of a fake side."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import pytest

from harness.environments import sources
from harness.environments.built import BuiltEnvironment, build_environment, cache_dir
from harness.environments.declared import (
    ENVIRONMENTS_DIR,
    PROJECT_DIR,
    Environment,
    load_environments,
)
from harness.errors import EnvironmentFault
from harness.machine.owners import OWNER, owner_label
from harness.sandboxes import engine
from harness.trials.launch import Limits, launch
from runners.protocol.wire import Artifact
from tests.command import Finished, fdbench
from tests.fakes import samples, workplace
from tests.fakes.listener import Listener

FAKES = Path(__file__).parent / "fakes"
GENEROUS = Limits(wall_s=30, stall_s=30)
INPUTS = ("weights", "noise", "text")
LONG_EXAMPLES = 5000
"""Of each property in ``make test-long``."""
PATIENT_S = 5.0
"""How long to wait for a killed process to be gone."""

pytest_plugins = ["tests.kinds", "tests.skips"]

os.environ.setdefault("FDBENCH_SANDBOX", "process")  # tests of containers ask for them
for name, examples in (("short", 100), ("long", LONG_EXAMPLES)):
    hypothesis.settings.register_profile(
        name,
        deadline=None,
        database=None,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],  # others may use the cores
    )
hypothesis.settings.load_profile("short")  # --hypothesis-profile=long takes its place


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Finished:
    """The whole smoke suite, run once."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    return fdbench("run", "--suite", "smoke", "--gpu", "cpu", "--out", folder, folder=folder)


@pytest.fixture
def environments_dir(tmp_path) -> Path:
    """A copy of the declared environments, for a test to spoil an adapter in."""
    copy = tmp_path / "upstream_envs"
    shutil.copytree(ENVIRONMENTS_DIR, copy)
    return copy


@pytest.fixture(scope="session")
def fake_run(tmp_path_factory) -> Path:
    """A finished run of one cell with fake sides; tests spoil copies of it."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDBENCH_CACHE", str(folder / "cache"))
        workplace.make(folder).run(folder / "run", only="left")
    return folder / "run"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A suite of two cells, left and right."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "place" / "cache"))
    (tmp_path / "place").mkdir()
    return workplace.make(tmp_path / "place")


@pytest.fixture(scope="session")
def official_run(tmp_path_factory) -> Finished:
    """The whole suite of official upstream runners, run once."""
    folder = tmp_path_factory.mktemp("official") / "run"
    for name, declared in load_environments().items():
        if declared.source:
            require_source(name)
    return fdbench("run", "--suite", "official", "--gpu", "cpu", "--out", folder, folder=folder)


def require_source(name: str) -> Path:
    """The staged source of an environment; skips where upstream cannot be reached from here."""
    source = load_environments()[name].source
    if "FDBENCH_SOURCES" not in os.environ:
        words = ["git", "ls-remote", "--exit-code", source.url, "HEAD"]
        if subprocess.run(words, capture_output=True, check=False, timeout=60).returncode:
            pytest.skip(
                f"upstream repositories out of reach: neither {source.url} answers nor "
                "does FDBENCH_SOURCES name a folder of clones"
            )
    return sources.stage(name, source, cache_dir() / "sources", print)


@pytest.fixture(scope="session")
def flashdreams_env() -> BuiltEnvironment:
    """The candidate's environment, built if need be."""
    return build_environment("flashdreams", print)


@pytest.fixture(scope="session")
def base_image() -> str:
    """Id of the base image that ``FDBENCH_BASE`` names; without an engine the test is skipped."""
    name = os.environ.get("FDBENCH_BASE")
    if not name:
        pytest.skip(
            "no container engine: FDBENCH_BASE names no base image; .ci/engine starts an engine "
            "on Debian and prints the name of an image"
        )
    try:
        return str(engine.connect().images.get(name).id)
    except EnvironmentFault as fault:
        pytest.skip(f"no container engine: {fault}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser that pages are opened with; without it the test is skipped."""
    path = shutil.which("chromium")
    if not path:
        pytest.skip("no chromium: install Debian's package, or put the browser on PATH")
    return path


@pytest.fixture(params=["process", "docker"])
def sandbox(request):
    """A test that uses it runs in both."""
    return request.param


@pytest.fixture
def environment(tmp_path, sandbox, request):
    """Makes an environment whose side goes the way that is named."""
    places = {"folder": tmp_path / "env"}
    if sandbox == "docker":
        places = {"folder": Path("/usr"), "image": request.getfixturevalue("base_image")}
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    code = tmp_path / "code"
    (code / "runners" / "protocol").mkdir(parents=True)
    for name in ("__init__.py", "protocol/__init__.py", "protocol/wire.py"):
        shutil.copyfile(PROJECT_DIR / "runners" / name, code / "runners" / name)
    for name in ("steps.py", "faults.py"):
        shutil.copyfile(FAKES / name, code / name)
    shutil.copyfile(FAKES / "faults.py", code / "adapter.py")

    def make(behaviour, **changes):
        declared = Environment(
            description="a fake",
            packages=[],
            command=["python3" if sandbox == "docker" else "python", "adapter.py", "{job}"],
            variables={"FAKE_SIDE": behaviour},
        )
        made = {**places, "code": code, "declared": declared} | changes
        return BuiltEnvironment(name="fake", digest="d" * 64, code_digest="c" * 64, **made)

    return make


@pytest.fixture
def trial(tmp_path):
    """Makes a planned trial whose shared inputs are there."""

    def make(**job_changes):
        for name in INPUTS:
            (tmp_path / name).touch()
        places = {n: Artifact(path=str(tmp_path / n), sha256="aa" * 32) for n in INPUTS}
        return samples.trial(**{**places, **job_changes})

    return make


@pytest.fixture
def run(environment, trial, tmp_path, monkeypatch):
    """Launches the side that goes the way that is named, and looks after it often."""
    monkeypatch.setattr("harness.trials.launch._POLL_S", 0.05)

    def launched(behaviour, limits=GENEROUS, watcher=None, grant=None, image=None, **job_changes):
        return launch(
            trial(**job_changes),
            environment(behaviour, **({"image": image} if image else {})),
            tmp_path / "work",
            watcher or Listener(),
            limits,
            grant,
        )

    return launched


@pytest.fixture
def survivors(sandbox, tmp_path):
    """What is left of a trial after a moment: process ids, or containers of this process."""

    def left():
        pids = json.loads((tmp_path / "work" / "pids.json").read_text())
        assert len(pids) == 2
        if sandbox == "docker":
            mine = {"label": f"{OWNER}={owner_label()}"}
            return engine.connect().api.containers(all=True, filters=mine)
        return still_alive(pids)

    return left


def alive(pid):
    """Whether a process still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def still_alive(pids):
    """Those of these processes that do not go away; they are ended here."""
    until = time.monotonic() + PATIENT_S
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


@pytest.fixture
def small_disk(tmp_path):
    """A real filesystem of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed: run as root; {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
