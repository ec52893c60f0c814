"""What a machine without network needs, collected on one that has it: wheels, sources, fdbench."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from harness.environments import requirement_locks
from harness.environments.built import stage_source
from harness.environments.declared import ENVIRONMENTS_DIR, load_environments
from harness.environments.requirement_locks import normalised
from harness.errors import EnvironmentFault, UsageFault, in_words

MACHINES = ("x86_64", "aarch64")
"""Processors of GPU machines."""
_GLIBC = (28, 27, 17, 5)
"""Minor versions whose wheels a Linux with glibc 2.28 or newer takes."""
_PYTHON = re.compile(r"3\.(1[1-9]|[2-9]\d)")
_MARKER = re.compile(r" ; [^\\\n]*")
"""Condition of a locked requirement, which pip would hold against the machine it runs on."""
_ACTIVATE = """\
# On the machine without network, in bash: source activate
_kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -d "$_kit/site" ]; then
    rm -rf "$_kit/site.part"
    python3 -m pip install --quiet --no-index --no-deps --target "$_kit/site.part" \\
        "$_kit"/fdbench/*.whl && mv "$_kit/site.part" "$_kit/site" || return 1
fi
export PYTHONPATH=$_kit/site${PYTHONPATH:+:$PYTHONPATH} PATH=$_kit/site/bin:$PATH
export FDBENCH_WHEELS=$_kit/wheels FDBENCH_SOURCES=$_kit/sources
unset _kit
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that a kit is for."""

    packages: Mapping[str, str]
    """Of its own Python, package to version; its environments see them behind the wheels."""
    python: str
    """Version of that Python, such as ``3.12``."""
    machine: str = MACHINES[0]

    def __post_init__(self) -> None:
        """Refuse what no wheel could be asked for.

        Raises:
            UsageFault: The version of Python is none that fdbench runs on.
        """
        if not _PYTHON.fullmatch(self.python):
            raise UsageFault(
                f"--python {self.python}: expected two numbers from 3.11 on, such as 3.12"
            )

    def has(self, requirement: Requirement) -> bool:
        """Whether a package is there in a version that fits."""
        version = self.packages.get(normalised(requirement.name))
        return version is not None and requirement.specifier.contains(version, prereleases=True)

    def asks_for(self, requirement: Requirement) -> bool:
        """Whether a requirement applies there, extras left out."""
        there = {"python_version": self.python, "python_full_version": f"{self.python}.0"}
        there |= {"sys_platform": "linux", "platform_machine": self.machine, "extra": ""}
        return requirement.marker is None or requirement.marker.evaluate(there)


def read_packages(path: Path) -> dict[str, str]:
    """Package to version, as ``python3 -m pip list --format=freeze`` prints them on that machine.

    Raises:
        UsageFault: The file says nothing of the kind.
    """
    text = path.read_bytes().decode("utf-8", "replace")
    lines = [line.strip().partition("==") for line in text.splitlines()]
    found = {normalised(name): version for name, pinned, version in lines if pinned}
    if "torch" not in found:
        raise UsageFault(
            f"{path} lists no torch, which that machine must have\nCreate the file there with: "
            "python3 -m pip list --format=freeze"
        )
    return found


def collect(names: Sequence[str], folder: Path, host: Host, report: Callable[[str], None]) -> None:
    """Fill a new folder: ``source activate`` in it makes a machine ready to run these environments.

    Args:
        names: Environments.
        folder: What is made; it must not exist.
        host: The machine it is for.
        report: Told in one line what takes time.

    Raises:
        UsageFault: The folder cannot be made, or this is no clone of fdbench.
        EnvironmentFault: A wheel or a source cannot be had.
    """
    clone = _clone()
    if folder.exists():
        raise UsageFault(f"{folder} already exists; choose a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bundle-"))
    except OSError as error:
        raise UsageFault(f"{folder} could not be created: {in_words(error)}") from error
    try:
        _copy_sources(names, place / "sources", report)
        report("downloading what the environments need and that machine lacks")
        _fetch_environments(names, place / "wheels", host)
        report("downloading what fdbench needs and that machine lacks")
        own = [f"{name}=={version}\n" for name, version in needs_of("fdbench", host).items()]
        _download(own, place / "fdbench", host)
        _pip("wheel", "--no-deps", "--wheel-dir", str(place / "fdbench"), str(clone))
        (place / "activate").write_text(_ACTIVATE, "utf-8")
        place.chmod(0o755)
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def needs_of(package: str, host: Host) -> dict[str, str]:
    """Packages that an installed one needs and the host lacks or has too old, as installed here."""
    needs: dict[str, str] = {}
    pending = list(metadata.requires(package) or ())
    while pending:
        one = Requirement(pending.pop())
        name = normalised(one.name)
        if name in needs or not host.asks_for(one) or host.has(one):
            continue
        needs[name] = metadata.version(name)
        pending += metadata.requires(name) or ()
    return needs


def _clone() -> Path:
    root = ENVIRONMENTS_DIR.parent
    if not (root / "pyproject.toml").is_file():
        raise UsageFault(
            "this fdbench was installed from a wheel; bundle from a clone of its repository"
        )
    return root


def _copy_sources(names: Sequence[str], folder: Path, report: Callable[[str], None]) -> None:
    folder.mkdir()
    declared = load_environments()
    for name in names:
        source = stage_source(name, declared[name], report)
        if source:
            shutil.copytree(source, folder / name, copy_function=shutil.copyfile)
            for below in (folder / name, *(folder / name).rglob("*/")):
                below.chmod(0o755)  # a staged source cannot be written, nor then be removed


def _fetch_environments(names: Sequence[str], folder: Path, host: Host) -> None:
    """Fetch the environments' locked wheels but PyTorch's: what the host lacks or has unfit."""
    declared, lock, loners = load_environments(), dict[str, str](), set[str]()
    for name in names:
        for package, block in requirement_locks.read_lock(
            ENVIRONMENTS_DIR / name / requirement_locks.OWN_LOCK
        ).items():
            if host.asks_for(Requirement(block.partition("\\")[0].strip())):
                lock[package] = _MARKER.sub(" ", block, count=1)
        loners |= {normalised(Requirement(one).name) for one in declared[name].no_deps}
    folder.mkdir()  # also where the host has everything: FDBENCH_WHEELS has to name a folder
    missing, carried = lock.keys() - host.packages.keys(), set[str]()
    while missing:
        _download([lock[package] for package in sorted(missing)], folder, host)
        carried |= missing
        found = set(_unfit(carried - loners, folder, host))
        missing = (found & lock.keys()) - carried


def _unfit(packages: set[str], folder: Path, host: Host) -> Iterator[str]:
    """Packages that these wheels need in another version than the host's."""
    for wheel in folder.glob("*.whl"):
        (about,) = metadata.distributions(path=[str(wheel)])
        if normalised(about.name) in packages:
            for one in map(Requirement, about.requires or ()):
                if host.asks_for(one) and not host.has(one):
                    yield normalised(one.name)


def _download(requirements: Sequence[str], folder: Path, host: Host) -> None:
    """Fetch wheels by requirements as a lock spells them, verified where they have hashes."""
    folder.mkdir(exist_ok=True)
    if not requirements:
        return
    flags = ["--no-deps", "--only-binary=:all:", "--implementation=cp"]
    flags += [f"--python-version={host.python}"]
    flags += [f"--abi={abi}" for abi in (f"cp{host.python.replace('.', '')}", "abi3", "none")]
    flags += [f"--platform=manylinux_2_{minor}_{host.machine}" for minor in _GLIBC]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.writelines(requirements)
        listed.flush()
        _pip("download", *flags, "--dest", str(folder), "--requirement", listed.name)


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *words[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EnvironmentFault(
            f"pip {words[0]} failed: {(errors or [done.stderr.strip()])[-1]}\n"
            "Check that the package index is reachable and has this package for that Python"
        )
