"""``fdbench list``."""

import click
from rich.console import Console
from rich.table import Table

from harness import environments, suites
from harness.environments import installed


def _recipes() -> list[tuple[str, ...]]:
    return [
        (slug, recipe.flavour, recipe.network, f"{recipe.denoising_steps} steps")
        for slug, recipe in suites.load_recipes().recipes.items()
    ]


def _suites() -> list[tuple[str, ...]]:
    names = sorted(path.stem for path in suites.SUITES_DIR.glob("*.toml"))
    loaded = [suites.load_suite(name) for name in names if name not in ("recipes", "devices")]
    return [(name, f"{len(s.cells)} cells", s.size, s.description) for name, s in loaded]


def _devices() -> list[tuple[str, ...]]:
    return [
        (key, device.name, f"{device.attention} attention")
        for key, device in suites.load_devices().items()
    ]


def _envs() -> list[tuple[str, ...]]:
    return [
        (name, "built" if installed(name) else "not built", declared.description)
        for name, declared in environments.load_environments().items()
    ]


_KINDS = {"recipes": _recipes, "suites": _suites, "devices": _devices, "envs": _envs}


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)))
def list_command(kind: str) -> None:
    """List recipes, suites, devices or envs.

    \b
    Example: fdbench list recipes
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in _KINDS[kind]():
        table.add_row(*row)
    Console(highlight=False, soft_wrap=True).print(table)
