"""What a reader can see of a real run's pages in a browser, on a desk and on a telephone."""

import io
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from reports.render import render_run

CHROMIUM = shutil.which("chromium")
RESULTS = Path(__file__).parent.parent / "docs" / "results"
RUNS = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
PAGES = ("index.html", "published.html")
DESK, TELEPHONE = 1400, 420
SMALLEST_TEXT_PX = 11.0

pytestmark = pytest.mark.usefixtures("chromium")

TABLES = """() => [...document.querySelectorAll(".scroll > table")].map(table => [
  `${table.closest("section").id}: ${table.rows[0].innerText}`,
  table.parentElement.scrollWidth - table.parentElement.clientWidth])"""
"""Each table, and how far it reaches beyond its box."""

CHART_TEXTS = """() => [...document.querySelectorAll("figure svg text")].map(text => {
  const svg = text.ownerSVGElement, drawn = svg.getBoundingClientRect();
  const box = text.getBoundingClientRect();
  const outside = Math.max(drawn.left - box.left, box.right - drawn.right,
    drawn.top - box.top, box.bottom - drawn.bottom);
  const scale = drawn.width / svg.viewBox.baseVal.width;
  return [`${svg.getAttribute("aria-label")}: ${text.textContent}`,
    parseFloat(getComputedStyle(text).fontSize) * scale, outside];
})"""
"""Each text of a chart, its size on the screen, and how far it reaches out of its drawing."""


@pytest.fixture(scope="module", params=RUNS)
def report(request, tmp_path_factory):
    """A committed run's pages as the code makes them now: among them is every table and chart."""
    run = shutil.copytree(RESULTS / request.param, tmp_path_factory.mktemp("layout") / "run")
    return render_run(run).parent


@contextmanager
def opened(address, width, scheme="light"):
    """A page in a window, everything that folds unfolded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(address.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        yield page
        browser.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_table_is_clipped_on_a_desk(report, name):
    """No column has to be scrolled to where there is room for it."""
    with opened(report / name, DESK) as page:
        tables = page.evaluate(TABLES)

    assert tables
    assert [table for table, beyond_px in tables if beyond_px > 0] == []


@pytest.mark.parametrize("width", [DESK, TELEPHONE])
@pytest.mark.parametrize("name", PAGES)
def test_text_of_charts_is_readable_and_whole(report, name, width):
    """However many bars a chart has, its words are of one size and within it."""
    with opened(report / name, width) as page:
        drawn = page.evaluate(CHART_TEXTS)
        overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    assert drawn
    assert [text for text, size_px, _ in drawn if size_px < SMALLEST_TEXT_PX] == []
    assert [text for text, _, outside_px in drawn if outside_px > 1] == []
    assert overflow_px <= 0


def test_latency_table_is_whole_on_a_telephone(report):
    """Its figures are what the report is for, so that none of them is out of sight."""
    with opened(report / "index.html", TELEPHONE) as page:
        box = page.locator("#latency .scroll:has(> .blocks)")
        beyond_px = box.evaluate("box => box.scrollWidth - box.clientWidth")
        row = box.locator("tbody tr").first
        label = "cell => getComputedStyle(cell, '::before').content"
        labels = [cell.evaluate(label) for cell in row.locator("td[data-label]").all()]

    assert beyond_px <= 0
    assert {'"Speedup"', '"Baseline"'} <= set(labels)
    assert len([label for label in labels if label.endswith('(ms)"')]) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_table_that_goes_on_is_shaded_at_that_side(report, scheme):
    """A box that scrolls shows at which side there is more, and no shade where there is none."""
    with opened(report / "index.html", TELEPHONE, scheme) as page:
        box = page.locator("#parity .scroll:has(table)").first
        at_start = edges(box)
        box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
        at_end = edges(box)
        whole = edges(page.locator("#latency .scroll:has(svg)").first)

    ground = (255, 255, 255) if scheme == "light" else (20, 23, 26)
    assert (at_start[0], at_end[1], *whole) == (ground,) * 4
    assert distance(at_start[1], ground) > 30
    assert distance(at_end[0], ground) > 30


def edges(box):
    """The commonest colour of a box's leftmost and of its rightmost pixels."""
    shot = Image.open(io.BytesIO(box.screenshot())).convert("RGB")
    columns = ([shot.getpixel((x, y)) for y in range(shot.height)] for x in (1, shot.width - 2))
    return tuple(Counter(column).most_common(1)[0][0] for column in columns)


def distance(colour, other):
    """The largest difference in one of red, green and blue."""
    return max(abs(one - two) for one, two in zip(colour, other, strict=True))
