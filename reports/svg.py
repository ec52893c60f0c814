"""A matplotlib figure as SVG that lives inside a page: its text, ink and fonts are the page's."""

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE = "#010101", "#020202", "#030303"
"""Stand-ins in a drawing for the page's colours, which change with its scheme."""

_WIDTH_PT = 380.0
"""Width of a page's charts: scaled to its column, a wider one would have smaller text."""

LEGEND_CHARACTERS = 48
"""More in one line of a legend would be cut off at the chart's edge."""

_PAGE_COLOURS = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"}
_POINTS_PER_INCH = 72

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a side's name may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "legend.handlelength": 1.2,
    "legend.borderaxespad": 0,
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart and what it says."""

    title: str
    """Heading, and what a screen reader says."""
    caption: str
    svg: str
    """Markup, safe to put into a page."""


def draw(
    label: str, height_pt: float, paint: Callable[[Axes], None], width_pt: float = _WIDTH_PT
) -> str:
    """Paint axes and return ``<svg>`` markup; the same calls give the same bytes.

    Args:
        label: What a screen reader says; also makes the drawing's ids its own.
        height_pt: Height of the viewBox in points.
        paint: Draws; a legend is made of the labels it gives.
        width_pt: Width of the viewBox in points; a page's charts share one.
    """
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": label}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(
            figsize=(width_pt / _POINTS_PER_INCH, height_pt / _POINTS_PER_INCH),
            layout="constrained",
        )
        axes = figure.subplots()
        paint(axes)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            is_wide = sum(map(len, labels)) > LEGEND_CHARACTERS
            ncols = 1 if is_wide else min(len(handles), 4)
            figure.legend(handles, labels, loc="outside upper left", ncols=ncols)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True)
    return _adopt(text.getvalue(), label)


def _adopt(document: str, label: str) -> str:
    """Take what belongs to a file out of an SVG document and put in what belongs to a page."""
    text = document[document.index("<svg") :]
    # the metadata holds the time of drawing
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    used = set(re.findall(r"#([\w.-]+)[\")]", text))
    text = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", text
    )
    for stand_in, colour in _PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    spoken = html.escape(label)
    _, size = text.split("viewBox", maxsplit=1)
    return f'<svg role="img" aria-label="{spoken}" viewBox{size}'.replace(
        ">", f"><title>{spoken}</title>", 1
    )


SCHEMES: Mapping[str, Mapping[str, str]] = {
    "light": {"currentColor": "#1f2328", "var(--muted)": "#59636e", "var(--rule)": "#d1d9e0"},
    "dark": {"currentColor": "#f0f6fc", "var(--muted)": "#9198a1", "var(--rule)": "#3d444d"},
}
"""What stands for a page's colours where a drawing is a file of its own."""


def as_file(svg: str, scheme: str) -> str:
    """A drawing as an SVG file for a light or a dark page, which it cannot ask for its colours."""
    for name, colour in SCHEMES[scheme].items():
        svg = svg.replace(name, colour)
    svg = svg.replace("font-family: inherit", "font-family: system-ui, sans-serif")
    return svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1) + "\n"
