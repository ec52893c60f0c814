"""Tables and charts of the repository's own documents, made from the committed runs.

A document marks where a table stands, and nothing outside of the marks is touched:

    <!-- fdbench docs: NAME -->
    ...
    <!-- end of NAME -->
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.errors import UsageFault
from reports.dots import speedup_dots
from reports.render import markdown_environment
from reports.results import Results, read_results
from reports.side_names import known_names
from reports.svg import SCHEMES, as_file

RESULTS: Final = Path("docs/results")
_DOCUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "README.md": ("measured",),
    "docs/results/README.md": ("every_cell", "published"),
}
"""Document to the tables that it marks."""


def render_documents(checkout: Path) -> dict[Path, str]:
    """Every document and chart that follows from the committed runs, as it should be.

    Args:
        checkout: Folder of the repository.

    Returns:
        Path to text, for all of them, changed or not.

    Raises:
        UsageFault: The folder is no checkout with runs, or a document lacks a mark.
        IntegrityFault: A run is damaged.
    """
    missing = [name for name in _DOCUMENTS if not (checkout / name).is_file()]
    results = read_results(checkout / RESULTS)
    if missing or not results.rows:
        what = f"no {missing[0]}" if missing else f"no finished run in {RESULTS}"
        raise UsageFault(
            f"{checkout.resolve()} has {what}\n"
            "Go to a checkout of fdbench, or name one: fdbench docs PATH"
        )
    texts = {
        checkout / name: _filled((checkout / name).read_text("utf-8"), name, tables, results)
        for name, tables in _DOCUMENTS.items()
    }
    drawn = speedup_dots([row.latency for row in results.rows], known_names())
    for scheme in SCHEMES:
        texts[checkout / "docs" / "images" / f"speedup-{scheme}.svg"] = as_file(drawn, scheme)
    return texts


def _filled(text: str, name: str, tables: tuple[str, ...], results: Results) -> str:
    environment = markdown_environment(known_names())
    for table in tables:
        begin, end = f"<!-- fdbench docs: {table} -->", f"<!-- end of {table} -->"
        before, is_begun, rest = text.partition(begin)
        _, is_ended, after = rest.partition(end)
        if not is_begun or not is_ended:
            raise UsageFault(f"{name} must have these two lines:\n{begin}\n{end}")
        made = environment.get_template(f"docs/{table}.md.j2").render(results=results)
        text = f"{before}{begin}\n{made}{end}{after}"
    return text
