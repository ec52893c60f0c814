"""``fdbench report``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from harness.store.run import open_run, pointing_to_fsck


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the pages, for a run that is read-only.  [default: report, in RUN]",
)
def report_command(run: Path, out: Path | None) -> None:
    """Render RUN as index.html, published.html and report.md.

    Exits 7 if a file of the run was altered; the page then says so, and compares nothing.

    \b
    Example: fdbench report runs/smoke-cpu-20261123-101500
             fdbench report /mnt/runs/smoke-cpu-20261123-101500 --out pages
    """
    with pointing_to_fsck(run):
        click.echo(f"report: {render(run, out)}")
        open_run(run).verify()


def render(run: Path, out: Path | None = None) -> Path:
    """Render a run and tell meanwhile, on a terminal, what takes time; returns the page."""
    with _progress() as note:
        note(f"reading {run}")
        from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

        return render_run(run, out, note)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows one changing line on standard error; standard output is for the answer."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(text))
