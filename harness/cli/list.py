"""``fdbench list``."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from harness.cli.tables import make_console, make_grouped, make_table, print_table, wrapped
from harness.environments.built import is_built
from harness.environments.declared import Environment, load_environments
from harness.plan import suites
from harness.plan.suites import Recipe
from harness.units import format_number_of

Row = dict[str, Any]
"""One line as a script reads it: key to value."""
_SLUG_WIDTH = 55
"""Columns of a slug beside other columns; one of all slugs is longer."""
_UNDRIVEN = "*"
"""Behind a baseline that nothing drives yet."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """How one kind of thing is listed."""

    rows: Callable[[], list[Row]]
    """As ``--json`` prints them."""
    cells: Callable[[Row], dict[str, str]]
    """A row as people read it: heading to text."""
    prose: bool = False
    """Whether the last column may take several lines."""
    foot: Callable[[Sequence[Row]], Iterator[str]] = lambda _: iter(())
    """Paragraphs below the table."""


def _recipes() -> list[Row]:
    declared = load_environments()
    return [
        {
            "slug": slug,
            "model": recipe.model,
            "flavour": recipe.flavour,
            "gpus": recipe.gpus,
            "runner": not recipe.no_runner,
            "no_runner": recipe.no_runner,
            "baselines": _baselines(slug, recipe, declared),
        }
        for slug, recipe in suites.load_recipes().recipes.items()
    ]


def _baselines(slug: str, recipe: Recipe, declared: Mapping[str, Environment]) -> list[Row]:
    """Each baseline, and whether anything drives it yet."""
    driven = {name for name, one in declared.items() if slug in one.recipes}
    return [
        {"key": key, "driven": baseline.environment in driven}
        for key, baseline in recipe.baselines.items()
    ]


def _recipe_cells(row: Row) -> dict[str, str]:
    return {
        "slug": row["slug"],
        "model": row["model"],
        "flavour": row["flavour"],
        "GPUs": str(row["gpus"]),
        "runner": "yes" if row["runner"] else "no",
        "baselines": ", ".join(
            one["key"] + ("" if one["driven"] else _UNDRIVEN) for one in row["baselines"]
        )
        or "none",
    }


def _recipe_foot(rows: Sequence[Row]) -> Iterator[str]:
    """What the marks mean, and why there is no runner."""
    yield f"{_UNDRIVEN} nothing drives this baseline yet"
    for reason in dict.fromkeys(row["no_runner"] for row in rows if not row["runner"]):
        slugs = ", ".join(row["slug"] for row in rows if row["no_runner"] == reason)
        yield f"no runner, because {reason}: {slugs}"


def _suites() -> list[Row]:
    loaded = [suites.load_suite(name) for name in suites.suite_names()]
    return [
        {
            "name": name,
            "cells": len(suite.cells),
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
            "memory_gb": device.memory_gb or None,
            "attention": device.attention,
        }
        for key, device in suites.load_devices().items()
    ]


def _device_cells(row: Row) -> dict[str, str]:
    memory = row["memory_gb"]
    return {
        "key": row["key"],
        "name": row["name"],
        "host": row["host"],
        "memory": f"{memory:g} GB" if memory else "",
        "attention": row["attention"],
    }


def _envs() -> list[Row]:
    return [
        {
            "name": name,
            "title": declared.title,
            "role": declared.role,
            "built": is_built(name, declared),
            "recipes": declared.recipes,
            "description": declared.description,
        }
        for name, declared in load_environments().items()
    ]


def _env_cells(row: Row) -> dict[str, str]:
    return {
        "name": row["name"],
        "title": row["title"],
        "role": row["role"],
        "state": "built" if row["built"] else "not built",
        "drives": format_number_of(len(row["recipes"]), "recipe"),
    }


_KINDS: Mapping[str, Listing] = {
    "recipes": Listing(rows=_recipes, cells=_recipe_cells, foot=_recipe_foot),
    "suites": Listing(
        rows=_suites,
        cells=lambda row: {key: str(value) for key, value in row.items()},
        prose=True,
    ),
    "devices": Listing(rows=_devices, cells=_device_cells),
    "envs": Listing(
        rows=_envs,
        cells=_env_cells,
        foot=lambda _: iter(["What each of them is, and where: fdbench env list"]),
    ),
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, with all there is.")
def list_command(kind: str, as_json: bool) -> None:
    """List recipes, suites, devices or envs.

    \b
    Example: fdbench list recipes
    """
    listed = _KINDS[kind]
    rows = listed.rows()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    console = make_console()
    shown = [listed.cells(row) for row in rows]
    _print_table(kind, shown, console)
    paragraphs = list(listed.foot(rows))
    for number, paragraph in enumerate(paragraphs):
        console.print("" if number else "\n", wrapped(console, paragraph, further="  "), sep="")


def _print_table(kind: str, shown: Sequence[dict[str, str]], console: Console) -> None:
    """One line a row; recipes below the name of their model where the width asks for it."""
    headings = list(shown[0])
    rows = [list(row.values()) for row in shown]
    table = make_table(headings, rows, left=len(headings), prose=_KINDS[kind].prose)
    if kind != "recipes":
        console.print(table)
        return
    broken = [["\n".join(_pieces(row[0])), *row[1:]] for row in rows]
    by = [headings.index("model"), headings.index("flavour")]
    print_table(console, table, make_grouped(headings, broken, by, len(headings), prose=True))


def _pieces(slug: str) -> list[str]:
    """A slug, broken behind a hyphen if it is too long for a column."""
    if len(slug) <= _SLUG_WIDTH:
        return [slug]
    cut = slug.rindex("-", 0, _SLUG_WIDTH) + 1
    return [slug[:cut], *_pieces(slug[cut:])]
