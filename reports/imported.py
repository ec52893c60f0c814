"""Logs that were made elsewhere: what they say, apart from everything that was measured here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import median
from urllib.parse import quote

from harness.imported_records import ImportedFigure, Origin
from harness.integrity.import_record import LOG_FILE, ImportRecord
from harness.judging import stats
from harness.plan.suites import Recipe, load_recipes
from harness.store.manifest import IMPORTS
from reports.bars import grouped_bars
from reports.run_view import ImportedLog
from reports.side_names import SideNames, display_place
from reports.svg import Chart


@dataclass(frozen=True, kw_only=True)
class ImportedRow(Origin):
    """One figure of one side, from every log of it."""

    figure: str
    """What the milliseconds are."""
    value_ms: float | None
    """Median over logs of each log's own figure of rank 0; None where no log has one."""
    slowest_rank_ms: float | None
    """The same of each log's slowest rank; None where the logs have one rank."""
    each_ms: tuple[float, ...]
    """Ascending."""


@dataclass(frozen=True, kw_only=True)
class ImportedFile:
    """A raw log in the run's folder."""

    record: ImportRecord
    url: str
    """Relative to the run's folder; empty where the log is not there."""


@dataclass(frozen=True, kw_only=True)
class ImportedSection:
    """What the report shows of imported logs."""

    rows: tuple[ImportedRow, ...]
    figures: tuple[ImportedFigure, ...]
    files: tuple[ImportedFile, ...]
    charts: tuple[Chart, ...]


def imported_section(
    folder: Path, logs: Sequence[ImportedLog], names: SideNames
) -> ImportedSection:
    """Tables and charts of everything that was imported; empty where nothing was."""
    rows = imported_rows(logs)
    return ImportedSection(
        rows=rows,
        figures=tuple(figure for log in logs for figure in log.figures),
        files=tuple(_file(folder, log.record) for log in logs),
        charts=_charts(rows, names),
    )


def imported_rows(logs: Sequence[ImportedLog]) -> tuple[ImportedRow, ...]:
    """Every figure of every side, sides in the order they came."""
    sides: dict[tuple[Origin, bool], list[ImportedLog]] = {}
    for log in logs:
        if log.steps:
            said = {item.name: getattr(log.record, item.name) for item in fields(Origin)}
            sides.setdefault((Origin(**said), log.record.format == "tqdm"), []).append(log)
    rows = []
    for (_, is_bar), group in sides.items():
        statistics = _BAR if is_bar else _STEP
        made = [_row(name, statistic, group) for name, statistic in statistics.items()]
        rows += [row for row in made if row.value_ms is not None] or made[:1]
    return tuple(rows)


Statistic = Callable[[Sequence[stats.Timed], str], float | None]
"""Of the AR steps of one process of a recipe."""


def _stated(timed: Sequence[stats.Timed], slug: str) -> float | None:
    """Over the AR steps of the recipe's documented command, as where it was measured here."""
    recipe = _recipes().get(slug)  # a run may hold logs of one that is gone
    return stats.seed_statistic(timed, recipe.ar_steps if recipe else 0).value_ms


@cache
def _recipes() -> dict[str, Recipe]:
    return load_recipes().recipes


STATED = f"total(w/o finalize), {stats.SEED}"
"""The statistic that FlashDreams' page states."""
_STEP: dict[str, Statistic] = {
    STATED: _stated,
    "total(w/o finalize), steady state": lambda timed, _: stats.steady_statistic(timed).value_ms,
}
_BAR: dict[str, Statistic] = {
    "denoising step, mean over the bar": lambda timed, _: median(ms for _, _, ms in timed)
}


def _row(name: str, statistic: Statistic, logs: Sequence[ImportedLog]) -> ImportedRow:
    each = [ranks for log in logs if (ranks := _by_rank(log, statistic))]
    record = logs[0].record
    slowest = [max(ranks) for ranks in each if len(ranks) > 1]
    return ImportedRow(
        recipe=record.recipe,
        device=record.device,
        gpus=record.gpus,
        side=record.side,
        scene=record.scene,
        figure=name,
        value_ms=median(ranks[0] for ranks in each) if each else None,
        slowest_rank_ms=median(slowest) if slowest else None,
        each_ms=tuple(sorted(ranks[0] for ranks in each)),
    )


def _by_rank(log: ImportedLog, statistic: Statistic) -> list[float]:
    """A log's figure for each rank, the lowest first; empty where it has none."""
    ranks: dict[int, list[stats.Timed]] = {}
    for step in log.steps:
        ranks.setdefault(step.rank, []).append((step.ar, step.phase, step.total_wo_finalize_ms))
    figures = [statistic(ranks[rank], log.record.recipe) for rank in sorted(ranks)]
    return [figure for figure in figures if figure is not None]


def _file(folder: Path, record: ImportRecord) -> ImportedFile:
    is_there = (folder / IMPORTS / record.import_id / LOG_FILE).is_file()
    url = f"{IMPORTS}/{quote(record.import_id, safe='')}/{LOG_FILE}"
    return ImportedFile(record=record, url=url if is_there else "")


def _charts(rows: Sequence[ImportedRow], names: SideNames) -> tuple[Chart, ...]:
    """One chart a recipe and figure: devices, or scenes, as groups and sides as bars."""
    kinds = dict.fromkeys((row.recipe, row.figure) for row in rows if row.value_ms is not None)
    return tuple(
        _chart(recipe, figure, [r for r in rows if (r.recipe, r.figure) == (recipe, figure)], names)
        for recipe, figure in kinds
    )


def _chart(recipe: str, figure: str, rows: Sequence[ImportedRow], names: SideNames) -> Chart:
    values = {
        (display_place(row.device, row.gpus, row.scene), row.side): row.value_ms for row in rows
    }
    groups = list(dict.fromkeys(group for group, _ in values))
    sides = dict.fromkeys(side for _, side in values)
    return grouped_bars(
        f"{recipe}, from logs",
        f"{figure}. Parsed from logs made elsewhere, not measured here.",
        groups,
        {side: [values.get((group, side)) for group in groups] for side in sides},
        names,
    )
