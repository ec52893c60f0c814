"""``fdbench parse``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from harness.cli.tables import make_console, make_table
from harness.errors import LogFormatError, UsageFault
from harness.imported_records import PublishedFigure
from harness.judging import stats
from harness.judging.stats import Statistic
from harness.logs.detection import FORMATS, ParsedLog, read_log
from harness.logs.stages import comparable
from harness.plan import suites
from harness.plan.sampling import phase_at
from harness.plan.suites import Recipe
from harness.records import LogStep
from harness.units import format_words

Timed = list[tuple[str, LogStep]]
"""Phase and step; a progress bar has no phase."""


@click.command("parse")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--recipe", "slug", help="FlashDreams slug (see: fdbench list recipes).")
@click.option("--gpu", "device", help="Device the log was made on.")
@click.option(
    "--format", "name", type=click.Choice(FORMATS), help="Format of the log.  [default: detected]"
)
@click.option("--blocks", type=click.IntRange(min=1), help="Use only the first N AR steps.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object with rows and statistics."
)
def parse_command(
    log: Path,
    slug: str | None,
    device: str | None,
    name: str | None,
    blocks: int | None,
    as_json: bool,
) -> None:
    """Read the AR steps of a LOG and print them with both statistics.

    Published figures (benchmark_results, perf_table) are listed; they need no --recipe and --gpu.

    \b
    Example: fdbench parse bench.log --recipe self-forcing-wan2.1-t2v-1.3b-taehv --gpu h200
    """
    try:
        with log.open("rb") as opened:
            parsed = read_log(opened, str(log), name)
    except OSError as error:
        raise UsageFault(f"{log}: {error.strerror}") from error
    if parsed.figures:
        _print_figures(parsed, log, as_json=as_json)
        return
    if slug is None or device is None:
        said = {
            "--recipe": (slug, "fdbench list recipes"),
            "--gpu": (device, "fdbench list devices"),
        }
        missing = {flag: see for flag, (value, see) in said.items() if value is None}
        raise UsageFault(
            f"{log}: give {format_words(list(missing))} to say what was measured "
            f"(see: {format_words(list(missing.values()))})"
        )
    recipes, devices = suites.load_recipes().recipes, suites.load_devices()
    slug = suites.pick("recipe", slug, recipes)
    recipe = recipes[slug]
    title = f"{slug} on {devices[suites.pick('device', device, devices)].name}"
    timed = _timed(parsed, recipe, log, blocks)
    if as_json:
        click.echo(_steps_json(title, parsed.format, timed, recipe))
        return
    console = make_console()
    console.print(f"{title}: {len(timed)} {_unit(parsed.format)}, from {log}")
    console.print(_table(timed))
    for statistic in _statistics(timed, parsed.format, recipe):
        console.print(_describe(statistic, recipe))


def _timed(parsed: ParsedLog, recipe: Recipe, log: Path, blocks: int | None) -> Timed:
    steps = [step for step in parsed.steps if step.rank == 0]
    if not steps:
        raise LogFormatError(f"{log}: it has no step of rank 0")
    if parsed.format == "tqdm":
        return [("", step) for step in steps[:blocks]]
    return [
        (phase_at(step.ar, recipe.capture_ar, has_graph=recipe.cuda_graph), step)
        for step in steps[:blocks]
    ]


def _unit(name: str) -> str:
    return "progress bars" if name == "tqdm" else "AR steps"


def _statistics(timed: Timed, name: str, recipe: Recipe) -> tuple[Statistic, ...]:
    if name == "tqdm":
        # A bar is one generation: neither warm-up nor a window of AR steps means anything there.
        return tuple(
            Statistic(
                name=f"denoising step of bar {step.ar}",
                value_ms=step.total_ms,
                ar_first=step.ar,
                ar_last=step.ar,
                num_steps=1,
                definition="mean over the bar, compilation included; no median",
            )
            for _, step in timed
        )
    values = [(step.ar, phase, step.total_wo_finalize_ms) for phase, step in timed]
    return stats.seed_statistic(values, recipe.ar_steps), stats.steady_statistic(values)


def _table(timed: Timed) -> Table:
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
        documented = recipe.ar_steps <= stats.WARMUP_AR_STEPS
        what = "the recipe's documented command" if documented else "the log"
        return f"{statistic.name}: none; {what} ends before AR {stats.WARMUP_AR_STEPS}"
    if statistic.value_ms is None:
        needed = recipe.capture_ar + int(recipe.cuda_graph)
        graph = " and the CUDA graph captured" if recipe.cuda_graph else ""
        return f"{statistic.name}: none; the KV window is full{graph} from AR {needed} on"
    return (
        f"{statistic.name}: {statistic.value_ms:.3f} ms "
        f"({statistic.window}; {statistic.definition})"
    )


def _steps_json(title: str, name: str, timed: Timed, recipe: Recipe) -> str:
    rows = [
        asdict(step) | {"phase": phase, "comparable_ms": comparable(step.stages_ms)}
        for phase, step in timed
    ]
    statistics = [asdict(statistic) for statistic in _statistics(timed, name, recipe)]
    return json.dumps(
        {"title": title, "format": name, "rows": rows, "statistics": statistics}, allow_nan=False
    )


def _print_figures(parsed: ParsedLog, log: Path, *, as_json: bool) -> None:
    if as_json:
        rows = [asdict(figure) for figure in parsed.figures]
        click.echo(json.dumps({"format": parsed.format, "figures": rows}, allow_nan=False))
        return
    console = make_console()
    console.print(f"{len(parsed.figures)} published figures, from {log}; none measured by fdbench")
    console.print(_figure_table(parsed.figures))


def _figure_table(figures: Sequence[PublishedFigure]) -> Table:
    rows = [
        [
            f.workload,
            f.device,
            f.method,
            f.metric,
            f"{f.value_ms:.10g}" if f.value_ms is not None else f.status,
        ]
        for f in figures
    ]
    return make_table(["workload", "device", "method", "metric", "ms"], rows, left=4)
