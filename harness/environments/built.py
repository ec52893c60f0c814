"""Environments on disk: a virtual environment each, and the staged code of its side.

A built environment is named by the digest of what goes into it. Adapter and protocol are not part
of that: they are staged under a digest of their own, so that editing one rebuilds nothing.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.environments import host_packages, sources
from harness.environments.declared import (
    ENVIRONMENTS_DIR,
    PROJECT_DIR,
    Environment,
    command_words,
    declared_in,
)
from harness.errors import EnvironmentFault
from harness.machine.owners import claimed, making, rename_unless_there
from runners.protocol.wire import sha256_file

_MARKER = "fdbench-built.json"
_PROGRAMS = ("python", "torchrun", "flashdreams-run")
"""First words of commands, all of them in an environment's ``bin``."""
_RUNNER_CONFIGS = "FLASHDREAMS_RUNNER_CONFIGS"
_DIGEST_GLOB = 12 * "[0-9a-f]"


@dataclass(frozen=True, kw_only=True)
class BuiltEnvironment:
    """An environment on disk, ready to run a side."""

    name: str
    declared: Environment
    digest: str
    """Of declared packages, constraints, Python and platform."""
    folder: Path
    code_digest: str
    """Of adapter and protocol as staged."""
    code: Path
    """Folder with the staged ``runners`` package and the adapter."""
    installed: tuple[str, ...] = ()
    """Name and version of every package it sees, as ``pip freeze`` prints them."""
    image: str = ""
    """Id of the container image that ``folder`` is in; empty for a virtual environment."""
    source: Path | None = None
    """Folder with the staged upstream code, where the environment declares one."""

    def command(self, slug: str, job: Path, gpus: int = 1) -> list[str]:
        """The process to launch for one job; one rank a GPU where there are several."""
        places = {name: str(self.folder / "bin" / name) for name in _PROGRAMS}
        places["adapter.py"] = str(self.code / "adapter.py")
        words = command_words(self.declared, gpus)
        return [places.get(word, word).format(slug=slug, job=job) for word in words]

    def variables(self) -> dict[str, str]:
        """Environment variables for the process, the staged code among them."""
        variables = {**self.declared.variables, "PYTHONPATH": str(self.code)}
        if self.declared.slugs:
            # Staged runners are not installed, so the library finds them through its own variable.
            variables |= {_RUNNER_CONFIGS: self.declared.runner_configs}
        if self.source:
            # Staged code and source stay as they were verified.
            variables |= {"FDBENCH_SOURCE": str(self.source), "PYTHONDONTWRITEBYTECODE": "1"}
        if self.declared.source:
            variables |= {"FDBENCH_SOURCE_COMMIT": self.declared.source.commit}
        if self.source and self.declared.source:
            roots = (str(self.source / root) for root in self.declared.source.roots)
            variables |= {"PYTHONPATH": os.pathsep.join([str(self.code), *roots])}
        return variables


def cache_dir() -> Path:
    """Where environments, staged code, weights and noise are kept: ``FDBENCH_CACHE``."""
    return Path(os.environ.get("FDBENCH_CACHE") or Path.home() / ".cache" / "fdbench").resolve()


def build_environment(
    name: str, report: Callable[[str], None], folder: Path = ENVIRONMENTS_DIR
) -> BuiltEnvironment:
    """Return the environment, made first if it is not there or was left half made.

    Args:
        name: Folder name under ``folder``.
        report: Told in one line what takes time.
        folder: Where environments are declared.

    Raises:
        UsageFault: There is no such environment.
        EnvironmentFault: It cannot be made.
    """
    declared = declared_in(folder, name)
    digest = _digest(declared)
    target = folder_of(name, declared)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not (target / _MARKER).exists():
            _make(name, declared, target, report)
    code_digest, code = stage_code(folder / name)
    return BuiltEnvironment(
        name=name,
        declared=declared,
        digest=digest,
        folder=target,
        code_digest=code_digest,
        code=code,
        installed=tuple(json.loads((target / _MARKER).read_text()).get("packages", ())),
        source=stage_source(name, declared, report),
    )


def _make(name: str, declared: Environment, target: Path, report: Callable[[str], None]) -> None:
    """Fill an environment's folder from scratch, unless another host is filling it."""
    with claimed(target):
        if (target / _MARKER).exists():  # another host has made it meanwhile
            return
        report(f"building environment {name} (a few minutes)")
        shutil.rmtree(target, ignore_errors=True)
        _install(name, declared, target)
        _write_marker(target, name, _digest(declared))


def stage_source(name: str, declared: Environment, report: Callable[[str], None]) -> Path | None:
    """Folder with an environment's upstream code as it pins it; None if it has none."""
    pinned = declared.source
    return sources.stage(name, pinned, _sources_dir(), report) if pinned else None


def _sources_dir() -> Path:
    return cache_dir() / "sources"


def folder_of(name: str, declared: Environment) -> Path:
    """Where the environment stands, or would stand, as it is declared now."""
    return cache_dir() / "envs" / f"{name}-{_digest(declared)[:12]}"


def is_built(name: str, declared: Environment) -> bool:
    """Whether the environment stands on disk as it is declared now."""
    return (folder_of(name, declared) / _MARKER).exists()


def built_copies(name: str) -> list[tuple[str, Path, int]]:
    """Digest, folder and size in bytes of every built environment of that name."""
    found = []
    for marker in sorted((cache_dir() / "envs").glob(f"{name}-{_DIGEST_GLOB}/{_MARKER}")):
        digest = json.loads(marker.read_text())["digest"]
        size = sum(path.lstat().st_size for path in marker.parent.rglob("*") if path.is_file())
        found.append((digest, marker.parent, size))
    return found


def remove_environment(name: str) -> list[Path]:
    """Delete every built environment of that name, half-made ones too, and its source."""
    folders = [
        path for path in (cache_dir() / "envs").glob(f"{name}-{_DIGEST_GLOB}") if path.is_dir()
    ]
    staged = [path for path in _sources_dir().glob(f"{name}-{_DIGEST_GLOB}") if path.is_dir()]
    for folder in folders:
        shutil.rmtree(folder)
    for folder in staged:
        sources.discard(folder)
    for folder in (*folders, *staged):
        Path(f"{folder}.lock").unlink(missing_ok=True)
    return [*folders, *staged]


def _digest(declared: Environment) -> str:
    """Of everything that decides which files an environment gets."""
    wheels = host_packages.wheel_folder()
    constraints = (ENVIRONMENTS_DIR / "constraints.txt").read_text("utf-8")
    parts: dict[str, object] = {
        "packages": declared.packages,
        "no_deps": declared.no_deps,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    parts |= host_packages.identity(wheels) if wheels else {"constraints": constraints}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _install(name: str, declared: Environment, target: Path) -> None:
    wheels = host_packages.wheel_folder()
    if wheels:
        host_packages.install(declared.packages, declared.no_deps, target, wheels)
        return
    _run(name, [sys.executable, "-m", "venv", str(target)])
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    constraints = ["-c", str(ENVIRONMENTS_DIR / "constraints.txt")]
    _run(name, [*pip, *constraints, *declared.packages])
    if declared.no_deps:
        _run(name, [*pip, "--no-deps", *declared.no_deps])


def _run(name: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        tail = "\n".join(lines[-3:] or (done.stdout + done.stderr).splitlines()[-3:])
        raise EnvironmentFault(
            f"environment {name} could not be built: {' '.join(command[1:4])} failed:\n{tail}\n"
            f"Check network and package index, then: fdbench env build {name}"
        )


def _write_marker(target: Path, name: str, digest: str) -> None:
    # `list` and not `freeze`, which names the folder that a local wheel came from.
    command = [str(target / "bin" / "python"), "-m", "pip", "list", "--format", "freeze"]
    side = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603
        [*command, "--disable-pip-version-check"],
        env=side,
        capture_output=True,
        text=True,
        check=True,
    )
    marker = {"name": name, "digest": digest, "packages": done.stdout.splitlines()}
    (target / _MARKER).write_text(json.dumps(marker, indent=1))


def stage_code(environment_dir: Path) -> tuple[str, Path]:
    """Copy adapter and protocol under the digest of their bytes, so that no edit reaches a run."""
    files = dict(_code_files(environment_dir))
    content = _digests(files)
    digest = _digest_of(content)
    target = cache_dir() / "code" / digest[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / "code.lock"):
        if not _holds(target, content):
            _stage(files, target)
    return digest, target


def _stage(files: Mapping[str, Path], target: Path) -> None:
    """Copy files beside their place and rename their folder there: whole, or not there."""
    with making(cache_dir()) as made:
        for name, path in files.items():
            (made / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, made / "code" / name)
        shutil.rmtree(target, ignore_errors=True)
        rename_unless_there(made / "code", target)


def code_digest(environment_dir: Path) -> str:
    """Digest of an environment's adapter and protocol as they are now."""
    return _digest_of(_digests(dict(_code_files(environment_dir))))


def _digest_of(content: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in sorted(files.items())}


def _holds(folder: Path, content: Mapping[str, str]) -> bool:
    """Whether a folder has these files with these digests: it may be half made, or edited."""
    return all(
        (folder / name).is_file() and sha256_file(folder / name) == digest
        for name, digest in content.items()
    )


def _code_files(environment_dir: Path) -> Iterator[tuple[str, Path]]:
    runners_dir = PROJECT_DIR / "runners"
    for path in runners_dir.rglob("*.py"):
        yield str(path.relative_to(PROJECT_DIR)), path
    if (environment_dir / "adapter.py").exists():
        yield "adapter.py", environment_dir / "adapter.py"
        for path in environment_dir.parent.glob("*.py"):  # what adapters share
            yield f"{environment_dir.parent.name}/{path.name}", path
