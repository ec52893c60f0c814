"""``fdbench run``: what it takes. What it does is imported when it is done."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from harness.sandboxes.contract import SANDBOXES


@click.command("run")
@click.option("--suite", help="Suite name (see: fdbench list suites) or TOML file.")
@click.option("--gpu", "device", help="Device key (see: fdbench list devices).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the new run; it must not exist yet.  [default: runs/SUITE-DEVICE-TIME]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Continue RUN, which was stopped; suite and device are taken from it.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Add cells to RUN, an existing run of the same suite and device.",
)
@click.option(
    "--only",
    default="",
    metavar="TEXT",
    help="Run only the cell with this id, or every cell whose id contains TEXT.",
)
@click.option(
    "--envs",
    "environments_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    show_default="upstream_envs",
    help="Folder of environment declarations.",
)
@click.option(
    "--stall-after",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up on a trial after this long without a new AR step.",
)
@click.option(
    "--sandbox",
    type=click.Choice(SANDBOXES),
    envvar="FDBENCH_SANDBOX",
    show_default="docker if an engine answers",
    help="Run each side in a container or in a plain process.",
)
@click.option(
    "--base",
    default="",
    envvar="FDBENCH_BASE",
    metavar="IMAGE",
    help="Base image of the containers (see: fdbench env build --help).",
)
@click.option(
    "--env",
    "passed",
    multiple=True,
    metavar="NAME",
    help="Pass this variable to the sides; its value is kept out of every file.",
)
@click.option(
    "--memory",
    "memory_gib",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default="90 % of the machine's",
    metavar="GIB",
    help="Memory limit of a container, shared memory included.",
)
@click.pass_context
def run_command(ctx: click.Context, /, **given: Any) -> None:
    """Run a suite on a device, judge it and write the report.

    \b
    Example: fdbench run --suite smoke --gpu cpu
             fdbench run --resume runs/smoke-cpu-20261123-101500
             fdbench run --into runs/smoke-cpu-20261123-101500 --suite smoke --gpu cpu --only wan21
    """
    typed = tuple(_typed(ctx))
    _refuse_contradictions(typed)
    # Help and completion do not wait for it.
    from harness.cli import running  # noqa: PLC0415

    running.run(running.RunOptions(typed=typed, **given))


def _typed(ctx: click.Context) -> list[str]:
    """Options of the command line itself, as they are typed; none of the environment's."""
    sources = {option: ctx.get_parameter_source(option.name or "") for option in ctx.command.params}
    return [
        option.opts[0]
        for option, source in sources.items()
        if source is ParameterSource.COMMANDLINE
    ]


def _refuse_contradictions(typed: Collection[str]) -> None:
    fixed = ("--suite", "--gpu", "--out", "--into", "--only", "--sandbox", "--env")
    given = [option for option in fixed if option in typed]
    if "--resume" in typed and given:
        raise click.UsageError(f"--resume continues a run as it was planned; leave out {given[0]}")
    if "--into" in typed and "--out" in typed:
        raise click.UsageError("--into and --out both name the run's folder; give only one")
