"""``fdbench report``."""

from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
def report_command(run: Path) -> None:
    """Render RUN again as report/index.html and report/report.md in its folder.

    \b
    Example: fdbench report runs/smoke-cpu-20261123-101500
    """
    from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

    click.echo(f"report: {render_run(run)}")
