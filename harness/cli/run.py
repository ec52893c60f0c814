"""``fdbench run``."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from harness import engine, plan, sides, workflow
from harness.cli.plan import outline
from harness.cli.progress import pick_watcher
from harness.cli.summary import print_summary
from harness.environments import ENVIRONMENTS_DIR
from harness.launch import Limits
from harness.units import format_duration


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
    _refuse_contradictions(resume, suite=suite, gpu=device, out=out, into=into, only=only)
    if into and out:
        raise click.UsageError("--into and --out both say where the run is; give one")
    limits = Limits(stall_s=stall_after, memory_bytes=int(memory_gib * 2**30))
    with pick_watcher() as watcher:
        if resume:
            folder = resume
            code = workflow.resume_run(resume, environments_dir, watcher, limits, base)
        else:
            request = replace(
                _request(suite, device, into or out, environments_dir, only),
                sandbox=sandbox or _sandbox(),
                base=base,
                passed=passed,
            )
            folder = request.out
            if estimated := _estimated(request):
                watcher.note(estimated)
            start = workflow.add_to_run if into else workflow.run_suite
            code = start(request, watcher, limits)
    from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

    page = render_run(folder)
    print_summary(folder, code)
    click.echo(f"report: {page}")
    ctx.exit(code)


def _estimated(request: workflow.RunRequest) -> str:
    """What the plan expects the run to take, start of the first trial on; empty on a CPU."""
    can_run = {row.cell_id: row for row in outline(request.suite, request.device) if row.trials}
    rows = [can_run[cell_id] for cell_id in plan.chosen(request.only, can_run)]
    known = [row.seconds for row in rows if row.seconds is not None]
    if not known:
        return ""
    trials = sum(row.trials for row in rows)
    return f"{trials} trials, estimated at {format_duration(sum(known))}"


def _sandbox() -> str:
    return sides.DOCKER if engine.answers() else sides.PROCESS


def _refuse_contradictions(resume: Path | None, **others: object) -> None:
    given = [f"--{name}" for name, value in others.items() if value]
    if resume and given:
        raise click.UsageError(f"--resume continues a run as it was planned, without {given[0]}")


def _request(
    suite: str | None, device: str | None, out: Path | None, environments_dir: Path, only: str
) -> workflow.RunRequest:
    for flag, value in (("--suite", suite), ("--gpu", device)):
        if not value:
            raise click.UsageError(f"Missing option '{flag}'.")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return workflow.RunRequest(
        suite=suite or "",
        device=device or "",
        out=out or Path("runs") / f"{Path(suite or '').stem}-{device}-{started}",
        environments_dir=environments_dir,
        only=only,
    )
