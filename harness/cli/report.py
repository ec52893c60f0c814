"""``fdbench report``."""

from pathlib import Path

import click

from reports.render import render_run


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
def report_command(run: Path) -> None:
    """Render RUN again as report/index.html and report/report.md in its folder.

    \b
    Example: fdbench report runs/smoke-cpu-20261123-101500
    """
    click.echo(f"report: {render_run(run)}")
