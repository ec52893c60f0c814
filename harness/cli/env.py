"""``fdbench env``."""

import json
import platform
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from harness.cli.progress import pick_watcher
from harness.cli.tables import make_console, wrapped
from harness.environments import bundle, images, requirement_locks
from harness.environments.built import (
    BuiltEnvironment,
    build_environment,
    built_copies,
    folder_of,
    remove_environment,
)
from harness.environments.declared import Environment, load_environments
from harness.environments.sides import DOCKER, SANDBOXES, build_each
from harness.errors import UsageFault
from harness.plan.suites import pick
from harness.sandboxes import engine

_SANDBOX = click.option(
    "--sandbox",
    type=click.Choice(SANDBOXES),
    envvar="FDBENCH_SANDBOX",
    show_default="docker if an engine answers",
    help="Images, or virtual environments.",
)
_BASE = click.option(
    "--base",
    default="",
    envvar="FDBENCH_BASE",
    metavar="IMAGE",
    help=f"Base image, such as one of your own.  [default: {images.DEFAULT_BASE}]",
)


@click.group("env")
def env_group() -> None:
    """Build, list, verify, move and remove the environments of the sides."""


@env_group.command("build", short_help="Build an environment, or all of them.")
@click.argument("name")
@_SANDBOX
@_BASE
@click.option("--buildkit", is_flag=True, help="Build images with docker build and BuildKit.")
def build_command(name: str, sandbox: str | None, base: str, buildkit: bool) -> None:
    """Build environment NAME if it is not there ("all" for every one).

    \b
    Example: fdbench env build diffusers
             fdbench env build all --base registry.example/cuda:13
    """
    in_containers = _in_containers(sandbox)
    make: Callable[[str, Callable[[str], None]], BuiltEnvironment]
    make = (
        partial(images.build, base=base, buildkit=buildkit) if in_containers else build_environment
    )
    with pick_watcher() as watcher:
        for made in build_each(_named(name), make, watcher.note):
            click.echo(f"{made.name}: {made.image if in_containers else made.folder}")


@env_group.command("list", short_help="List environments, their size and where they are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_command(as_json: bool) -> None:
    """List environments with title and role, their size on disk and where they are.

    \b
    Example: fdbench env list
    """
    known, here = load_environments(), engine.answers()
    if as_json:
        listed = [_describe(name, known[name], here) for name in known]
        click.echo(json.dumps(listed, indent=1))
        return
    console = make_console()
    for name, declared in known.items():
        for number, line in enumerate(_lines(declared, _describe(name, declared, here))):
            indent = "  " if number else ""
            console.print(Text(wrapped(console, line, indent, further="    ")))


def _lines(declared: Environment, found: dict[str, Any]) -> Iterator[str]:
    """An environment as people read it."""
    name = found["name"]
    yield f"{name} ({declared.role}): {declared.title}"
    yield declared.description
    for one in found["on_disk"] + found["images"]:
        old = "" if one["current"] else "  (of an earlier declaration; fdbench env rm)"
        size = f"{one['bytes'] / 2**20:.0f} MiB"
        yield f"{one['digest'][:12]}  {size}  {one.get('folder') or one['image']}{old}"
    if not found["built"] and not any(one["current"] for one in found["images"]):
        yield f"not built; fdbench env build {name}"


def _describe(name: str, declared: Environment, has_engine: bool) -> dict[str, Any]:
    """An environment as it is declared, and every copy of it on disk."""
    current = folder_of(name, declared)
    on_disk: list[dict[str, Any]] = [
        {"digest": digest, "folder": str(folder), "bytes": size, "current": folder == current}
        for digest, folder, size in built_copies(name)
    ]
    in_engine: list[dict[str, Any]] = [
        {
            "digest": image.digest,
            "image": image.tag,
            "bytes": image.num_bytes,
            "current": images.is_current(image),
        }
        for image in (images.images_of(name) if has_engine else [])
    ]
    return {
        "name": name,
        "title": declared.title,
        "role": declared.role,
        "description": declared.description,
        "recipes": declared.recipes,
        "built": any(one["current"] for one in on_disk),
        "on_disk": on_disk,
        "images": in_engine,
    }


@env_group.command("verify", short_help="Compare an image with its lock and its record.")
@click.argument("name")
@_BASE
def verify_command(name: str, base: str) -> None:
    """Start the image of NAME ("all" for every one); compare it with its lock and its record.

    \b
    Example: fdbench env verify all
    """
    for one in _named(name):
        image = _image(one, base)
        click.echo(f"{one}: {image.tag} is as it was built, {images.verify(image).num_files} files")


@env_group.command("export", short_help="Write an image to a file.")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@_BASE
def export_command(name: str, path: Path, base: str) -> None:
    """Write the image of NAME to PATH, for a machine without a registry.

    \b
    Example: fdbench env export diffusers diffusers.tar
    """
    image = _image(pick("env", name, load_environments()), base)
    images.export(image, path)
    click.echo(f"{image.tag}: {path}")


@env_group.command("import", short_help="Read an exported image and verify it.")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_command(path: Path) -> None:
    """Read an exported image from PATH and verify it.

    \b
    Example: fdbench env import diffusers.tar
    """
    for image in images.load(path):
        images.verify(image)
        click.echo(f"{image.name}: {image.tag}")


@env_group.command("bundle", short_help="Collect what a machine without network needs.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--host",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What python3 -m pip list --format=freeze prints on that machine.",
)
@click.option(
    "--python",
    default=".".join(platform.python_version_tuple()[:2]),
    show_default=True,
    help="Version of that machine's python3.",
)
@click.option(
    "--machine",
    type=click.Choice(bundle.MACHINES),
    default=bundle.MACHINES[0],
    show_default=True,
    help="That machine's processor.",
)
def bundle_command(name: str, folder: Path, host: Path, python: str, machine: str) -> None:
    """Collect in FOLDER what a machine without network needs to run NAME ("all" for every one).

    \b
    Example: fdbench env bundle all gpu-kit --host freeze.txt --python 3.12
    """
    there = bundle.Host(packages=bundle.read_packages(host), python=python, machine=machine)
    bundle.collect(_named(name), folder, there, click.echo)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    words = shlex.join(["source", f"{folder.name}/activate"])
    click.echo(f"{folder}: {size / 2**20:.0f} MiB; there, in bash: {words}")


@env_group.command("lock", short_help="Resolve packages and write the lock with hashes.")
@click.argument("name")
def lock_command(name: str) -> None:
    """Resolve the packages of NAME ("all" for every one) and write its lock, with hashes.

    \b
    Example: fdbench env lock diffusers
    """
    for path in requirement_locks.write_locks(load_environments(), _named(name)):
        click.echo(str(path))


@env_group.command("rm", short_help="Remove an environment from disk.")
@click.argument("name")
@_SANDBOX
def remove_command(name: str, sandbox: str | None) -> None:
    """Remove environment NAME from disk ("all" for every one); the next run makes it anew.

    \b
    Example: fdbench env rm diffusers
    """
    remove: Callable[[str], Iterable[Any]]
    remove = images.remove if _in_containers(sandbox) else remove_environment
    for one in _named(name):
        for what in remove(one):
            click.echo(f"removed {what}")


def _named(name: str) -> list[str]:
    known = load_environments()
    return list(known) if name == "all" else [pick("env", name, known)]


def _in_containers(sandbox: str | None) -> bool:
    return sandbox == DOCKER if sandbox else engine.answers()


def _image(name: str, base: str) -> images.Image:
    image = images.find(name, base=base)
    if image is None:
        raise UsageFault(f"{name} has no image as it is declared now; fdbench env build {name}")
    return image
