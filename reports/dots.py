"""Speed-ups as a dot plot: a line a pair, a mark a device, a bar for the interval."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes

from harness.units import format_percent
from reports.latency import LatencyRow
from reports.side_names import SideNames, display_device
from reports.svg import INK, MUTED, draw

_WIDTH_PT, _ROW_PT, _FRAME_PT = 600.0, 34.0, 75.0
_DEVICE_MARKS: Final = (("o", "#8b5cf6"), ("D", "#0891b2"), ("s", "#db2777"), ("^", "#b7791f"))
"""Shape and colour of the first, second … device; no colour means a side elsewhere."""
_RIGHT_MARGIN: Final = 1.15
"""Room for the figure beside the last mark."""
_APART: Final = 0.36
"""Share of a line between the marks of two devices."""


def speedup_dots(rows: Sequence[LatencyRow], names: SideNames) -> str:
    """Draw every speed-up; a hollow mark has no interval, and what is withheld says so.

    Args:
        rows: Pairs in their order; several devices of one pair share a line.
        names: What the sides are called.

    Returns:
        ``<svg>`` markup.
    """
    pairs = list(dict.fromkeys(row.pair for row in rows))
    devices = list(dict.fromkeys(row.device for row in rows))

    def paint(axes: Axes) -> None:
        for device, (shape, colour) in zip(devices, _DEVICE_MARKS, strict=False):
            axes.plot([], [], shape, color=colour, label=display_device(device))
        axes.plot(
            [],
            [],
            "o",
            color=MUTED,
            markerfacecolor="none",
            label="no interval: under five processes",
        )
        for row in rows:
            own = [one.device for one in rows if one.pair == row.pair]
            shift = (own.index(row.device) - (len(own) - 1) / 2) * _APART
            _mark(axes, row, pairs.index(row.pair) + shift, devices.index(row.device))
        axes.set_yticks(range(len(pairs)), [_label(pair, names) for pair in pairs])
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.tick_params(axis="y", labelsize=10)
        axes.set_xlim(0, _RIGHT_MARGIN * max(map(_end, rows)))
        axes.grid(visible=False)
        axes.grid(visible=True, axis="x")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("speed-up of FlashDreams in percent, with its 95 % interval")

    label = "Speed-up of FlashDreams over each upstream runner, by GPU, in percent"
    return draw(label, _ROW_PT * len(pairs) + _FRAME_PT, paint, width_pt=_WIDTH_PT)


def _end(row: LatencyRow) -> float:
    """Rightmost per cent that is drawn of a row."""
    return max(row.speedup_percent or 0.0, *(row.interval_percent or (0.0,)))


def _label(pair: tuple[str, str, str], names: SideNames) -> str:
    recipe, baseline, variant = pair
    return f"{recipe}\n{names.display(baseline)}{f', {variant}' if variant else ''}"


def _mark(axes: Axes, row: LatencyRow, height: float, device: int) -> None:
    shape, colour = _DEVICE_MARKS[device]
    if row.speedup_percent is None:
        told = f"{display_device(row.device)}: no speed-up, {row.withheld}"
        _write(axes, told, 0, height, MUTED)
        return
    low, high = row.interval_percent or (row.speedup_percent, row.speedup_percent)
    axes.hlines(height, low, high, color=colour, linewidth=2)
    face = colour if row.interval_percent else "none"
    axes.plot(row.speedup_percent, height, shape, color=colour, markerfacecolor=face)
    _write(axes, format_percent(row.speedup_percent), high, height, INK)


def _write(axes: Axes, text: str, right_of: float, height: float, colour: str) -> None:
    axes.annotate(
        text,
        (right_of, height),
        (6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=colour,
    )
