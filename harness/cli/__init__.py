"""The ``fdbench`` command."""

import sys

import click

from harness.cli.check import check_command
from harness.cli.doctor import doctor_command
from harness.cli.env import env_group
from harness.cli.fsck import fsck_command
from harness.cli.list import list_command
from harness.cli.parse import parse_command
from harness.cli.plan import plan_command
from harness.cli.report import report_command
from harness.cli.run import run_command
from harness.errors import ExitCode, FdbenchError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fdbench")
def fdbench() -> None:
    """Run FlashDreams beside the runners it replaces and judge speed and output.

    \b
    Exit codes: 0 pass, 1 slower than allowed, 2 usage, 3 parity failed, 4 incomplete,
    5 environment, 6 inconclusive, 7 integrity. The worst of a run wins: 7 5 3 4 1 6 0.
    """


for command in (
    doctor_command,
    plan_command,
    run_command,
    report_command,
    check_command,
    fsck_command,
    parse_command,
    list_command,
    env_group,
):
    fdbench.add_command(command)


def main() -> None:
    """Run the command line; the only place where an error becomes a message and an exit code."""
    try:
        code = fdbench.main(prog_name="fdbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except FdbenchError as error:
        click.echo(f"fdbench: {error}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("fdbench: stopped before anything was run", err=True)
        code = ExitCode.INCOMPLETE
    sys.exit(code)
