"""Packages of an environment without an index: this machine's own Python and a folder of wheels.

For GPU machines without network, whose image already has the PyTorch that fits their driver. The
versions are then the host's, not the declared ones; they are part of the environment's digest and
kept with every run, and both sides of a pair get the same.
"""

import importlib.metadata
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from harness.errors import EnvironmentFault, UsageFault
from runners.protocol.wire import sha256_file

VARIABLE = "FDBENCH_WHEELS"
"""Names the folder of wheels, and by that asks for the host's packages."""


def wheel_folder() -> Path | None:
    """The folder of wheels, or None where packages come from an index.

    Raises:
        UsageFault: The variable names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).resolve()
    if not folder.is_dir():
        raise UsageFault(f"{VARIABLE}={named}: no such folder; unset it to use a package index")
    return folder


def identity(wheels: Path) -> dict[str, list[str]]:
    """What decides which files an environment gets: the host's packages and the wheels."""
    host = importlib.metadata.distributions(path=_site_folders())
    return {
        "host": sorted({f"{found.name}=={found.version}" for found in host}),
        "wheels": [f"{path.name} {sha256_file(path)}" for path in sorted(wheels.glob("*.whl"))],
    }


def install(packages: Sequence[str], no_deps: Sequence[str], target: Path, wheels: Path) -> None:
    """Make a virtual environment that sees the host's packages behind its own.

    Args:
        packages: Requirements; a pin holds where the folder has the wheel, else the host decides.
        no_deps: Requirements installed without what they declare.
        target: Where the environment goes.
        wheels: Folder of wheels.

    Raises:
        EnvironmentFault: Neither the folder nor the host has a package.
    """
    _run([sys.executable, "-m", "venv", "--without-pip", str(target)], wheels)
    python = target / "bin" / "python"
    # The scheme by name: a Python of Debian's has its own, of which no virtual environment is made.
    own = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(target)}))
    (own / "host.pth").write_text("\n".join(_site_folders()) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
    pip += ["--disable-pip-version-check", "--find-links", str(wheels)]
    _run([*pip, *wanted(packages, wheels)], wheels)
    if no_deps:
        _run([*pip, "--no-deps", *wanted(no_deps, wheels)], wheels)


def wanted(packages: Sequence[str], wheels: Path) -> list[str]:
    """Requirements as the host can meet them: pinned where there is a wheel, else the bare name."""
    carried = {parse_wheel_filename(path.name)[0] for path in wheels.glob("*.whl")}
    names = {package: Requirement(package).name for package in packages}
    return [
        package if canonicalize_name(name) in carried else name for package, name in names.items()
    ]


def _site_folders() -> list[str]:
    """Where this Python finds installed packages: what ``pip list`` prints comes from there."""
    users = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return sorted({folder for folder in [*site.getsitepackages(), *users] if Path(folder).is_dir()})


def _run(command: list[str], wheels: Path) -> None:
    # What PYTHONPATH names would count as installed, and not be there when a side runs.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603
        command, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        tail = "\n".join([line for line in lines if "ERROR" in line][-3:] or lines[-3:])
        raise EnvironmentFault(
            f"could not make an environment from this machine's packages and {wheels}:\n{tail}\n"
            f"Add the missing wheel there, or unset {VARIABLE} if a package index is reachable"
        )
