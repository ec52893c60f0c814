"""Finished cells of several runs side by side: what the README and the results page show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.judging import stats
from harness.records import Role
from harness.store.manifest import MANIFEST_FILE
from reports.latency import LatencyRow, latency_of
from reports.published_page import Comparison, build_published, figures_of
from reports.run_view import CellView, RunView, read_view
from reports.verdicts import VerdictRow, verdict_rows


@dataclass(frozen=True, kw_only=True)
class Result:
    """One cell of a run with its leading figure and what that rests on."""

    run: str
    """Name of the run's folder."""
    latency: LatencyRow
    """The steady state, or the denoising step of a recipe that has one AR step."""
    verdict: VerdictRow
    controls: int
    """Sides that the parity gate had to refuse; the cell passes only if it did."""


@dataclass(frozen=True, kw_only=True)
class Everywhere:
    """A pair that has an interval on every measured device."""

    recipe: str
    baseline: str
    figure: str
    rows: tuple[LatencyRow, ...]
    """One a device."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything that several runs show of FlashDreams beside its upstream runners."""

    rows: tuple[Result, ...]
    """A pair's devices follow one another."""
    devices: tuple[str, ...]
    everywhere: tuple[Everywhere, ...]
    published: tuple[Comparison, ...]
    """Published lines of the devices that were measured, with what was measured for them."""

    @property
    def figures(self) -> tuple[str, ...]:
        """What the milliseconds of the rows are, each once."""
        return tuple(dict.fromkeys(row.latency.figure for row in self.rows))


def read_results(folder: Path) -> Results:
    """Read every run in a folder; a run of a candidate against itself is left out.

    Raises:
        IntegrityFault: A run is damaged.
    """
    every = [read_view(path.parent) for path in sorted(folder.glob(f"*/{MANIFEST_FILE}"))]
    found = {view.folder: list(_results_of(view)) for view in every}
    rows = [row for results in found.values() for row in results]
    pairs = list(dict.fromkeys(row.latency.pair for row in rows))
    rows.sort(key=lambda row: pairs.index(row.latency.pair))
    devices = tuple(dict.fromkeys(row.latency.device for row in rows))
    return Results(
        rows=tuple(rows),
        devices=devices,
        everywhere=tuple(_everywhere(rows, devices)),
        published=tuple(line for view in every if found[view.folder] for line in _published(view)),
    )


def _results_of(view: RunView) -> Iterable[Result]:
    against_upstream = [c for c in view.cells if not view.names.is_candidate(c.reference)]
    for verdict in verdict_rows(against_upstream):
        yield Result(
            run=view.folder.name,
            latency=_leading(verdict.cell),
            verdict=verdict,
            controls=_controls(verdict.cell),
        )


def _leading(cell: CellView) -> LatencyRow:
    """A cell's figure of the widest span, over steps whose window is full."""
    rows = latency_of(cell)
    return next((row for row in rows if not row.figure.endswith(stats.SEED)), rows[0])


def _controls(cell: CellView) -> int:
    return len({trial.side for trial in cell.trials if trial.role == Role.CONTROL})


def _everywhere(rows: Sequence[Result], devices: Sequence[str]) -> Iterable[Everywhere]:
    for pair in dict.fromkeys(row.latency.pair for row in rows):
        sure = [
            row.latency for row in rows if row.latency.pair == pair and row.latency.interval_percent
        ]
        if len(sure) == len(devices):
            recipe, baseline, _ = pair
            figure = sure[0].figure
            yield Everywhere(recipe=recipe, baseline=baseline, figure=figure, rows=tuple(sure))


def _published(view: RunView) -> Iterable[Comparison]:
    page = build_published(view, figures_of(view.cells))
    return [line for line in page.per_step if line.published.device == view.record.device]
