"""A kit for a machine without network: made here, used in a shell that has no package index."""

import subprocess

import pytest

from harness.environments import bundle, requirement_locks
from harness.environments.declared import ENVIRONMENTS_DIR
from harness.errors import EnvironmentFault, UsageFault
from tests.fakes.command import fdbench

pytestmark = [pytest.mark.unit, pytest.mark.slow]

PACKAGES = {"torch": "2.11.0", "click": "8.5.0", "huggingface-hub": "1.33.0"}
HOST = bundle.Host(packages=PACKAGES, python="3.12")


@pytest.fixture(scope="session")
def host_list(flashdreams_env, tmp_path_factory):
    """The package list of a Python that has PyTorch, as the GPU machine's would."""
    python = flashdreams_env.folder / "bin" / "python"
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    path = tmp_path_factory.mktemp("host") / "freeze.txt"
    path.write_text(listed.stdout)
    return path


def test_kit_makes_a_machine_without_network_ready(flashdreams_env, host_list, tmp_path):
    """That machine's own Python, no index: fdbench starts and makes an environment of the kit."""
    kit = tmp_path / "kit"
    made = fdbench("env", "bundle", "diffusers", kit, "--host", host_list)
    assert made.code == 0, made.err
    assert f"source {kit.name}/activate" in made.out

    there = {
        "PATH": f"{flashdreams_env.folder / 'bin'}:/usr/bin:/bin",
        "FDBENCH_CACHE": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "LANG": "C.UTF-8",
    }
    line = f"source {kit}/activate && fdbench env build diffusers --sandbox process"
    done = subprocess.run(
        ["bash", "-c", line], env=there, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (python,) = (tmp_path / "cache" / "envs").glob("diffusers-*/bin/python")
    look = "import diffusers, torch; print(diffusers.__file__.split('/lib/')[0])"
    seen = subprocess.run([python, "-c", look], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == str(python.parent.parent)


def test_wheels_of_the_host_stay_out(host_list, tmp_path):
    """PyTorch and whatever else that machine has is not carried there again."""
    kit = tmp_path / "kit"
    assert fdbench("env", "bundle", "diffusers", kit, "--host", host_list).code == 0
    carried = {path.name.split("-")[0] for path in (kit / "wheels").iterdir()}

    assert "diffusers" in carried
    assert not carried & {"torch", "numpy", "transformers", "safetensors"}


def test_package_that_is_too_old_for_a_carried_one_is_carried_too(host_list, tmp_path):
    """A host's huggingface_hub that diffusers refuses would stop the build there."""
    old = tmp_path / "freeze.txt"
    lines = host_list.read_text().splitlines()
    kept = [line for line in lines if not line.lower().startswith(("huggingface", "diffusers"))]
    old.write_text("\n".join([*kept, "huggingface_hub==0.20.0"]))
    assert fdbench("env", "bundle", "diffusers", tmp_path / "kit", "--host", old).code == 0
    carried = {path.name.split("-")[0] for path in (tmp_path / "kit" / "wheels").iterdir()}

    assert carried >= {"diffusers", "huggingface_hub"}
    assert not carried & {"torch", "numpy"}


@pytest.mark.contract
def test_activate_fails_where_fdbench_cannot_be_installed(tmp_path):
    """Nothing is exported then, and nothing half installed counts the next time."""
    (tmp_path / "fdbench").mkdir()
    (tmp_path / "fdbench" / "fdbench-0.1.0-py3-none-any.whl").write_text("no wheel")
    (tmp_path / "activate").write_text(bundle._ACTIVATE)
    line = f"source {tmp_path}/activate; echo status $? wheels $FDBENCH_WHEELS"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert done.stdout == "status 1 wheels\n"
    assert not (tmp_path / "site").exists()


@pytest.mark.contract
def test_kit_for_another_processor(tmp_path):
    """GB200 machines have Arm processors; a package with compiled code comes for that one."""
    (tmp_path / "wheels").mkdir()
    arm = bundle.Host(packages={}, python="3.12", machine="aarch64")
    bundle._download(["safetensors==0.8.0\n"], tmp_path / "wheels", arm)
    (wheel,) = (tmp_path / "wheels").iterdir()

    assert wheel.name.endswith("aarch64.whl")


def test_host_that_has_everything_gets_an_empty_folder_of_wheels(tmp_path):
    """FDBENCH_WHEELS names it, and a name of no folder is refused."""
    lock = requirement_locks.read_lock(ENVIRONMENTS_DIR / "wan21" / requirement_locks.OWN_LOCK)
    full = bundle.Host(packages=requirement_locks.versions(lock), python="3.12")
    bundle._fetch_environments(["wan21"], tmp_path / "wheels", full)

    assert list((tmp_path / "wheels").iterdir()) == []


@pytest.mark.contract
def test_what_is_not_the_locked_file_is_refused(tmp_path):
    """The lock has the hashes: another file of that name and version is no substitute."""
    line = f"safetensors==0.8.0 --hash=sha256:{'0' * 64}\n"

    with pytest.raises(EnvironmentFault, match="pip download failed"):
        bundle._download([line], tmp_path / "wheels", HOST)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_fdbench_needs_what_the_host_lacks_or_has_too_old():
    """A package that is there in a version that fits is left out, and so are its own needs."""
    needs = bundle.needs_of("fdbench", HOST)

    assert "click" not in needs
    assert needs.keys() >= {"huggingface-hub", "pydantic", "pydantic-core", "docker"}
    assert "torch" not in needs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "lists no torch"),
        (b"numpy==2.0\n", "lists no torch"),
        (b"Package Version\n", "freeze"),
        (b"\xff\xfe\x00", "lists no torch"),
    ],
)
def test_list_without_torch_is_refused(tmp_path, text, said):
    """An empty file would make a kit of everything but the one thing that must be there."""
    (tmp_path / "freeze.txt").write_bytes(text)

    with pytest.raises(UsageFault, match=said):
        bundle.read_packages(tmp_path / "freeze.txt")


@pytest.mark.parametrize("python", ["3", "3.12.1", "latest", "3.10", "2.7"])
def test_version_of_python_is_two_numbers(python):
    """Wheels are named by these two, and fdbench runs from 3.11 on."""
    with pytest.raises(UsageFault, match="two numbers"):
        bundle.Host(packages=PACKAGES, python=python)


def test_folder_below_a_file_is_refused(tmp_path):
    """One line, no traceback."""
    (tmp_path / "freeze.txt").write_text("torch==2.11.0\n")
    kit = tmp_path / "freeze.txt" / "kit"
    failed = fdbench("env", "bundle", "diffusers", kit, "--host", tmp_path / "freeze.txt")

    assert failed.code == 2
    assert "kit could not be created" in failed.err


def test_failure_leaves_nothing_and_an_existing_folder_is_kept(tmp_path, monkeypatch):
    """One clear message; a kit is whole or not there."""
    (tmp_path / "freeze.txt").write_text("torch==2.11.0\n")
    words = ("env", "bundle", "wan21", tmp_path / "kit", "--host", tmp_path / "freeze.txt")
    monkeypatch.setenv("FDBENCH_SOURCES", str(tmp_path))
    failed = fdbench(*words)
    assert (failed.code, "has no folder wan21" in failed.err) == (5, True)
    assert [path.name for path in tmp_path.iterdir()] == ["freeze.txt"]

    (tmp_path / "kit").mkdir()
    again = fdbench(*words)
    assert (again.code, "kit already exists" in again.err) == (2, True)
