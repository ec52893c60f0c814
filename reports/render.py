"""Renders a run as one static HTML page and as Markdown."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.errors import EnvironmentFault, fdbench_command
from harness.store.durable import write_text
from harness.units import format_duration, format_error, format_interval, format_ms, format_percent
from reports.page import build_page
from reports.provenance import SHORT_DIGEST
from reports.published_page import build_published, figures_of
from reports.run_view import read_view
from reports.side_names import SideNames, display_device, sentence_case
from reports.verdicts import format_ratio

TEMPLATES_DIR: Final = Path(__file__).resolve().parent.parent / "templates"

SHORT_UUID = len("GPU-ab5d2b74")
"""Tells the GPUs of a run apart."""

NOTHING = "–"
"""Stands where there is no value: an empty cell would shift a Markdown table."""


def render_run(
    folder: Path, out: Path | None = None, note: Callable[[str], None] = lambda _: None
) -> Path:
    """Write ``index.html``, ``published.html`` and ``report.md`` of a run.

    The same run gives the same bytes.

    Args:
        folder: Of the run.
        out: Where the pages go; the run's ``report`` folder unless given.
        note: Told what takes time.

    Returns:
        Where the HTML page is.

    Raises:
        UsageFault: The folder is no run.
        IntegrityFault: Its ``run.json`` is not what a run writes.
        EnvironmentFault: A page cannot be written.
    """
    note(f"reading {folder}")
    view = read_view(folder)
    page = build_page(view, note)
    note("drawing the published figures")
    published = build_published(view, figures_of(view.cells))
    note("writing the pages")
    to_run = _url_between(out, folder) if out else ".."
    markdown = _environment(_markdown_text, view.names, to_run)
    html = _environment(_html_text, view.names, to_run)
    texts = {
        name: environment.get_template(template).render(page=content)
        for name, template, environment, content in (
            ("report.md", "report.md.j2", markdown, page),
            ("index.html", "report.html.j2", html, page),
            ("published.html", "published.html.j2", html, published),
        )
    }
    return _write(folder, out, texts) / "index.html"


def _url_between(pages: Path, folder: Path) -> str:
    """Way from the pages to the run as a browser goes it, which follows no link."""
    return quote(os.path.relpath(folder.absolute(), pages.absolute()))


def _write(folder: Path, out: Path | None, texts: Mapping[str, str]) -> Path:
    """Write the pages; returns their folder.

    Raises:
        EnvironmentFault: One cannot be written.
    """
    report = out or folder / "report"
    try:
        report.mkdir(exist_ok=True, parents=out is not None)
        for name, text in texts.items():
            write_text(report / name, text)
    except OSError as error:
        same = fdbench_command("report", folder, *(("--out", out) if out else ()))
        elsewhere = fdbench_command("report", folder, "--out", "DIR")
        raise EnvironmentFault(
            f"the report cannot be written: {error.filename2 or report}: "
            f"{error.strerror}\nClear that place, then: {same}\nOr name another: {elsewhere}"
        ) from error
    return report


def markdown_environment(names: SideNames) -> Environment:
    """Templates of Markdown, whose every value is escaped for GitHub."""
    return _environment(_markdown_text, names, to_run="")


def _environment(finalize: Callable[[Any], Any], names: SideNames, to_run: str) -> Environment:
    """Templates whose every value passes through ``finalize``, and HTML's through autoescape."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "ms": format_ms,
        "share": _share,
        "gpus": lambda uuids: ", ".join(uuid[:SHORT_UUID] for uuid in uuids) or NOTHING,
        "unit": lambda value, unit: NOTHING if value is None else f"{format_ms(value)} {unit}",
        "kilo": lambda value: format_ms(None if value is None else value / 1e3),
        "interval": format_interval,
        "percent": format_percent,
        "error": _error,
        "ratio": format_ratio,
        "of_run": lambda url: f"{to_run}/{url}",
        "duration": format_duration,
        "cosine": _cosine,
        "figure": _figure,
        "decibel": _decibel,
        "side": names.display,
        "sentence": sentence_case,
        "device": display_device,
        "short": lambda digest: digest[:SHORT_DIGEST],
        "code": _code,
    }
    return environment


def _html_text(value: Any) -> Any:
    return NOTHING if value is None or (isinstance(value, str) and not value.strip()) else value


def _markdown_text(value: Any) -> Any:
    """Escape what Markdown or GitHub would read as markup; nothing is ever an empty cell."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(_html_text(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{mark}" if mark in "\\`*_[]|~#$" else mark for mark in text)


def _code(command: str) -> Markup:
    """A line for a Markdown code block, which nothing in it can end."""
    return Markup(" ".join(command.split()).replace("`", "'"))  # noqa: S704 -- not HTML


def _error(value: float | None) -> str:
    return "NaN" if value is not None and math.isnan(value) else format_error(value)


def _cosine(value: float | None) -> str:
    """A cosine similarity by its distance from 1, where rounding would hide that."""
    if value is None or math.isnan(value) or abs(1 - value) > 0.01:
        return _figure(value)
    return f"1 − {1 - value:.1e}" if value < 1 else "1"


def _decibel(value: float | None) -> str:
    """A signal-to-noise ratio; equal frames have no noise."""
    if value is None:
        return NOTHING
    return "equal" if value == math.inf else "NaN" if math.isnan(value) else f"{value:.1f}"


def _share(value: float | None) -> str:
    """A small fraction in percent."""
    return NOTHING if value is None else f"{100 * value:.3f} %"


def _figure(value: float | None) -> str:
    """A number without unit, to six significant digits."""
    if value is None:
        return NOTHING
    return "NaN" if math.isnan(value) else f"{value:#.6g}"
