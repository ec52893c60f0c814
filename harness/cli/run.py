"""``fdbench run``."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from click.core import ParameterSource

from harness import workflow
from harness.cli.named import suite_and_device
from harness.cli.pipes import answering
from harness.cli.progress import pick_watcher
from harness.cli.summary import print_summary
from harness.environments import sides
from harness.environments.declared import ENVIRONMENTS_DIR
from harness.records import PairRow
from harness.sandboxes import engine
from harness.store.run import open_run
from harness.trials.launch import Limits


@click.command("run")
@click.option("--suite", help="Suite name (see: fdbench list suites) or TOML file.")
@click.option("--gpu", "device", help="Device key (see: fdbench list devices).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run; it must not exist.  [default: runs/SUITE-DEVICE-TIME]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run what is left of RUN, which was stopped; its suite and device are known.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Add the cells to RUN, a run of the same suite and device.",
)
@click.option(
    "--only",
    default="",
    metavar="TEXT",
    help="Run only the cell with this id, or all whose id contains it.",
)
@click.option(
    "--envs",
    "environments_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ENVIRONMENTS_DIR,
    show_default="upstream_envs",
    help="Folder that declares the environments.",
)
@click.option(
    "--stall-after",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Give a trial up when no new AR step comes for this long.",
)
@click.option(
    "--sandbox",
    type=click.Choice(sides.SANDBOXES),
    envvar="FDBENCH_SANDBOX",
    show_default="docker where an engine answers",
    help="Run each side in a container, or in a process.",
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
    help="Let the sides see this variable; its value is kept out of every file.",
)
@click.option(
    "--memory",
    "memory_gib",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default="nine tenths of the machine's",
    metavar="GIB",
    help="Memory of a container, shared memory included.",
)
@click.pass_context
def run_command(
    ctx: click.Context,
    suite: str | None,
    device: str | None,
    out: Path | None,
    resume: Path | None,
    into: Path | None,
    only: str,
    environments_dir: Path,
    stall_after: float,
    sandbox: str | None,
    base: str,
    passed: tuple[str, ...],
    memory_gib: float,
) -> None:
    """Run a suite on a device, judge it and write the report.

    \b
    Example: fdbench run --suite smoke --gpu cpu
             fdbench run --resume runs/smoke-cpu-20261123-101500
             fdbench run --into runs/smoke-cpu-20261123-101500 --suite smoke --gpu cpu --only wan21
    """
    typed = _typed(ctx)
    _refuse_contradictions(typed)
    limits = Limits(stall_s=stall_after, memory_bytes=int(memory_gib * 2**30))
    before = _num_verdicts(resume or into)
    with pick_watcher() as watcher:
        if resume:
            folder = resume
            code = workflow.resume_run(resume, environments_dir, watcher, limits, base)
        else:
            request = replace(
                _request(suite, device, into or out, environments_dir, only),
                sandbox=_chosen_sandbox(sandbox, typed),
                base=base,
                passed=passed,
            )
            folder = request.out
            start = workflow.add_to_run if into else workflow.run_suite
            code = start(request, watcher, limits)
    if before and before == _num_verdicts(folder):
        click.echo("nothing is left to run: every cell that was asked for has its verdict")
    from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

    page = render_run(folder)
    with answering(code):
        print_summary(folder, code)
        click.echo(f"report: {page}")


def _num_verdicts(folder: Path | None) -> int:
    """How many cells of a run are judged; none of a run that is yet to be made.

    Raises:
        UsageFault: The folder is no run.
    """
    return len(open_run(folder).stored_parts(PairRow)) if folder else 0


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
        raise click.UsageError(f"--resume continues a run as it was planned, without {given[0]}")
    if "--into" in typed and "--out" in typed:
        raise click.UsageError("--into and --out both say where the run is; give one")


def _chosen_sandbox(sandbox: str | None, typed: Collection[str]) -> str:
    """What new cells run in; empty for that of the run they go into, unless it was typed."""
    if "--into" in typed:
        return (sandbox or "") if "--sandbox" in typed else ""
    return sandbox or (sides.DOCKER if engine.answers() else sides.PROCESS)


def _request(
    suite: str | None, device: str | None, out: Path | None, environments_dir: Path, only: str
) -> workflow.RunRequest:
    suite, device = suite_and_device(suite, device, "run")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return workflow.RunRequest(
        suite=suite,
        device=device,
        out=out or Path("runs") / f"{Path(suite).stem}-{device}-{started}",
        environments_dir=environments_dir,
        only=only,
    )
