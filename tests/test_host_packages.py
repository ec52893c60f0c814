"""Environments without an index: wheels of a folder in front of this machine's own packages."""

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from harness.environments import host_packages
from harness.errors import EnvironmentFault, UsageFault

pytestmark = pytest.mark.contract

LOOK = (
    "import sys, importlib.metadata as m, fdbench_tiny, numpy; "
    "print(fdbench_tiny.ANSWER, numpy.__version__, m.version('fdbench-tiny'), sys.prefix)"
)


def write_wheel(folder, requires=(), release="1.2"):
    """A wheel of one module, written by hand; returns its path."""
    info, path = (
        f"fdbench_tiny-{release}.dist-info",
        folder / f"fdbench_tiny-{release}-py3-none-any.whl",
    )
    about = ["Metadata-Version: 2.1", "Name: fdbench-tiny", f"Version: {release}"]
    about += [f"Requires-Dist: {name}" for name in requires]
    kind = ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    content = {
        "fdbench_tiny.py": f"ANSWER = 'wheel {release}'\n",
        f"{info}/METADATA": "\n".join(about) + "\n",
        f"{info}/WHEEL": "\n".join(kind) + "\n",
    }
    record = "".join(f"{name},,\n" for name in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**content, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture
def wheels(tmp_path):
    """An empty folder for wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def test_pin_holds_where_the_wheel_is(wheels):
    """However the name is spelt; a wheel of another version stays pip's refusal, not a swap."""
    write_wheel(wheels)

    assert host_packages.wanted(["fdbench-tiny==1.2", "FDBench_Tiny[x]==9.9"], wheels) == [
        "fdbench-tiny==1.2",
        "FDBench_Tiny[x]==9.9",
    ]


def test_host_decides_where_no_wheel_is(wheels):
    """Neither pin nor extras can be asked of packages that are there already."""
    packages = ["torch==2.13.0", "imageio[ffmpeg]==2.38.1", "numpy>=1,<9", "einops"]

    assert host_packages.wanted(packages, wheels) == ["torch", "imageio", "numpy", "einops"]


def test_variable_names_the_folder(wheels, monkeypatch):
    """Unset or empty means an index."""
    monkeypatch.setenv(host_packages.VARIABLE, str(wheels))
    assert host_packages.wheel_folder() == wheels
    monkeypatch.setenv(host_packages.VARIABLE, "")
    assert host_packages.wheel_folder() is None
    monkeypatch.delenv(host_packages.VARIABLE)
    assert host_packages.wheel_folder() is None


@pytest.mark.parametrize("name", ["no-such-folder", "a-file"])
def test_variable_that_names_no_folder_is_refused(tmp_path, monkeypatch, name):
    """The message has the variable, what it says and the way out."""
    (tmp_path / "a-file").touch()
    monkeypatch.setenv(host_packages.VARIABLE, str(tmp_path / name))

    with pytest.raises(UsageFault, match=rf"FDBENCH_WHEELS=.*{name}: no such folder; unset it"):
        host_packages.wheel_folder()


def test_identity_is_the_wheels_content_and_the_hosts_packages(wheels):
    """Another wheel of the same name is another environment."""
    write_wheel(wheels)
    before = host_packages.identity(wheels)
    write_wheel(wheels, requires=["numpy"])
    after = host_packages.identity(wheels)

    assert f"numpy=={version('numpy')}" in before["host"]
    assert before["host"] == after["host"]
    assert [line.split()[0] for line in before["wheels"]] == ["fdbench_tiny-1.2-py3-none-any.whl"]
    assert before["wheels"] != after["wheels"]


def seen_by(target):
    """What the environment's Python imports, with nothing else on its path."""
    command = [str(target / "bin" / "python"), "-I", "-c", LOOK]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_environment_sees_its_wheel_and_the_hosts_packages(wheels, tmp_path, monkeypatch):
    """A real install: the wheel is the environment's own, numpy is this machine's."""
    wheel = write_wheel(wheels, requires=["numpy"])
    zipfile.ZipFile(wheel).extractall(tmp_path / "elsewhere")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))  # installed, but not for a side
    target = tmp_path / "env"
    host_packages.install(["fdbench-tiny==1.2", "numpy==0.0.1"], [], target, wheels)

    assert seen_by(target) == ["wheel", "1.2", version("numpy"), "1.2", str(target)]
    assert list(target.glob("lib/python3*/site-packages/fdbench_tiny.py"))
    assert not list(target.glob("lib/python3*/site-packages/numpy"))


@pytest.mark.slow
def test_own_wheel_comes_before_the_hosts_package(wheels, tmp_path):
    """The environment's own folder is searched first; the host's is behind it."""
    write_wheel(wheels)
    target = tmp_path / "env"
    host_packages.install(["fdbench-tiny"], [], target, wheels)
    look = "import sys; print(*[p for p in sys.path if p.endswith('-packages')], sep='\\n')"
    command = [str(target / "bin" / "python"), "-I", "-c", look]
    own, *host = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert Path(own).is_relative_to(target)
    assert host
    assert not any(Path(path).is_relative_to(target) for path in host)


@pytest.mark.slow
def test_no_deps_leaves_out_what_a_wheel_declares(wheels, tmp_path):
    """A package may declare what is nowhere to be had, and is installed all the same."""
    write_wheel(wheels, requires=["fdbench-is-not-to-be-had"])
    host_packages.install(["numpy"], ["fdbench-tiny==1.2"], tmp_path / "env", wheels)

    assert seen_by(tmp_path / "env")[:2] == ["wheel", "1.2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "no_deps"),
    [
        pytest.param(["fdbench-is-not-to-be-had==1.0"], [], id="nowhere"),
        pytest.param(["numpy"], ["fdbench-is-not-to-be-had==1.0"], id="nowhere-no-deps"),
        pytest.param(["fdbench-tiny==9.9"], [], id="another-version"),
    ],
)
def test_missing_package_is_named_with_the_next_step(wheels, tmp_path, packages, no_deps):
    """Pip's own line about it, the folder, and what to do."""
    write_wheel(wheels)
    with pytest.raises(EnvironmentFault) as caught:
        host_packages.install(packages, no_deps, tmp_path / "env", wheels)
    name = (no_deps or packages)[0].partition("==")[0]

    assert name in str(caught.value)
    assert f"from this machine's packages and {wheels}" in str(caught.value)
    assert "Add the missing wheel there, or unset FDBENCH_WHEELS" in str(caught.value)


DEBIAN = Path("/usr/bin/python3")


@pytest.mark.slow
def test_python_of_the_system_makes_it_too(wheels, tmp_path):
    """Debian's Python installs its own packages elsewhere than a virtual environment does."""
    scheme = (
        "import sys, sysconfig; print(sys.version_info >= (3, 11), sysconfig.get_default_scheme())"
    )
    asked = DEBIAN.exists() and subprocess.run(
        [DEBIAN, "-c", scheme], capture_output=True, text=True, check=True
    )
    if not asked or asked.stdout.split() != ["True", "posix_local"]:
        pytest.skip("no Python of Debian's: install its python3, 3.11 or newer")
    write_wheel(wheels)
    code = (
        "import sys; from pathlib import Path; from harness.environments import host_packages\n"
        "host_packages._site_folders = lambda: sys.argv[3:]\n"
        "host_packages.install(['fdbench-tiny'], [], Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    packages = [path for path in sys.path if path.endswith("-packages")]
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [DEBIAN, "-c", code, tmp_path / "env", wheels, *packages],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *packages])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "dist-packages" not in done.stderr
    assert list((tmp_path / "env").glob("lib/python3*/site-packages/host.pth")), done.stderr


def test_environments_see_what_pip_lists():
    """The list that a kit is made from and the folders that environments look into are the same."""
    words = [sys.executable, "-m", "pip", "list", "--format=freeze"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    seen = metadata.distributions(path=host_packages._site_folders())

    assert {canonicalize_name(line.partition("==")[0]) for line in listed} <= {
        canonicalize_name(one.name) for one in seen
    }
