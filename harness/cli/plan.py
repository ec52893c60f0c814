"""``fdbench plan``."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache

import click
from rich.text import Text

from harness.cli.named import suite_and_device
from harness.cli.tables import make_console, wrapped
from harness.environments.declared import Environment, command_words, driven, load_environments
from harness.plan import suites
from harness.plan.cells import cell_id_of, make_plan, need_of
from harness.plan.suites import Device, Recipe, Recipes
from harness.records import PlannedCell, UnsupportedCell
from harness.units import format_duration, format_number_of


@dataclass(frozen=True, kw_only=True)
class CellOutline:
    """What ``fdbench plan`` says about one cell."""

    cell_id: str
    cannot_run: str
    """Why it stands outside the denominator; empty if it will run."""
    candidate: str
    """Side under test."""
    flashdreams: str
    """Command of one of its trials."""
    reference: str
    """Side it is held against."""
    baseline: str
    """Command of one of its trials."""
    published: str
    """The command that FlashDreams' page gives for the recipe."""
    gpus: int
    """GPUs of one trial, where it runs on any."""
    trials: int
    """Process launches; 0 if it cannot run."""
    memory_gb: float | None
    """Weights and KV cache per GPU, estimated; None where there is nothing to estimate from."""
    seconds: float | None
    """All of its trials and what is timed before them, estimated."""


@click.command("plan")
@click.option("--suite", help="Suite name (see: fdbench list suites) or TOML file.")
@click.option("--gpu", "device", help="Device key; this machine need not have it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def plan_command(suite: str | None, device: str | None, as_json: bool) -> None:
    """Show every cell of a suite: its commands and needs, or why it cannot run.

    \b
    Example: fdbench plan --suite per-step --gpu gb200
    """
    suite, device = suite_and_device(suite, device, "plan")
    outlines = outline(suite, device)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in outlines], indent=1))
        return
    console = make_console()
    for line in _page(outlines, device):
        console.print(Text(wrapped(console, line, further="    ")))


def _page(outlines: Sequence[CellOutline], device: str) -> Iterator[str]:
    """Every line of the answer."""
    runnable = [row for row in outlines if not row.cannot_run]
    yield f"{len(runnable)} of {len(outlines)} cells can run on {device}"
    yield ""
    for row in outlines:
        yield from _lines(row)
    if runnable:
        yield _total(runnable)
    if any(row.seconds is not None for row in runnable):
        yield "Memory and time are estimates from shapes and nominal speed, not measurements."


def outline(suite_name: str, device_key: str) -> list[CellOutline]:
    """Every cell of a suite on a device, in the suite's order.

    Raises:
        UsageFault: There is no such suite or device, or the suite is not what it should be.
    """
    suite, planned = make_plan(suite_name, device_key, driven(_declared()))
    recipes, device = suites.load_recipes(), suites.load_devices()[planned.device]
    cells: tuple[PlannedCell | UnsupportedCell, ...] = (*planned.cells, *planned.unsupported)
    known = {cell.cell_id: cell for cell in cells}
    is_full = suite.size == "full"
    return [
        _outline_cell(
            known[cell_id_of(cell, planned.device)], cell.recipe, recipes, device, is_full
        )
        for cell in suite.cells
    ]


def _outline_cell(
    cell: PlannedCell | UnsupportedCell, slug: str, recipes: Recipes, device: Device, is_full: bool
) -> CellOutline:
    recipe = recipes.recipes[slug]
    found = cell if isinstance(cell, PlannedCell) else None
    gpus = recipe.gpus if device.torch_device == "cuda" and is_full else 1
    need = need_of(found, recipes, device) if found else None
    return CellOutline(
        cell_id=cell.cell_id,
        cannot_run="" if isinstance(cell, PlannedCell) else cell.reason,
        candidate=str(cell.candidate),
        flashdreams=_command(cell.candidate.environment, slug, gpus),
        reference=str(cell.reference),
        baseline=_command(cell.reference.environment, slug, gpus),
        published=_published_command(slug, recipe, gpus),
        gpus=gpus,
        trials=len(found.trials) if found else 0,
        memory_gb=round(need.memory_gb, 1) if need else None,
        seconds=round(need.seconds) if need else None,
    )


@cache
def _declared() -> dict[str, Environment]:
    """Every environment, read once for all cells."""
    return load_environments()


def _command(environment: str, slug: str, gpus: int) -> str:
    declared = _declared().get(environment)
    if declared is None:
        return f"none yet: upstream_envs/{environment} is not there"
    words = command_words(declared, gpus)
    return " ".join(words).format(slug=slug, job="job.json")


def _published_command(slug: str, recipe: Recipe, gpus: int) -> str:
    """The command line of FlashDreams' page for this recipe."""
    ranks = f"torchrun --nproc_per_node={gpus} --no-python " if gpus > 1 else ""
    blocks = f" --total-blocks {recipe.ar_steps}" if recipe.flavour == "streaming" else ""
    return f"{ranks}flashdreams-run {slug}{blocks}"


def _lines(row: CellOutline) -> Iterator[str]:
    yield row.cell_id
    if row.cannot_run:
        yield f"  cannot run: {row.cannot_run}"
    # Two cells may start the same command: what is in the job tells them apart.
    yield f"  FlashDreams  {row.candidate}: {row.flashdreams}"
    yield f"  baseline     {row.reference}: {row.baseline}"
    yield f"  on FlashDreams' page: {row.published}"
    if row.seconds is not None:
        yield (
            f"  {row.trials} trials, about {format_duration(row.seconds)} in all, "
            f"{row.memory_gb:g} GB of weights and KV cache a GPU"
        )
    elif row.trials:
        yield f"  {row.trials} trials"
    yield ""


def _total(rows: Sequence[CellOutline]) -> str:
    """What the whole suite takes, one cell after another."""
    total = (
        f"In all: {format_number_of(len(rows), 'cell')}, {sum(row.trials for row in rows)} trials"
    )
    seconds = [row.seconds for row in rows if row.seconds is not None]
    memory_gb = [row.memory_gb for row in rows if row.memory_gb is not None]
    if not seconds or not memory_gb:
        return total
    return f"{total}, about {format_duration(sum(seconds))}, at most {max(memory_gb):g} GB a GPU"
