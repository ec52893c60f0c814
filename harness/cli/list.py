"""``fdbench list``."""

import click

from harness import environments, suites
from harness.cli.tables import make_console, make_table


def _recipes() -> list[tuple[str, ...]]:
    return [
        (slug, recipe.flavour, recipe.network, f"{recipe.denoising_steps} steps")
        for slug, recipe in suites.load_recipes().recipes.items()
    ]


def _suites() -> list[tuple[str, ...]]:
    loaded = [suites.load_suite(name) for name in suites.suite_names()]
    return [(name, f"{len(s.cells)} cells", s.size, s.description) for name, s in loaded]


def _devices() -> list[tuple[str, ...]]:
    return [
        (key, device.name, f"{device.attention} attention")
        for key, device in suites.load_devices().items()
    ]


def _envs() -> list[tuple[str, ...]]:
    return [
        (
            name,
            "built" if environments.is_built(name, declared) else "not built",
            declared.description,
        )
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
    rows = _KINDS[kind]()
    make_console().print(make_table([""] * len(rows[0]), rows, left=len(rows[0])))
