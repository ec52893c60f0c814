"""The page "Published against measured": what the seed's figures are, beside what this run has."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.judging import stats
from harness.logs import parse_steps
from harness.plan.published import PublishedRow, RawLog, load_published
from harness.plan.suites import SUITES_DIR
from harness.records import LogStep, Role
from harness.units import format_words
from reports.bars import grouped_bars
from reports.imported import STATED, imported_rows
from reports.latency import LatencyRow, latency_of, step_row
from reports.provenance import reported
from reports.run_view import CellView, RunView
from reports.side_names import SideNames, display_place
from reports.svg import Chart

CITED_AR: Final = 5
"""AR step that the footnotes of the published charts name, the sixth."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published line, and this run's figure for the same cell if it has one."""

    published: PublishedRow
    measured: tuple[LatencyRow, ...]
    """This run's figures; empty where the cell was not measured, or not at full size."""
    logged_upstream_ms: float | None
    """From imported logs, by the statistic that the page states; None where there is none."""
    logged_flashdreams_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A published pair that this run has on a GPU for which nothing is published."""

    recipe: str
    baseline: str
    published: tuple[PublishedRow, ...]
    """One a GPU."""
    measured: tuple[LatencyRow, ...]


@dataclass(frozen=True, kw_only=True)
class LogReading:
    """A published log, read again."""

    log: RawLog
    steps: tuple[LogStep, ...]
    stated_ms: float | None
    """By the statistic that the page states."""
    cited_ms: float
    """``diffuse`` of the one AR step that the footnote names."""


@dataclass(frozen=True, kw_only=True)
class PublishedPage:
    """Everything the page shows."""

    page_says: str
    per_step: tuple[Comparison, ...]
    per_scene: tuple[Comparison, ...]
    elsewhere: tuple[Elsewhere, ...]
    meanings: tuple[tuple[str, str, str], ...]
    """Recipe, what its published figures measure, and where that is said."""
    charts: tuple[Chart, ...]
    """Published figures only, one chart a recipe."""
    scene_charts: tuple[Chart, ...]
    """Those of the per-scene table."""
    logs: tuple[LogReading, ...]
    run: str
    """Suite and device that the measured figures come from."""
    compiled: str
    """What to know of ``torch.compile`` about them; empty where there are none."""


def figures_of(cells: Sequence[CellView]) -> list[LatencyRow]:
    """Every figure of some cells; AR 5 alone comes first where that is what was published."""
    rows = load_published().per_step
    recipes = {row.recipe for row in rows if f"AR {CITED_AR} alone" in row.measures}
    cited = [step_row(cell, CITED_AR) for cell in cells if cell.recipe in recipes]
    return [*cited, *(row for cell in cells for row in latency_of(cell))]


def build_published(view: RunView, latency: Sequence[LatencyRow]) -> PublishedPage:
    """Put the published tables beside a run's figures; the two are never mixed in a column."""
    published = load_published()
    measured = _comparable(view, latency)
    return PublishedPage(
        page_says=published.page_says,
        per_step=_compare(published.per_step, measured, view),
        per_scene=_compare(published.per_scene, measured, view),
        elsewhere=tuple(_elsewhere(published.per_step, measured)),
        meanings=tuple(
            dict.fromkeys(
                (row.recipe, row.measures, row.source)
                for row in (*published.per_step, *published.per_scene)
            )
        ),
        charts=_charts(published.per_step, published.own, view.names),
        scene_charts=_charts(published.per_scene, published.own, view.names),
        logs=tuple(map(read_log, published.raw_logs)),
        run=" on ".join(filter(None, (view.record.suite, view.record.device))),
        compiled=_compiled(view.cells, {row.cell_id for row in measured if not row.variant}),
    )


def _compiled(cells: Sequence[CellView], measured: Collection[str]) -> str:
    """Whether a side of measured cells was compiled, as the sides reported it."""
    pairs = (Role.REFERENCE.value, Role.CANDIDATE.value)
    sides = {
        cell.names.display(trial.side)
        for cell in cells
        for trial in cell.trials
        if cell.cell_id in measured and trial.role in pairs and reported(trial).get("compile")
    }
    if not measured:
        return ""
    whose = (
        f"of the sides measured here {format_words(sorted(sides))} were"
        if sides
        else "no side here was"
    )
    return f"Where it says so below, published sides were under torch.compile; {whose}."


def _elsewhere(rows: Sequence[PublishedRow], measured: Sequence[LatencyRow]) -> Iterator[Elsewhere]:
    """Published pairs that were measured on a GPU for which the page has no line of its own."""
    for recipe, baseline in dict.fromkeys((row.recipe, row.baseline) for row in rows):
        published = [row for row in rows if (row.recipe, row.baseline) == (recipe, baseline)]
        known = {row.device for row in published}
        ours = [
            row
            for row in measured
            if (row.recipe, row.baseline, row.variant) == (recipe, baseline, "")
            and row.device not in known
        ]
        if ours:
            yield Elsewhere(
                recipe=recipe,
                baseline=baseline,
                published=tuple(published),
                measured=tuple(ours),
            )


def read_log(log: RawLog) -> LogReading:
    """Read a published log by the page's statistic and by its footnote.

    Raises:
        LogFormatError: The file is not the log it should be.
    """
    content = (SUITES_DIR / log.path).read_bytes()
    steps = parse_steps(content, log.path)
    timed = [(step.ar, "", step.total_wo_finalize_ms) for step in steps]
    return LogReading(
        log=log,
        steps=steps,
        stated_ms=stats.seed_statistic(timed).value_ms,
        cited_ms=steps[CITED_AR].stages_ms["diffuse"],
    )


def _charts(rows: Sequence[PublishedRow], own: str, names: SideNames) -> tuple[Chart, ...]:
    """One chart a recipe: devices, or scenes, as groups and runners as bars."""
    return tuple(
        _chart(recipe, [row for row in rows if row.recipe == recipe], own, names)
        for recipe in dict.fromkeys(row.recipe for row in rows)
    )


def _chart(recipe: str, rows: Sequence[PublishedRow], own: str, names: SideNames) -> Chart:
    places = (display_place(row.device, row.gpus, row.scene) for row in rows)
    groups = list(dict.fromkeys(places))
    baselines = dict.fromkeys(row.baseline for row in rows)
    sides: dict[str, list[float | None]] = {
        baseline: [row.upstream_ms for row in rows if row.baseline == baseline]
        for baseline in baselines
    }
    first = next(iter(baselines))
    sides[own] = [row.flashdreams_ms for row in rows if row.baseline == first]
    return grouped_bars(
        f"{recipe}, published",
        "Published by FlashDreams, not measured by this project.",
        groups,
        sides,
        names,
    )


def per_scene(view: RunView, latency: Sequence[LatencyRow]) -> tuple[Comparison, ...]:
    """The published per-scene lines beside this run's; none where its suite has no scenes."""
    ids = [*view.record.cells, *(cell_id for cell_id, _ in view.record.unsupported)]
    published = load_published().per_scene
    if not {row.scene for row in published} & set(map(_scene_of, ids)):
        return ()
    return _compare(published, _comparable(view, latency), view)


def _comparable(view: RunView, latency: Sequence[LatencyRow]) -> list[LatencyRow]:
    """Figures of equal output at full size: no other may stand beside a published one."""
    is_full = view.record.size == "full"
    return [row for row in latency if is_full and not row.withheld]


def _place(row: PublishedRow) -> tuple[str, str, int, str]:
    return row.recipe, row.device, row.gpus, row.scene


def _scene_of(cell_id: str) -> str:
    return "".join(cell_id.split("/")[3:])


def _compare(
    rows: Sequence[PublishedRow], measured: Sequence[LatencyRow], view: RunView
) -> tuple[Comparison, ...]:
    own = load_published().own
    logs = {
        (row.recipe, row.device, row.gpus, row.scene, row.side): row.value_ms
        for row in imported_rows(view.imports)
        if row.figure == STATED
    }
    return tuple(
        Comparison(
            published=row,
            measured=tuple(
                one
                for one in measured
                if (one.recipe, one.device, one.baseline, _scene_of(one.cell_id))
                == (row.recipe, row.device, row.baseline, row.scene)
            ),
            logged_upstream_ms=logs.get((*_place(row), row.baseline)),
            logged_flashdreams_ms=logs.get((*_place(row), own)),
        )
        for row in rows
    )
