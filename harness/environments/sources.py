"""Upstream sources: pinned to a commit, verified by content, staged read-only.

A source comes from its public URL at the pinned commit, or, on a machine without network, from
``FDBENCH_SOURCES/<environment>/``: a clone, or plain files. Either way it is used only if the files
under the declared paths have the digest that the environment file holds.
"""

import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from harness.errors import EnvironmentFault
from harness.machine.owners import rename_unless_there
from harness.records import Source
from runners.protocol.wire import sha256_file

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATER_CACHES = ("__pycache__",)
"""Folders that Python leaves in a source; never staged, so never used."""


def stage(name: str, source: Source, cache: Path, report: Callable[[str], None]) -> Path:
    """Return a folder with exactly the pinned files of an environment's source.

    Args:
        name: Of the environment.
        source: What it pins.
        cache: Where sources are staged.
        report: Told in one line what takes time.

    Raises:
        EnvironmentFault: The source is unpinned, at another commit, dirty, altered or unreachable.
    """
    _require_pinned(name, source)
    target = cache / f"{name}-{source.tree_sha256[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"), tempfile.TemporaryDirectory(dir=cache) as scratch:
        # A folder that was named is verified even where its content is staged already.
        given = _given_folder(name)
        is_staged = _is_staged(target, source)
        if given is None and is_staged:
            return target
        if given is None:
            report(f"fetching {source.url} at {source.commit[:7]}")
            given = _fetch(name, source, Path(scratch) / "clone")
        copy = Path(scratch) / "tree"
        _copy(given, _files(name, source, given), copy)
        _require_digest(name, source, copy, given)
        if not is_staged:
            discard(target)
            rename_unless_there(copy, target)
            for path in (target, *target.rglob("*")):
                path.chmod(path.stat().st_mode & ~0o222)
    return target


def tree_digest(folder: Path, files: Iterable[str]) -> str:
    """Digest of files and their names: SHA-256 of what ``sha256sum`` prints for them in byte order.

    In a clone: ``git ls-files -z PATHS | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum``.
    """
    lines = (f"{sha256_file(folder / name)}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def discard(folder: Path) -> None:
    """Remove a staged source; nothing to do where there is none."""
    if folder.exists():
        for below in (folder, *folder.rglob("*/")):
            below.chmod(below.stat().st_mode | stat.S_IWUSR)
        shutil.rmtree(folder)


def _is_staged(target: Path, source: Source) -> bool:
    """Whether a staged source is whole and untouched; Python would prefer planted bytecode."""
    if not target.is_dir() or list(target.rglob(_LATER_CACHES[0])):
        return False
    return tree_digest(target, _walk(target)) == source.tree_sha256


def _require_pinned(name: str, source: Source) -> None:
    pins = (("commit", _COMMIT, 40), ("tree_sha256", _DIGEST, 64))
    for key, pattern, digits in pins:
        value = getattr(source, key)
        if not pattern.fullmatch(value):
            raise EnvironmentFault(
                f"environment {name}: source is unpinned: {key} is {value!r}, "
                f"expected {digits} hex digits (upstream_envs/{name}/env.toml)"
            )


def _given_folder(name: str) -> Path | None:
    """The source's folder on a machine without network, if ``FDBENCH_SOURCES`` is set."""
    root = os.environ.get("FDBENCH_SOURCES")
    if not root:
        return None
    folder = Path(root).resolve() / name
    if not folder.is_dir():
        raise EnvironmentFault(
            f"environment {name}: FDBENCH_SOURCES is {root}, but it has no folder {name}\n"
            "Put the source there, or unset the variable to download it"
        )
    return folder


def _fetch(name: str, source: Source, clone: Path) -> Path:
    """Clone the one commit, as far as the pinned paths go where the server can leave out files."""
    clone.mkdir()
    _git(name, clone, "init", "--quiet")
    _git(name, clone, "remote", "add", "origin", source.url)
    _git(name, clone, "sparse-checkout", "set", "--no-cone", *(f"/{path}" for path in source.paths))
    fetch = ("fetch", "--quiet", "--depth=1", "--filter=blob:none")
    _git(name, clone, *fetch, "origin", source.commit)
    # Content as committed: line endings and large-file filters of this machine stay out.
    as_committed = ("-c", "core.autocrlf=false", "-c", "filter.lfs.smudge=cat")
    _git(name, clone, *as_committed, "checkout", "--quiet", "--detach", source.commit)
    return clone


def _files(name: str, source: Source, folder: Path) -> list[str]:
    """Names of the files under the pinned paths, of a clean clone or of plain files.

    Raises:
        EnvironmentFault: A clone is dirty or at another commit, a path is missing or a link.
    """
    if (folder / ".git").exists():
        _require_clean(name, source, folder)
        listed = _git(name, folder, "ls-files", "-z", "--", *source.paths)
        files = [file for file in listed.split("\0") if file]
    else:
        files = [file for path in source.paths for file in _walk(folder, folder / path)]
    missing = [
        path
        for path in source.paths
        if not any(file == path or file.startswith(f"{path}/") for file in files)
    ]
    if missing:
        raise EnvironmentFault(f"environment {name}: {folder} has no {' and no '.join(missing)}")
    odd = [file for file in files if (folder / file).is_symlink() or not (folder / file).is_file()]
    if odd:
        raise EnvironmentFault(f"environment {name}: {folder / odd[0]} is not a regular file")
    return files


def _walk(folder: Path, below: Path | None = None) -> list[str]:
    below = below or folder
    paths = [below] if below.is_file() else below.rglob("*")
    return [
        str(path.relative_to(folder))
        for path in paths
        if (path.is_symlink() or not path.is_dir()) and not set(path.parts) & set(_LATER_CACHES)
    ]


def _require_clean(name: str, source: Source, clone: Path) -> None:
    head = _git(name, clone, "rev-parse", "HEAD").strip()
    if head != source.commit:
        raise EnvironmentFault(
            f"environment {name}: wrong commit: {clone} is at {head[:12]}, "
            f"expected {source.commit[:12]}\n"
            f"Fix it with: {shlex.join(['git', '-C', str(clone), 'checkout', source.commit])}"
        )
    status = _git(name, clone, "status", "--porcelain", "--untracked-files=all")
    changes = [line for line in status.splitlines() if _LATER_CACHES[0] not in line]
    if changes:
        raise EnvironmentFault(
            f"environment {name}: dirty source: {clone} differs from {source.commit[:12]}: "
            f"{changes[0].strip()!r} and {len(changes) - 1} more\n"
            f"See what differs: {shlex.join(['git', '-C', str(clone), 'status'])}"
        )


def _require_digest(name: str, source: Source, copy: Path, origin: Path) -> None:
    found = tree_digest(copy, _walk(copy))
    if found != source.tree_sha256:
        raise EnvironmentFault(
            f"environment {name}: altered source: the pinned paths in {origin} have "
            f"digest {found}, expected {source.tree_sha256} for {source.commit[:12]}\n"
            f"Restore that commit's files, or change the pin in upstream_envs/{name}/env.toml"
        )


def _copy(folder: Path, files: Iterable[str], target: Path) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target / file)


def _git(name: str, folder: Path, *words: str) -> str:
    """Run git in a clone; variables that would send it elsewhere, as inside a hook, are dropped."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *words],  # noqa: S607
            env={**variables, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(f"environment {name} needs git, which is not installed") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentFault(
            f"environment {name}: git {' '.join(words)} failed: {last}\n"
            f"Without a network, put its files in FDBENCH_SOURCES/{name}/"
        )
    return done.stdout
