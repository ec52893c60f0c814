"""What a machine without network needs, collected on one that has it: wheels, sources, fdbench."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from harness import environments, locks
from harness.environments import ENVIRONMENTS_DIR
from harness.errors import EnvironmentFault, UsageFault
from harness.locks import normalised

PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17, 5)), "any")
"""What pip may take wheels for: Linux on x86-64 with glibc 2.28 or newer."""
_PYTHON = re.compile(r"3\.\d+")
_ACTIVATE = """\
# On the machine without network, in bash: source activate
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -d "$here/site" ]; then
    python3 -m pip install --quiet --no-index --no-deps \\
        --target "$here/site" "$here"/fdbench/*.whl || rm -rf "$here/site"
fi
export PYTHONPATH=$here/site PATH=$here/site/bin:$PATH
export FDBENCH_WHEELS=$here/wheels FDBENCH_SOURCES=$here/sources
"""


def read_host(path: Path) -> dict[str, str]:
    """Package to version, as ``python3 -m pip list --format=freeze`` prints them on that machine.

    Raises:
        UsageFault: The file says nothing of the kind.
    """
    lines = [line.strip().partition("==") for line in path.read_text("utf-8").splitlines()]
    found = {normalised(name): version for name, pinned, version in lines if pinned}
    if "torch" not in found:
        raise UsageFault(
            f"{path} names no torch, which such a machine must have; make the file there: "
            "python3 -m pip list --format=freeze"
        )
    return found


def collect(
    names: Sequence[str],
    folder: Path,
    host: Mapping[str, str],
    python: str,
    report: Callable[[str], None],
) -> None:
    """Fill a new folder: ``source activate`` in it makes a machine ready to run these environments.

    Args:
        names: Environments.
        folder: What is made; it must not exist.
        host: Packages of that machine's own Python, which its environments see behind the wheels.
        python: Version of that Python, such as ``3.12``.
        report: Told in one line what takes time.

    Raises:
        UsageFault: The folder exists, or this is no clone of fdbench.
        EnvironmentFault: A wheel or a source cannot be had.
    """
    if not _PYTHON.fullmatch(python):
        raise UsageFault(f"--python {python}: give two numbers, such as 3.12")
    if folder.exists():
        raise UsageFault(f"{folder} exists; name a folder that is to be made")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as place:
        made = Path(place)
        _copy_sources(names, made / "sources", report)
        wanted = {k: v for name in names for k, v in _locked(name, python).items() if k not in host}
        report(f"fetching {len(wanted)} packages of the environments")
        _download(wanted, made / "wheels", python)
        own = needs_of("fdbench", host, python)
        report(f"fetching {len(own)} packages of fdbench")
        _download(own, made / "fdbench", python)
        _pip("wheel", "--no-deps", "--wheel-dir", str(made / "fdbench"), str(_clone()))
        (made / "activate").write_text(_ACTIVATE, "utf-8")
        made.chmod(0o755)
        made.rename(folder)
        made.mkdir()  # for the context to remove


def needs_of(package: str, host: Mapping[str, str], python: str) -> dict[str, str]:
    """Packages that an installed one needs and the host lacks or has too old, as installed here."""
    needs: dict[str, str] = {}
    pending = list(metadata.requires(package) or ())
    while pending:
        one = Requirement(pending.pop())
        name = normalised(one.name)
        if name in needs or not _applies(one, python):
            continue
        if name in host and one.specifier.contains(host[name], prereleases=True):
            continue
        needs[name] = metadata.version(name)
        pending += metadata.requires(name) or ()
    return needs


def _copy_sources(names: Sequence[str], folder: Path, report: Callable[[str], None]) -> None:
    folder.mkdir()
    declared = environments.load_environments()
    for name in names:
        source = environments.stage_source(name, declared[name], report)
        if source:
            shutil.copytree(source, folder / name, copy_function=shutil.copyfile)
            for below in (folder / name, *(folder / name).rglob("*/")):
                below.chmod(0o755)


def _locked(name: str, python: str) -> dict[str, str]:
    """Packages of an environment without PyTorch, which is the host's."""
    lock = locks.read_lock(ENVIRONMENTS_DIR / name / locks.OWN_LOCK)
    first_lines = {package: text.partition("\\")[0] for package, text in lock.items()}
    return {
        package: version
        for package, version in locks.versions(lock).items()
        if _applies(Requirement(first_lines[package].strip()), python)
    }


def _applies(requirement: Requirement, python: str) -> bool:
    """Whether a requirement is one on that machine, without extras."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(there)


def _clone() -> Path:
    root = ENVIRONMENTS_DIR.parent
    if not (root / "pyproject.toml").is_file():
        raise UsageFault("fdbench is installed from a wheel; bundle from a clone of it")
    return root


def _download(wanted: Mapping[str, str], folder: Path, python: str) -> None:
    folder.mkdir()
    if not wanted:
        return
    abi = f"cp{python.replace('.', '')}"
    flags = [
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python}",
    ]
    flags += [f"--abi={one}" for one in (abi, "abi3", "none")]
    flags += [f"--platform={one}" for one in PLATFORMS]
    _pip("download", *flags, "--dest", str(folder), *(f"{k}=={v}" for k, v in wanted.items()))


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *words[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EnvironmentFault(f"pip {words[0]} failed: {(errors or [done.stderr.strip()])[0]}")
