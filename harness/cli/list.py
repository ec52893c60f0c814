"""``fdbench list``."""

import json
from collections.abc import Callable, Mapping

import click

from harness.cli.tables import make_console, make_table
from harness.environments.built import is_built
from harness.environments.declared import Environment, load_environments
from harness.plan import suites
from harness.plan.suites import Recipe

Row = dict[str, str]
"""One line: heading to text."""


def _recipes() -> list[Row]:
    declared = load_environments()
    return [
        {
            "slug": slug,
            "model": recipe.model,
            "flavour": recipe.flavour,
            "GPUs": str(recipe.gpus),
            "runner": f"none: {recipe.no_runner}" if recipe.no_runner else "yes",
            "baselines": ", ".join(_baselines(slug, recipe, declared)) or "none",
        }
        for slug, recipe in suites.load_recipes().recipes.items()
    ]


def _baselines(slug: str, recipe: Recipe, declared: Mapping[str, Environment]) -> list[str]:
    """Each baseline, marked where nothing drives it yet."""
    driven = {name for name, one in declared.items() if slug in one.recipes}
    return [
        key if baseline.environment in driven else f"{key} (not yet)"
        for key, baseline in recipe.baselines.items()
    ]


def _suites() -> list[Row]:
    loaded = [suites.load_suite(name) for name in suites.suite_names()]
    return [
        {
            "name": name,
            "cells": str(len(suite.cells)),
            "size": suite.size,
            "description": suite.description,
        }
        for name, suite in loaded
    ]


def _devices() -> list[Row]:
    return [
        {
            "key": key,
            "name": device.name,
            "host": device.architecture,
            "memory": f"{device.memory_gb:g} GB" if device.memory_gb else "",
            "attention": device.attention,
        }
        for key, device in suites.load_devices().items()
    ]


def _envs() -> list[Row]:
    return [
        {
            "name": name,
            "title": declared.title,
            "role": declared.role,
            "state": "built" if is_built(name, declared) else "not built",
            "drives": f"{len(declared.recipes)} recipes",
            "description": declared.description,
        }
        for name, declared in load_environments().items()
    ]


_KINDS: Mapping[str, Callable[[], list[Row]]] = {
    "recipes": _recipes,
    "suites": _suites,
    "devices": _devices,
    "envs": _envs,
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_command(kind: str, as_json: bool) -> None:
    """List recipes, suites, devices or envs.

    \b
    Example: fdbench list recipes
    """
    rows = _KINDS[kind]()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    cells = [list(row.values()) for row in rows]
    make_console().print(make_table(list(rows[0]), cells, left=len(rows[0])))
