"""Bar charts of milliseconds: bars lie under a heading each, so that more of them grow downwards.

A chart which grew sideways would be scaled to the page's column, and its text with it.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from harness.units import format_interval, format_ms, format_percent
from reports.latency import LatencyRow
from reports.side_names import SideNames, display_device
from reports.svg import Chart, draw

_LINE_PT, _BAR_PT, _GAP_PT = 15.0, 19.0, 9.0
"""Heights of a line of text, of a bar with the space around it, and between groups."""
_FRAME_PT = 68.0
"""Height of what is around the bars: legend, ticks and the axis' name."""
_LINE_CHARACTERS = 54
"""More in a line of text would make it wider than the chart."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Bars that are looked at together."""

    heading: str
    remark: str
    """What the bars come to, in words; may be empty."""
    bars: tuple[tuple[str, float | None], ...]
    """Side and milliseconds."""
    is_withheld: bool
    """Whether the bars must not be held against each other."""

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Text above the bars, each line with its weight."""
        return [
            (line, weight)
            for text, weight in ((self.heading, "normal"), (self.remark, "bold"))
            for line in textwrap.wrap(text, _LINE_CHARACTERS)
        ]


def latency_charts(rows: Sequence[LatencyRow], names: SideNames) -> list[Chart]:
    """Baseline beside candidate: a chart per recipe and variant, a group per other figure."""
    charts: dict[tuple[str, str], list[LatencyRow]] = {}
    for row in rows:
        if row.upstream_ms is not None or row.flashdreams_ms is not None:
            charts.setdefault((row.recipe, row.variant), []).append(row)
    return [_latency_chart(drawn, names) for drawn in charts.values()]


def _latency_chart(rows: Sequence[LatencyRow], names: SideNames) -> Chart:
    variant = f", {rows[0].variant}," if rows[0].variant else ""
    title = f"{rows[0].recipe}{variant} on {display_device(rows[0].device)}"
    has_several = len({row.baseline for row in rows}) > 1
    groups = [
        _Group(
            heading=f"{row.figure}, {names.display(row.baseline)}" if has_several else row.figure,
            remark=_remark(row),
            bars=((row.baseline, row.upstream_ms), (row.candidate, row.flashdreams_ms)),
            is_withheld=bool(row.withheld),
        )
        for row in rows
    ]
    caption = "Mean over processes; see the table for each process."
    if any(row.withheld for row in rows):
        caption += " Hatched: these two may not be compared, for the reason above them."
    return Chart(
        title=title,
        caption=caption,
        svg=_draw(f"Latency of {title}, in milliseconds", groups, names),
    )


def _remark(row: LatencyRow) -> str:
    """The speed-up and how sure it is, or why there is none."""
    if row.withheld:
        return f"speed-up withheld: {row.withheld}"
    speedup = f"speed-up {format_percent(row.speedup_percent)}"
    if row.interval_percent is None:
        few = min(row.processes)
        return f"{speedup}, {few} {'process' if few == 1 else 'processes'} a side"
    return f"{speedup}, 95 % interval {format_interval(row.interval_percent)}"


def grouped_bars(
    title: str,
    caption: str,
    groups: Sequence[str],
    sides: Mapping[str, Sequence[float | None]],
    names: SideNames,
) -> Chart:
    """Bars by group, such as devices, with one bar a side in milliseconds."""
    drawn = [
        _Group(
            heading=group,
            remark="",
            bars=tuple((side, values[number]) for side, values in sides.items()),
            is_withheld=False,
        )
        for number, group in enumerate(groups)
    ]
    return Chart(title=title, caption=caption, svg=_draw(title, drawn, names))


def _draw(label: str, groups: Sequence[_Group], names: SideNames) -> str:
    height = sum(_LINE_PT * len(g.lines) + _BAR_PT * len(g.bars) + _GAP_PT for g in groups)

    def paint(axes: Axes) -> None:
        for side in dict.fromkeys(side for group in groups for side, _ in group.bars):
            # a bar of no length: the legend shows the side's colour, never a hatched one
            axes.barh(0, 0, height=0, color=names.colour(side), label=names.display(side))
        top = _GAP_PT / 2
        for group in groups:
            top = _paint_group(axes, group, top, names)
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        axes.margins(x=0.14)
        axes.set_xlim(left=0)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", size=4)
        axes.set_xlabel("ms, lower is better")

    return draw(label, height + _FRAME_PT, paint)


def _paint_group(axes: Axes, group: _Group, top: float, names: SideNames) -> float:
    """Draw a group; returns where it ends."""
    for line, weight in group.lines:
        axes.text(0, top + _LINE_PT / 2, line, va="center", fontsize=11, fontweight=weight)
        top += _LINE_PT
    for side, value in group.bars:
        colour = names.colour(side)
        drawn = axes.barh(
            top + _BAR_PT / 2,
            value or 0.0,
            height=0.86 * _BAR_PT,
            facecolor="none" if group.is_withheld else colour,
            edgecolor=colour,
            hatch="////" if group.is_withheld else None,
        )
        axes.bar_label(drawn, [format_ms(value)], padding=4, fontsize=11)
        top += _BAR_PT
    return top + _GAP_PT
