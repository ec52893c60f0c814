"""``fdbench report``."""

from pathlib import Path

import click

from harness.store.run import open_run, pointing_to_fsck


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
def report_command(run: Path) -> None:
    """Render RUN again as report/index.html and report/report.md in its folder.

    Exits 7 if a file of the run was altered; the page then says so, and compares nothing.

    \b
    Example: fdbench report runs/smoke-cpu-20261123-101500
    """
    from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

    with pointing_to_fsck(run):
        page = render_run(run)
        click.echo(f"report: {page}")
        open_run(run).verify()
