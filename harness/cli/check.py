"""``fdbench check``."""

from pathlib import Path

import click

from harness import workflow
from harness.cli.summary import print_summary
from harness.store import open_run


@click.command("check")
@click.argument("run", type=click.Path(path_type=Path))
@click.pass_context
def check_command(ctx: click.Context, run: Path) -> None:
    """Verify the files of RUN and exit with the code its verdicts add up to.

    \b
    Example: fdbench check runs/smoke-cpu-20261123-101500 && ./release.sh
    """
    code = workflow.check(open_run(run))
    print_summary(run, code)
    ctx.exit(code)
