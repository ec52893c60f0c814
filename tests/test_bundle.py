"""A kit for a machine without network: made here, used in a shell that has no package index."""

import subprocess

import pytest

from harness import bundle
from harness.errors import UsageFault
from tests.fakes.command import fdbench

HOST = {"torch": "2.11.0", "click": "8.5.0", "huggingface-hub": "1.33.0"}


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


def test_fdbench_needs_what_the_host_lacks_or_has_too_old():
    """A package that is there in a version that fits is left out, and so are its own needs."""
    needs = bundle.needs_of("fdbench", HOST, "3.12")

    assert "click" not in needs
    assert needs.keys() >= {"huggingface-hub", "pydantic", "pydantic-core", "docker"}
    assert "torch" not in needs


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "names no torch"), ("numpy==2.0\n", "names no torch"), ("Package Version\n", "freeze")],
)
def test_list_without_torch_is_refused(tmp_path, text, said):
    """An empty file would make a kit of everything but the one thing that must be there."""
    (tmp_path / "freeze.txt").write_text(text)

    with pytest.raises(UsageFault, match=said):
        bundle.read_host(tmp_path / "freeze.txt")


@pytest.mark.parametrize("python", ["3", "3.12.1", "latest"])
def test_version_of_python_is_two_numbers(tmp_path, python):
    """Wheels are named by these two."""
    with pytest.raises(UsageFault, match="two numbers"):
        bundle.collect(["diffusers"], tmp_path / "kit", HOST, python, print)


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
    assert (again.code, "kit exists" in again.err) == (2, True)
