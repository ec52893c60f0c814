"""``fdbench env``."""

import json
from typing import Any

import click

from harness import environments
from harness.environments import Environment, load_environments
from harness.suites import pick


@click.group("env")
def env_group() -> None:
    """Build, list and remove the environments of the sides."""


@env_group.command("build")
@click.argument("name")
def build_command(name: str) -> None:
    """Build environment NAME if it is not there ("all" for every one).

    \b
    Example: fdbench env build diffusers
    """
    for one in load_environments() if name == "all" else [name]:
        built = environments.build(one, click.echo)
        click.echo(f"{one}: {built.folder}")


@env_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_command(as_json: bool) -> None:
    """List environments, their size on disk and where they are.

    \b
    Example: fdbench env list
    """
    known = load_environments()
    if as_json:
        click.echo(json.dumps([_describe(name, known[name]) for name in known], indent=1))
        return
    for name, declared in known.items():
        found = _describe(name, declared)
        click.echo(f"{name}: {declared.description}")
        for one in found["on_disk"]:
            old = "" if one["current"] else "  (of an earlier declaration; fdbench env rm)"
            size = f"{one['bytes'] / 2**20:.0f} MiB"
            click.echo(f"  {one['digest'][:12]}  {size}  {one['folder']}{old}")
        if not found["built"]:
            click.echo(f"  not built; fdbench env build {name}")


def _describe(name: str, declared: Environment) -> dict[str, Any]:
    """An environment as it is declared, and every copy of it on disk."""
    current = environments.folder_of(name, declared)
    on_disk = [
        {"digest": digest, "folder": str(folder), "bytes": size, "current": folder == current}
        for digest, folder, size in environments.installed(name)
    ]
    return {
        "name": name,
        "description": declared.description,
        "recipes": declared.recipes,
        "built": any(one["current"] for one in on_disk),
        "on_disk": on_disk,
    }


@env_group.command("rm")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove environment NAME from disk ("all" for every one); the next run makes it anew.

    \b
    Example: fdbench env rm diffusers
    """
    known = load_environments()
    for one in known if name == "all" else [pick("env", name, known)]:
        for folder in environments.remove(one):
            click.echo(f"removed {folder}")
