"""Pins the real checkpoints of the recipes and verifies them later.

A pin is a commit of a repository on the Hugging Face hub with digest and size of every file that a
recipe needs from it, recorded at the first download. A name such as ``main`` means something else
next month; a pin does not.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, constants, get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.environments.built import cache_dir
from harness.errors import EnvironmentFault, IntegrityFault, UsageFault
from harness.plan import suites
from harness.store.durable import DISK_ERRORS, write_text
from runners.protocol.wire import sha256_file

LOCK_FILE = suites.SUITES_DIR / "weights.lock.json"
_NO_WEIGHTS = (".md", ".gitattributes", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".pdf")
"""Endings of files in a repository that no runner loads."""
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """One file of a checkpoint."""

    __pydantic_config__ = _STRICT

    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A checkpoint as it was at its first download."""

    __pydantic_config__ = _STRICT

    repository: str
    revision: str
    """Commit, never a branch."""
    files: dict[str, PinnedFile]
    """By path in the repository."""


@dataclass(frozen=True, kw_only=True)
class Pins:
    """All of ``weights.lock.json``."""

    __pydantic_config__ = _STRICT

    checkpoints: dict[str, Pin] = field(default_factory=dict)
    """By name in ``recipes.toml``."""


_PINS = TypeAdapter(Pins)


class PinState(StrEnum):
    """How a pinned file is found."""

    GOOD = "good"
    CHANGED = "changed"
    MISSING = "missing"
    UNPINNED = "not pinned"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One file of a checkpoint on this machine."""

    checkpoint: str
    path: str
    """In the repository; empty for a checkpoint that is not pinned."""
    state: PinState
    note: str = ""


def checkpoints_of(slugs: Sequence[str]) -> list[str]:
    """Checkpoints of some recipes, or of all where none is named, each once.

    Raises:
        UsageFault: There is no such recipe.
    """
    recipes = suites.load_recipes().recipes
    chosen = [suites.pick("recipe", slug, recipes) for slug in slugs] or list(recipes)
    return list(dict.fromkeys(name for slug in chosen for name in recipes[slug].checkpoints))


def read_pins(path: Path) -> Pins:
    """Read a lock file; one that is not there pins nothing.

    Raises:
        IntegrityFault: It is not what :func:`pin` writes.
    """
    if not path.exists():
        return Pins()
    try:
        return _PINS.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityFault(f"{path}: {place}: {first['msg']}") from error


def pin(checkpoints: Iterable[str], path: Path) -> Iterator[tuple[str, Pin]]:
    """Download checkpoints and record what came; one that is pinned must come as it is pinned.

    Each is in the lock file once it is yielded.

    Raises:
        EnvironmentFault: The hub gives no access, cannot be reached, or the disk is too small.
        IntegrityFault: A file is not what its pin, or the hub itself, says.
        UsageFault: The repository has no such files.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    for name in checkpoints:
        with FileLock(cache_dir() / "weights-pin.lock"):
            pins = read_pins(path)
            made = _fetch(name, pins.checkpoints.get(name) or _resolve(name))
            if pins.checkpoints.get(name) != made:
                known = dict(sorted({**pins.checkpoints, name: made}.items()))
                text = _PINS.dump_json(replace(pins, checkpoints=known), indent=1)
                write_text(path, text.decode() + "\n")
        yield name, made


def verify(checkpoints: Iterable[str], pins: Pins) -> Iterator[Found]:
    """Compare files in the local cache with their pins; asks nobody."""
    for name in checkpoints:
        known = pins.checkpoints.get(name)
        if known is None:
            yield Found(checkpoint=name, path="", state=PinState.UNPINNED)
            continue
        for path, wanted in known.files.items():
            local = _local(known, path)
            if local is None:
                yield Found(checkpoint=name, path=path, state=PinState.MISSING)
                continue
            note = _differs(
                PinnedFile(sha256=sha256_file(local), size=local.stat().st_size), wanted
            )
            state = PinState.CHANGED if note else PinState.GOOD
            yield Found(checkpoint=name, path=path, state=state, note=note)


def _resolve(name: str) -> Pin:
    """The checkpoint's files at the newest commit, with what the hub says of each."""
    repository, inside = _parts(name)
    with _hub_faults(repository):
        info = HfApi().model_info(repository, files_metadata=True)
    files = {
        file.rfilename: PinnedFile(sha256=file.lfs.sha256 if file.lfs else "", size=file.size or 0)
        for file in info.siblings or []
        if (not inside or file.rfilename == inside or file.rfilename.startswith(f"{inside}/"))
        and not file.rfilename.lower().endswith(_NO_WEIGHTS)
    }
    if not files or not info.sha:
        raise UsageFault(
            f"{repository} contains no {inside or 'weights'}, which recipes.toml names as {name}"
        )
    return Pin(repository=repository, revision=info.sha, files=files)


def _fetch(name: str, wanted: Pin) -> Pin:
    """Download what is not here yet; every digest is of the file on this disk."""
    missing = [path for path in wanted.files if _local(wanted, path) is None]
    _require_space(name, sum(wanted.files[path].size for path in missing))
    with _hub_faults(wanted.repository):
        for path in missing:
            hf_hub_download(
                wanted.repository,
                path,
                revision=wanted.revision,
                cache_dir=constants.HF_HUB_CACHE,
            )
    files = {}
    for path, file in wanted.files.items():
        local = _local(wanted, path)
        if local is None:
            raise EnvironmentFault(f"{name}: {path} was downloaded but is not in the cache")
        found = PinnedFile(sha256=sha256_file(local), size=local.stat().st_size)
        if note := _differs(found, file):
            raise IntegrityFault(
                f"{name}: {path} does not match: {note}\nThe file is {local}; nothing was "
                "pinned. Remove it and pin again, or find out who changed it"
            )
        files[path] = found
    return replace(wanted, files=files)


def _differs(found: PinnedFile, wanted: PinnedFile) -> str:
    """How a file differs from its pin, or from what the hub says where that is all there is."""
    if found.size != wanted.size:
        return f"{found.size} bytes, not {wanted.size}"
    if wanted.sha256 and found.sha256 != wanted.sha256:
        return f"sha256 {found.sha256[:16]}…, not {wanted.sha256[:16]}…"
    return ""


def _local(known: Pin, path: str) -> Path | None:
    """A file in the cache of the hub's library; None if it is not there."""
    found = try_to_load_from_cache(
        known.repository, path, cache_dir=constants.HF_HUB_CACHE, revision=known.revision
    )
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def _parts(name: str) -> tuple[str, str]:
    """Repository, and the file or folder in it; empty for all of it."""
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    return f"{owner}/{repository}", inside


def _require_space(name: str, size: int) -> None:
    """Refuse a download that cannot end well.

    Raises:
        EnvironmentFault: The disk has no room for it.
    """
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise EnvironmentFault(
            f"{name} needs {size / 1e9:.1f} GB, but the disk at {folder} has only "
            f"{free / 1e9:.1f} GB free; set HF_HUB_CACHE to a folder on a larger disk"
        )


@contextmanager
def _hub_faults(repository: str) -> Iterator[None]:
    """Turn what the hub's library raises into one message.

    Raises:
        EnvironmentFault: Something of it happened.
    """
    try:
        yield
    except (httpx2.HTTPError, OSError) as error:
        raise EnvironmentFault(f"{repository}: {_explain(error, repository)}") from error


def _explain(error: Exception, repository: str) -> str:
    page = f"{constants.ENDPOINT}/{repository}"
    login = "log in with: hf auth login, or set HF_TOKEN"
    who = "your token has no access" if get_token() else f"no token was found; {login}"
    # The first that fits: the library's errors are subclasses of one another.
    said: Mapping[type[Exception], str] = {
        OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and the cache lacks some of it; unset that",
        GatedRepoError: f"gated: accept the terms at {page}; {who}",
        RepositoryNotFoundError: f"does not exist or is private: {who}",
        RevisionNotFoundError: "the pinned commit no longer exists",
    }
    for kind, words in said.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answers {error.response.status_code}; try again later"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"could not be written to {constants.HF_HUB_CACHE}: {error.strerror}"
    return (
        f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}); check the network, or "
        f"copy a filled cache to {constants.HF_HUB_CACHE}"
    )
