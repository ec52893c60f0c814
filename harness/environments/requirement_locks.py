"""Locked requirements of the images: every package with its version and hashes, on every platform.

``upstream_envs/torch.lock`` is PyTorch with what it needs, the layer that all images share;
``upstream_envs/<name>/requirements.lock`` is the rest of one environment. Both come from ``uv``.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.environments.declared import ENVIRONMENTS_DIR, Environment
from harness.errors import EnvironmentFault, UsageFault

COMMON_LOCK, OWN_LOCK = "torch.lock", "requirements.lock"
_CUDA = re.compile(r"(torch|triton|cuda-.*|nvidia-.*)$")
"""What a build of PyTorch for CUDA brings, and one for the CPU does not."""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_ELSEWHERE = re.compile(r"; .*sys_platform == '(win32|emscripten|darwin)'")
"""Marks a package that no image needs."""
_HEADER = "# Written by: fdbench env lock\n"


def read_lock(path: Path) -> dict[str, str]:
    """Normalised package name to its requirement with hashes, in the order of the file.

    Raises:
        UsageFault: There is no such file.
    """
    if not path.is_file():
        name = path.parent.name if path.name == OWN_LOCK else "all"
        raise UsageFault(f"{path} is missing; create it with: fdbench env lock {name}")
    return _blocks(path.read_text("utf-8"))


def versions(lock: Mapping[str, str]) -> dict[str, str]:
    """Package to the version that a lock pins; only those of this kind of platform may be there."""
    return {name: _PIN.match(block)[2] for name, block in lock.items()}  # type: ignore[index]


def requirements(name: str, folder: Path, *, torch_from_base: bool) -> dict[str, str]:
    """The requirement files of an image's layers, by file name.

    Args:
        name: Environment.
        folder: Where environments are declared.
        torch_from_base: The base image brings a PyTorch of its own, whose hash is in no lock.
    """
    common, own = read_lock(folder / COMMON_LOCK), read_lock(folder / name / OWN_LOCK)
    from_base = ""
    if torch_from_base and "torch" in common:
        from_base = f"torch=={versions(common)['torch']}\n"
        common = {package: text for package, text in common.items() if not _CUDA.match(package)}
    return {
        "torch.txt": "".join(common.values()),
        "torch_from_base.txt": from_base,
        "requirements.txt": "".join(own.values()),
    }


def stale(declared: Environment, name: str, folder: Path) -> str:
    """What of a declaration its lock does not have; empty if it has all."""
    locked = versions(read_lock(folder / COMMON_LOCK) | read_lock(folder / name / OWN_LOCK))
    for requirement in declared.packages + declared.no_deps:
        package, _, version = requirement.partition("==")
        package = normalised(package.partition("[")[0])
        if locked.get(package) != version:
            return f"{requirement} is declared, {locked.get(package, 'nothing')} is locked"
    return ""


def write_locks(
    declared: Mapping[str, Environment], names: Sequence[str], folder: Path = ENVIRONMENTS_DIR
) -> list[Path]:
    """Resolve environments and write their locks, the common one first; returns the files."""
    torch = {r for one in declared.values() for r in one.packages if r.startswith("torch==")}
    if len(torch) != 1:
        raise UsageFault(f"all environments must declare the same torch, not {sorted(torch)}")
    common = _resolve(sorted(torch), folder)
    written = [_write(folder / COMMON_LOCK, common.values())]
    for name in names:
        own = _resolve(declared[name].packages, folder)
        if declared[name].no_deps:
            own |= _resolve(declared[name].no_deps, folder, "--no-deps")
        left = [own[package] for package in sorted(own) if package not in common]
        written.append(_write(folder / name / OWN_LOCK, left))
    return written


def normalised(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _write(path: Path, blocks: Iterable[str]) -> Path:
    path.write_text(_HEADER + "".join(blocks), encoding="utf-8")
    return path


def _resolve(packages: Sequence[str], folder: Path, *flags: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as place:
        wanted = Path(place) / "requirements.in"
        wanted.write_text("\n".join(packages))
        command = ["uv", "pip", "compile", "--universal", "--generate-hashes", "--no-header"]
        command += ["--no-annotate", "--python-version", "3.11"]
        command += ["--constraints", str(folder / "constraints.txt"), *flags, str(wanted)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError as error:
            raise EnvironmentFault(
                "uv is needed to resolve the locks; install it with: pip install uv"
            ) from error
    if done.returncode:
        raise EnvironmentFault(f"uv found no solution:\n{done.stderr.strip()}")
    return _blocks(done.stdout)


def _blocks(text: str) -> dict[str, str]:
    """Split a requirements file: a package's line and the hashes below it."""
    blocks: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        found = _PIN.match(line)
        if found:
            name = normalised(found[1])
            blocks[name] = ""
            if _ELSEWHERE.search(line):
                del blocks[name]
                name = ""
        if name and not line.startswith("#"):
            blocks[name] += line
    return blocks
