"""The charts of a cell, drawn from the same rows as its tables."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from harness.judging.stats import WARMUP_AR_STEPS
from harness.records import UNTIMED, Phase, Role, StepRow
from reports.distance import DistanceTable
from reports.latency import COMPARED_STAGE, is_streaming
from reports.run_view import CellView
from reports.side_names import CANDIDATE_COLOUR
from reports.stages import StageTable
from reports.svg import INK, LEGEND_CHARACTERS, MUTED, Chart, draw

_LIMIT_COLOUR = "#dc2626"
_STAGE_COLOURS = ("#94a3b8", "#6366f1", "#0ea5e9", "#e879a9", "#a16207", "#64748b")
"""No green among them: a stage is not a side."""

_COLD_START = 3.0
"""Times a step must outlast every step from AR 2 on to be left above the axis."""

_MOST_MARKERS = 200
"""AR steps beyond which the points of a line would only cover it."""

_HOLLOW = {Phase.FILLING.value: "none"}
_MARKERS = {Phase.CAPTURE.value: "D"}


def step_chart(cell: CellView) -> Chart | None:
    """Compared stage over AR steps, a line per process; None where there are no such steps."""
    sides = [(role, _drawn(cell, role)) for role in (Role.REFERENCE, Role.CANDIDATE)]
    shown = [step for _, processes in sides for steps in processes for step in steps]
    times = [step.stages_ms.get(COMPARED_STAGE, 0.0) for step in shown]
    if not is_streaming(cell) or min(times, default=0.0) <= 0:
        return None

    warm = [s.stages_ms[COMPARED_STAGE] for s in shown if s.ar >= WARMUP_AR_STEPS]
    is_cold = bool(warm) and max(times) > _COLD_START * max(warm)
    top_ms = max(warm) if is_cold else max(times)

    def paint(axes: Axes) -> None:
        pair = cell.reference, cell.candidate
        for (_, processes), side, colour in zip(
            sides, pair, cell.names.colours(*pair), strict=True
        ):
            name = _wrapped(cell.names.display(side))
            for number, steps in enumerate(processes):
                _process_line(axes, steps, colour, "_" if number else name)
        _shade_phases(axes, next((steps for _, ps in reversed(sides) for steps in ps), []))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(-0.5, max(step.ar for step in shown) + 0.5)
        axes.set_xlabel("AR step")
        axes.set_ylabel(f"{COMPARED_STAGE}, ms")
        axes.set_ylim(0, 1.1 * top_ms)

    return Chart(
        title=cell.cell_id,
        caption="One line per process. Hollow points: KV window filling; diamonds: CUDA graph "
        "capture; filled points: steady."
        + (f" Off the axis: steps of up to {max(times) / 1e3:.1f} s." if is_cold else ""),
        svg=draw(f"{COMPARED_STAGE} time per AR step of {cell.cell_id}", 250, paint),
    )


def _wrapped(name: str) -> str:
    """A side's name in lines that a legend has room for."""
    return "\n".join(textwrap.wrap(name.replace(",", ", "), LEGEND_CHARACTERS))


def _drawn(cell: CellView, role: Role) -> list[list[StepRow]]:
    """AR steps of each process that counts; one under a profiler is nobody's time."""
    processes = cell.processes(role)
    timed = [[step for step in steps if step.phase not in UNTIMED] for steps in processes]
    return [steps for steps in timed if steps]


def _process_line(axes: Axes, steps: Sequence[StepRow], colour: str, label: str) -> None:
    ars = [step.ar for step in steps]
    times = [step.stages_ms[COMPARED_STAGE] for step in steps]
    axes.plot(ars, times, color=colour, linewidth=1.2, label=label)
    if len(steps) > _MOST_MARKERS:
        return
    for phase in dict.fromkeys(step.phase for step in steps):
        drawn = [
            (step.ar, ms) for step, ms in zip(steps, times, strict=True) if step.phase == phase
        ]
        axes.plot(
            *zip(*drawn, strict=True),
            linestyle="none",
            marker=_MARKERS.get(phase, "o"),
            markersize=5,
            color=colour,
            markerfacecolor=_HOLLOW.get(phase, colour),
        )


def _shade_phases(axes: Axes, steps: Sequence[StepRow]) -> None:
    """Shade where the window fills or the graph is captured, and name every phase."""
    for phase, opacity in ((Phase.FILLING, 0.10), (Phase.CAPTURE, 0.25), (Phase.STEADY, 0.0)):
        ars = [step.ar for step in steps if step.phase == phase]
        if not ars:
            continue
        axes.axvspan(ars[0] - 0.5, ars[-1] + 0.5, color=MUTED, alpha=opacity, linewidth=0)
        axes.annotate(
            phase,
            ((ars[0] + ars[-1]) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=11,
        )


def distance_chart(table: DistanceTable) -> Chart | None:
    """Error, noise floor and limit over AR steps, log axis; None without an error or two points."""
    series = (
        ("limit", "--", _LIMIT_COLOUR, [_product(row.floor, table.limit) for row in table.rows]),
        ("error", "-", CANDIDATE_COLOUR, [row.relative_l2 for row in table.rows]),
        ("noise floor", ":", INK, [row.floor for row in table.rows]),
    )
    ars = [row.ar for row in table.rows]
    points = [point for *_, values in series for point in _drawable(ars, values)]
    if len({ar for ar, _ in points}) < 2 or not _drawable(ars, series[1][-1]):
        return None
    shown = [value for _, value in points]

    def paint(axes: Axes) -> None:
        for label, line, colour, values in series:
            line_points = _drawable(ars, values)
            xs, ys = [ar for ar, _ in line_points], [value for _, value in line_points]
            axes.plot(xs, ys, line, color=colour, marker="o", markersize=4, label=label)
        _scale_error(axes, min(shown), max(shown))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("AR step")
        axes.set_ylabel("relative L2 (log)")

    return Chart(
        title=table.cell_id,
        caption="Error of the worst candidate process. A value that is zero or not a number has "
        "no point on this axis; the table has it.",
        svg=draw(f"Parity error per AR step of {table.cell_id}", 220, paint),
    )


def _product(floor: float | None, limit: float | None) -> float | None:
    return None if floor is None or limit is None else floor * limit


def _drawable(ars: Sequence[int], values: Sequence[float | None]) -> list[tuple[int, float]]:
    return [
        (ar, value)
        for ar, value in zip(ars, values, strict=True)
        if value is not None and math.isfinite(value) and value > 0
    ]


def _scale_error(axes: Axes, smallest: float, largest: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(smallest / 2, largest * 2)
    steps = (1.0, 2.0, 5.0) if largest / smallest < 100 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))


def stage_chart(table: StageTable) -> Chart | None:
    """A stacked bar per side; None where nothing was timed."""
    if not table.rows:
        return None

    # a side's overrides on lines of their own leave the bars half the chart
    names = [_broken(name) for name in (table.flashdreams, table.upstream)]
    most_breaks = max(name.count("\n") for name in names)

    def paint(axes: Axes) -> None:
        left = [0.0, 0.0]
        for number, row in enumerate(table.rows):
            widths = [row.flashdreams_ms or 0.0, row.upstream_ms or 0.0]
            colour = _STAGE_COLOURS[number % len(_STAGE_COLOURS)]
            axes.barh([0, 1], widths, left=left, height=0.55, color=colour, label=row.stage)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_yticks([0, 1], names)
        # a stage of no time at the end of a bar would pin the axis to it
        axes.set_xlim(0, 1.05 * max(left) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("ms")

    return Chart(
        title=table.cell_id,
        caption=f"Median of each stage over {table.window}, all processes.",
        svg=draw(f"Stage times of {table.cell_id}", 130 + 20 * max(most_breaks, 1), paint),
    )


def _broken(name: str) -> str:
    """A side's name with a line for each of its overrides."""
    environment, brace, overrides = name.partition("{")
    return environment + brace.replace("{", "\n{") + overrides.replace(",", ",\n")
