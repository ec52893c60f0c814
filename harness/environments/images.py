"""Environments as container images: named by what went into them, built, verified, moved.

The build context holds the locked requirements and nothing of this machine: how a package index is
reached is the base image's affair, so no secret can end in a layer.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import BuildError, ImageLoadError, ImageNotFound
from filelock import FileLock

from harness.environments import requirement_locks
from harness.environments.built import BuiltEnvironment, cache_dir, stage_code, stage_source
from harness.environments.declared import ENVIRONMENTS_DIR, declared_in, load_environments
from harness.errors import EnvironmentFault, UsageFault, fdbench_command
from harness.sandboxes.engine import connect, engine_faults
from harness.sandboxes.start import run_to_end
from harness.store.durable import beside

DEFAULT_BASE = "nvidia/cuda:13.0.2-base-ubuntu24.04"
"""For x86 and Arm; the driver comes from the host, CUDA's libraries with PyTorch."""
TORCH_LABEL = "fdbench.torch"
"""On a base image: ``base`` where its own PyTorch takes the place of the locked one."""
HOME = Path("/opt/env")
"""Where the environment stands inside an image."""
_NAME, _DIGEST, _BASE = "fdbench.environment", "fdbench.digest", "fdbench.base"
_CONTENTS_SCRIPT = Path(__file__).parent.parent / "sandboxes" / "contents.py"
_CONTENTS = "/opt/fdbench/contents.json"
_NOT_LOCKED = {"pip", "setuptools"}
"""What a virtual environment brings along."""
_CLI_VARIABLES = ("PATH", "HOME", "DOCKER_HOST")
_VERIFY_S = 600


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image on this machine."""

    name: str
    """Of the environment."""
    tag: str
    image_id: str
    """Content address of its configuration and so of its layers."""
    digest: str
    """Of what went into it."""
    base: str
    """Id of its base image."""
    num_bytes: int
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a verified image holds."""

    python: str
    packages: dict[str, str]
    """Name to version."""
    num_files: int


def build(
    name: str,
    report: Callable[[str], None],
    folder: Path = ENVIRONMENTS_DIR,
    base: str = "",
    *,
    buildkit: bool = False,
) -> BuiltEnvironment:
    """Return the environment as a verified image, built first if it is not there.

    Args:
        name: Folder name under ``folder``.
        report: Told in one line what takes time.
        folder: Where environments are declared.
        base: Base image; empty for that of an image that is here already, else the default.
        buildkit: Build with ``docker build`` and BuildKit instead of the engine's own builder.

    Raises:
        UsageFault: There is no such environment, or its lock is missing or stale.
        EnvironmentFault: It cannot be built, or is not what it was built as.
    """
    one = declared_in(folder, name)
    (cache_dir() / "envs").mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / "envs" / f"image-{name}.lock"):
        image = find(name, folder, base)
        if image is None:
            report(f"building the image of {name} (a few minutes)")
            image = _build(name, folder, base or DEFAULT_BASE, buildkit=buildkit)
    report(f"verifying the image of {name}")
    seen = verify(image, folder)
    code_digest, code = stage_code(folder / name)
    return BuiltEnvironment(
        name=name,
        declared=one,
        digest=image.image_id.removeprefix("sha256:"),
        folder=HOME,
        code_digest=code_digest,
        code=code,
        installed=tuple(
            f"{package}=={seen.packages[package]}" for package in sorted(seen.packages)
        ),
        image=image.image_id,
        source=stage_source(name, one, report),
    )


def find(name: str, folder: Path = ENVIRONMENTS_DIR, base: str = "") -> Image | None:
    """The image of an environment as it is declared and locked now; None if it is not here.

    Raises:
        UsageFault: There are several, on different bases, and ``base`` does not say which.
        EnvironmentFault: ``base`` is not here and cannot be pulled.
    """
    _require_fresh(name, folder)
    found = [image for image in images_of(name) if is_current(image, folder)]
    if base:
        base_id, _ = _base(base)
        found = [image for image in found if image.base == base_id]
    if len(found) > 1:
        listed = "\n".join(f"  {image.tag}  base {image.base[7:19]}" for image in found)
        raise UsageFault(f"{name} has images on several bases; choose one with --base:\n{listed}")
    return found[0] if found else None


def images_of(name: str) -> list[Image]:
    """Every image of an environment, those of earlier declarations too."""
    with engine_faults("images cannot be listed"):
        found = connect().images.list(filters={"label": f"{_NAME}={name}"})
    return [_image(one.attrs) for one in found if one.tags]


def is_current(image: Image, folder: Path = ENVIRONMENTS_DIR) -> bool:
    """Whether an image is what would be built on its base now."""
    return image.digest == _expected(image, folder)


def verify(image: Image, folder: Path = ENVIRONMENTS_DIR) -> Contents:
    """Start an image and compare packages and files with its lock and its record.

    Raises:
        EnvironmentFault: It is not what was built.
    """
    script = _CONTENTS_SCRIPT.read_text("utf-8")
    command = [str(HOME / "bin" / "python"), "-I", "-c", script, str(HOME), _CONTENTS]
    status, out = run_to_end(command, _VERIFY_S, image=image.image_id)
    if status:
        raise EnvironmentFault(
            f"{image.tag} could not be inspected: {out.strip()[-300:]}{_again(image)}"
        )
    seen = json.loads(out)
    faults = [f"{path} is not as it was built" for path in seen["changed"]]
    found = {
        requirement_locks.normalised(name): version for name, version in seen["packages"].items()
    }
    for package, version in _locked(image, folder).items():
        there = found.pop(package, None)
        # A build of PyTorch that the base brings has a local version: 2.13.0+cpu.
        if there is not None and there.partition("+")[0] != version:
            faults.append(f"{package} is {there}, locked is {version}")
    faults += [f"{package} is not locked" for package in sorted(found.keys() - _NOT_LOCKED)]
    if faults:
        raise EnvironmentFault(f"{image.tag} failed verification: {faults[0]}{_again(image)}")
    return Contents(python=seen["python"], packages=seen["packages"], num_files=seen["num_files"])


def remove(name: str) -> list[str]:
    """Remove every image of an environment; returns their tags."""
    tags = [image.tag for image in images_of(name)]
    for tag in tags:
        with engine_faults(f"{tag} cannot be removed"):
            connect().images.remove(tag)
    return tags


def export(image: Image, path: Path) -> None:
    """Write an image as an archive for a machine without a registry.

    Raises:
        UsageFault: The path is a folder.
        EnvironmentFault: The engine does not give the image, or it cannot be written there.
    """
    if path.is_dir():
        raise UsageFault(
            f"{path} is a folder; give a file name: "
            f"{fdbench_command('env', 'export', image.name, path / f'{image.name}.tar')}"
        )
    made = beside(path)
    try:
        with engine_faults(f"{image.tag} cannot be exported"), made.open("wb") as file:
            for block in connect().images.get(image.tag).save(chunk_size=1 << 20, named=True):
                file.write(block)
        made.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} could not be written: {error.strerror}\n"
            f"Choose another path: fdbench env export {image.name} PATH"
        ) from error
    finally:
        with suppress(OSError):  # it has its name, or was never made
            made.unlink()


def load(path: Path) -> list[Image]:
    """Read an exported archive into the engine; returns its images.

    Raises:
        UsageFault: It is no archive of an environment.
    """
    with engine_faults(f"{path} cannot be imported"), path.open("rb") as file:
        try:
            loaded = connect().images.load(file)
        except ImageLoadError as error:  # the engine is well, the file is not
            raise UsageFault(
                f"{path} is not an image that the engine can load: {error}\n"
                "Export it again where the image is: "
                f"{fdbench_command('env', 'export', 'NAME', path.name)}"
            ) from error
    found = [_image(one.attrs) for one in loaded if _NAME in (one.labels or {}) and one.tags]
    if not found:
        raise UsageFault(
            f"{path} contains no fdbench environment; make one with: fdbench env export"
        )
    return found


def _locked(image: Image, folder: Path) -> dict[str, str]:
    return requirement_locks.versions(
        requirement_locks.read_lock(folder / requirement_locks.COMMON_LOCK)
        | requirement_locks.read_lock(folder / image.name / requirement_locks.OWN_LOCK)
    )


def _require_fresh(name: str, folder: Path) -> None:
    old = requirement_locks.stale(load_environments(folder)[name], name, folder)
    if old:
        raise UsageFault(f"{folder / name}: {old}; update the lock: fdbench env lock {name}")


def _again(image: Image) -> str:
    return f"\nRebuild it: fdbench env rm {image.name} && fdbench env build {image.name}"


def _expected(image: Image, folder: Path) -> str:
    """Digest of what would go into an image on the same base now."""
    with engine_faults(f"{image.tag} cannot be read"):
        labels = connect().images.get(image.image_id).labels
    context = _context(image.name, folder, torch_from_base=labels.get(TORCH_LABEL) == "base")
    return _digest(context, image.base)


def _base(reference: str) -> tuple[str, bool]:
    """Id of a base image, pulled if it is not here, and whether PyTorch comes from it."""
    client = connect()
    advice = "Name one that is here: --base IMAGE; or run without containers: --sandbox process"
    with engine_faults(f"base image {reference} is not here and could not be pulled", advice):
        try:
            found = client.images.get(reference)
        except ImageNotFound:
            found = client.images.pull(reference)
    return str(found.id), found.labels.get(TORCH_LABEL) == "base"


def _context(name: str, folder: Path, *, torch_from_base: bool) -> dict[str, str]:
    """Every file of the build context; an environment may have a Dockerfile of its own."""
    own = folder / name / "Dockerfile"
    dockerfile = own if own.is_file() else ENVIRONMENTS_DIR / "Dockerfile"
    return requirement_locks.requirements(name, folder, torch_from_base=torch_from_base) | {
        "Dockerfile": dockerfile.read_text("utf-8"),
        "contents.py": _CONTENTS_SCRIPT.read_text("utf-8"),
    }


def _digest(context: Mapping[str, str], base_id: str) -> str:
    parts = {"context": context, "base": base_id}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _build(name: str, folder: Path, base: str, *, buildkit: bool) -> Image:
    base_id, torch_from_base = _base(base)
    context = _context(name, folder, torch_from_base=torch_from_base)
    digest = _digest(context, base_id)
    tag = f"fdbench/{name}:{digest[:12]}"
    labels = {_NAME: name, _DIGEST: digest, _BASE: base_id}
    # An engine may not know an id as a base; the name it was given by is checked right after.
    start = _build_with_cli if buildkit else _build_with_engine
    start(context, {"BASE": base}, labels, tag)
    with engine_faults(f"{tag} cannot be read"):
        image = _image(connect().images.get(tag).attrs)
    if _base(base)[0] != base_id:
        raise EnvironmentFault(f"base image {base} changed during the build; build {name} again")
    return image


def _build_with_engine(
    context: Mapping[str, str], args: dict[str, str], labels: dict[str, str], tag: str
) -> None:
    with engine_faults(f"{tag} cannot be built"):
        try:
            connect().images.build(
                fileobj=_pack(context),
                custom_context=True,
                buildargs=args,
                labels=labels,
                tag=tag,
                rm=True,
                forcerm=True,
                timeout=3600,
            )
        except BuildError as error:
            said = "".join(str(line.get("stream", "")) for line in error.build_log)
            raise EnvironmentFault(_failed(tag, said + str(error))) from error


def _build_with_cli(
    context: Mapping[str, str], args: dict[str, str], labels: dict[str, str], tag: str
) -> None:
    program = shutil.which("docker")
    if program is None:
        raise EnvironmentFault("--buildkit needs the docker command, which is not on PATH")
    flags = [word for key, value in args.items() for word in ("--build-arg", f"{key}={value}")]
    flags += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as place:
        for name, text in context.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(  # noqa: S603
            [program, "build", *flags, "--tag", tag, place],
            env={name: os.environ[name] for name in _CLI_VARIABLES if name in os.environ}
            | {"DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise EnvironmentFault(_failed(tag, done.stdout + done.stderr))


def _failed(tag: str, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line] or lines
    name = tag.partition(":")[0].rpartition("/")[2]
    return (
        f"{tag} cannot be built:\n"
        + "\n".join(telling[-3:])
        + "\nCheck that the base image can reach "
        f"the package index, then: fdbench env build {name} --base IMAGE"
    )


def _pack(context: Mapping[str, str]) -> io.BytesIO:
    """The context as an archive that is the same bytes every time, so that layers are reused."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in sorted(context.items()):
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    return packed


def _image(attrs: Mapping[str, Any]) -> Image:
    labels = attrs["Config"]["Labels"]
    return Image(
        name=labels[_NAME],
        tag=attrs["RepoTags"][0],
        image_id=attrs["Id"],
        digest=labels[_DIGEST],
        base=labels[_BASE],
        num_bytes=attrs["Size"],
        layers=tuple(attrs["RootFS"]["Layers"]),
    )
