"""What ``fdbench run`` does: runs, continues or adds to a run, then shows what came of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from harness import workflow
from harness.cli.named import suite_and_device
from harness.cli.pipes import answering
from harness.cli.progress import pick_watcher
from harness.cli.report import render
from harness.cli.summary import print_summary
from harness.environments import sides
from harness.environments.declared import ENVIRONMENTS_DIR
from harness.records import PairRow
from harness.sandboxes import engine
from harness.store.run import open_run
from harness.trials.launch import Limits


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What was given to ``fdbench run``, by the names of its parameters."""

    suite: str | None
    device: str | None
    out: Path | None
    resume: Path | None
    into: Path | None
    only: str
    environments_dir: Path | None
    stall_after: float
    sandbox: str | None
    base: str
    passed: tuple[str, ...]
    memory_gib: float
    typed: tuple[str, ...]
    """Options of the command line itself; none of the environment's."""


def run(options: RunOptions) -> None:
    """Do what was asked for and exit with the code of the run."""
    limits = Limits(stall_s=options.stall_after, memory_bytes=int(options.memory_gib * 2**30))
    environments_dir = options.environments_dir or ENVIRONMENTS_DIR
    before = _num_verdicts(options.resume or options.into)
    if options.resume:
        folder = options.resume
        with pick_watcher() as watcher:
            code = workflow.resume_run(folder, environments_dir, watcher, limits, options.base)
    else:
        request = _request(options, environments_dir)
        folder = request.out
        start = workflow.add_to_run if options.into else workflow.run_suite
        with pick_watcher() as watcher:
            code = start(request, watcher, limits)
    if before and before == _num_verdicts(folder):
        click.echo("nothing is left to run: every requested cell has its verdict")
    page = render(folder)
    with answering(code):
        click.echo()
        print_summary(folder, code)
        click.echo(f"report: {page}")


def _num_verdicts(folder: Path | None) -> int:
    """How many cells of a run are judged; none of a run that is yet to be made.

    Raises:
        UsageFault: The folder is no run.
    """
    return len(open_run(folder).stored_parts(PairRow)) if folder else 0


def _chosen_sandbox(options: RunOptions) -> str:
    """What new cells run in; empty for that of the run they go into, unless it was typed."""
    if options.into:
        return (options.sandbox or "") if "--sandbox" in options.typed else ""
    return options.sandbox or (sides.DOCKER if engine.answers() else sides.PROCESS)


def _request(options: RunOptions, environments_dir: Path) -> workflow.RunRequest:
    suite, device = suite_and_device(options.suite, options.device, "run")
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    new = Path("runs") / f"{Path(suite).stem}-{device}-{started}"
    return workflow.RunRequest(
        suite=suite,
        device=device,
        out=options.into or options.out or new,
        environments_dir=environments_dir,
        only=options.only,
        sandbox=_chosen_sandbox(options),
        base=options.base,
        passed=options.passed,
    )
