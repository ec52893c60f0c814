"""``fdbench parse``."""

from pathlib import Path

import click
from rich.table import Table

from harness import stats, suites
from harness.cli.tables import make_console, make_table
from harness.errors import LogFormatError, UsageFault
from harness.logs import PARSERS
from harness.plan import phase_at
from harness.records import LogStep, Phase
from harness.stats import Statistic
from harness.suites import Recipe


@click.command("parse")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--recipe", "slug", required=True, help="FlashDreams slug (see: fdbench list recipes)."
)
@click.option("--gpu", "device", required=True, help="Device the log was made on.")
@click.option("--blocks", type=click.IntRange(min=1), help="Use only the first N AR steps.")
def parse_command(log: Path, slug: str, device: str, blocks: int | None) -> None:
    """Read the AR steps of a FlashDreams LOG and print them with both statistics.

    \b
    Example: fdbench parse bench.log --recipe self-forcing-wan2.1-t2v-1.3b-taehv --gpu h200
    """
    recipes = suites.load_recipes().recipes
    recipe = recipes[suites.pick("recipe", slug, recipes)]
    name = suites.load_devices()[suites.pick("device", device, suites.load_devices())].name
    try:
        content = log.read_bytes()
    except OSError as error:
        raise UsageFault(f"{log}: {error.strerror}") from error
    steps = [step for step in PARSERS["flashdreams"](content, str(log)) if step.rank == 0]
    if not steps:
        raise LogFormatError(f"{log}: no step of rank 0 in it")
    timed = [
        (phase_at(step.ar, recipe.capture_ar, has_graph=recipe.cuda_graph), step)
        for step in steps[:blocks]
    ]
    console = make_console()
    console.print(f"{slug} on {name}: {len(timed)} AR steps, from {log}")
    console.print(_table(timed))
    values = [(step.ar, phase, step.total_wo_finalize_ms) for phase, step in timed]
    for statistic in (stats.seed_statistic(values), stats.steady_statistic(values)):
        console.print(_describe(statistic, recipe))


def _table(timed: list[tuple[Phase, LogStep]]) -> Table:
    stages = list(dict.fromkeys(stage for _, step in timed for stage in step.stages_ms))
    rows = []
    for phase, step in timed:
        figures = [step.stages_ms.get(stage) for stage in stages]
        figures += [step.total_wo_finalize_ms, step.total_ms]
        cells = [f"{ms:.3f}" if ms is not None else "" for ms in figures]
        rows.append([str(step.ar), phase, *cells])
    return make_table(["AR", "phase", *stages, "total(w/o finalize)", "total"], rows, left=2)


def _describe(statistic: Statistic, recipe: Recipe) -> str:
    if statistic.value_ms is None and statistic.name == stats.SEED:
        return f"{statistic.name}: none; the log ends before AR {stats.WARMUP_AR_STEPS}"
    if statistic.value_ms is None:
        needed = recipe.capture_ar + int(recipe.cuda_graph)
        graph = " and the CUDA graph captured" if recipe.cuda_graph else ""
        return f"{statistic.name}: none; the KV window is full{graph} from AR {needed} on"
    return (
        f"{statistic.name}: {statistic.value_ms:.3f} ms "
        f"(AR {statistic.ar_first}–{statistic.ar_last}, {statistic.definition})"
    )
