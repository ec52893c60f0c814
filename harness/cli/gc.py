"""``fdbench gc``."""

from pathlib import Path

import click

from harness.integrity import gc


@click.command("gc")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
def gc_command(runs: tuple[Path, ...]) -> None:
    """Remove what a killed fdbench left behind: containers, processes and folders.

    With RUN, also remove the job folders in it that no process is using.

    \b
    Example: fdbench gc
             fdbench gc runs/smoke-cpu-20261123-101500
    """
    removed = 0
    for what in gc.collect(runs):
        click.echo(f"removed {what}")
        removed += 1
    if not removed:
        click.echo("nothing to remove")
