"""``fdbench env``."""

import click

from harness import environments
from harness.environments import load_environments
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
def list_command() -> None:
    """List environments, their size on disk and where they are.

    \b
    Example: fdbench env list
    """
    for name, declared in load_environments().items():
        built = environments.installed(name)
        current = environments.folder_of(name, declared)
        click.echo(f"{name}: {declared.description}")
        for digest, folder, size in built:
            old = "" if folder == current else "  (of an earlier declaration; fdbench env rm)"
            click.echo(f"  {digest[:12]}  {size / 2**20:.0f} MiB  {folder}{old}")
        if current not in [folder for _, folder, _ in built]:
            click.echo(f"  not built; fdbench env build {name}")


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
