"""``fdbench run``."""

from datetime import UTC, datetime
from pathlib import Path

import click

from harness import workflow
from harness.cli.progress import pick_watcher
from harness.cli.summary import print_summary
from harness.environments import ENVIRONMENTS_DIR
from harness.launch import Limits


@click.command("run")
@click.option("--suite", required=True, help="Suite name (see: fdbench list suites) or TOML file.")
@click.option("--gpu", "device", required=True, help="Device key (see: fdbench list devices).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run; it must not exist.  [default: runs/SUITE-DEVICE-TIME]",
)
@click.option("--only", default="", metavar="TEXT", help="Run only cells whose id contains TEXT.")
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
@click.pass_context
def run_command(
    ctx: click.Context,
    suite: str,
    device: str,
    out: Path | None,
    only: str,
    environments_dir: Path,
    stall_after: float,
) -> None:
    """Run a suite on a device, judge it and write the report.

    \b
    Example: fdbench run --suite smoke --gpu cpu
    """
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    request = workflow.RunRequest(
        suite=suite,
        device=device,
        out=out or Path("runs") / f"{Path(suite).stem}-{device}-{started}",
        environments_dir=environments_dir,
        only=only,
    )
    with pick_watcher() as watcher:
        code = workflow.run_suite(request, watcher, Limits(stall_s=stall_after))
    from reports.render import render_run  # noqa: PLC0415  matplotlib would slow --help down

    page = render_run(request.out)
    print_summary(request.out, code)
    click.echo(f"report: {page}")
    ctx.exit(code)
