"""The ``fdbench`` command."""

import errno
import importlib
import sys
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from harness.cli import pipes
from harness.cli.completion import completed
from harness.errors import EnvironmentFault, ExitCode, FdbenchError
from harness.sandboxes.untrusted import printable

COMMANDS: Final = {
    "plan": ("harness.cli.plan:plan_command", "Show every cell of a suite, or why it cannot run."),
    "run": ("harness.cli.run:run_command", "Run a suite on a device, judge it, write the report."),
    "check": ("harness.cli.check:check_command", "Verify a run and exit with its verdict."),
    "report": ("harness.cli.report:report_command", "Render the report of a run again."),
    "reproduce": (
        "harness.cli.reproduce:reproduce_command",
        "Print the command that measures a cell again.",
    ),
    "fsck": ("harness.cli.fsck:fsck_command", "Find damage in a run; repair or prune it."),
    "parse": ("harness.cli.parse:parse_command", "Read the AR steps of a log, with statistics."),
    "import": (
        "harness.cli.import_:import_command",
        "Import logs made elsewhere into a run's folder.",
    ),
    "list": ("harness.cli.list:list_command", "List recipes, suites, devices or envs."),
    "env": (
        "harness.cli.env:env_group",
        "Build, list, verify, move and remove the sides' environments.",
    ),
    "docs": (
        "harness.cli.docs:docs_command",
        "Write the documents' tables and charts from the committed runs.",
    ),
    "gc": ("harness.cli.gc:gc_command", "Remove what a killed fdbench left behind."),
    "weights": (
        "harness.cli.weights:weights_group",
        "Pin the real checkpoints of recipes, and verify them later.",
    ),
    "doctor": ("harness.cli.doctor:doctor_command", "Check that this machine has what is needed."),
}
"""Command to ``module:attribute`` and the line that ``--help`` shows for it."""


class LazyGroup(click.Group):
    """Imports a command when it is used: ``--help`` must not wait for pyarrow."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Every command, in the order of work."""
        return [*COMMANDS]  # `list` is a command of this package once it is imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return completed(command) if ctx.resilient_parsing else command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is told the nearest, as click tells those it has itself.

        Raises:
            NoSuchCommand: There is none of that name.
        """
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            said = f"No such command {name!r}."
            raise click.NoSuchCommand(name.lower(), said, possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end quietly where nobody reads what it prints."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if not pipes.hush():  # the pipe of something else, which click would not tell apart
                raise EnvironmentFault(_describe(error)) from error
        except SystemExit as error:
            if not pipes.is_of_a_pipe(error):
                raise
            pipes.hush()
        return pipes.CLOSED

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands without importing any of them."""
        named = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands' lines without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _show_version(ctx: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    """Read what takes a moment only when it is asked for."""
    if is_asked and not ctx.resilient_parsing:
        from harness.machine.own_version import own_version  # noqa: PLC0415

        click.echo(f"fdbench {own_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version and commit.",
)
def fdbench() -> None:
    """Run FlashDreams beside the runners it replaces and judge speed and output.

    \b
    Exit codes: 0 pass, 1 slower than allowed, 2 usage, 3 parity failed, 4 incomplete,
    5 environment, 6 inconclusive, 7 integrity. The worst of a run wins: 7 5 3 4 1 6 0.

    \b
    Completion of commands, suites, devices, recipes, cells and environments in bash:
      eval "$(_FDBENCH_COMPLETE=bash_source fdbench)"
    or zsh_source, fish_source in those shells.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = _run()
    except BrokenPipeError:  # nobody reads its message
        pipes.hush()
        code = pipes.CLOSED
    sys.exit(code)


def _run() -> int:
    """Run the command line; the only place where an error becomes a message and an exit code."""
    try:
        code = fdbench.main(prog_name="fdbench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except FdbenchError as error:
        click.echo(printable(f"fdbench: {error}"), err=True)
        code = error.exit_code
    except OSError as error:
        click.echo(printable(f"fdbench: {_describe(error)}"), err=True)
        code = ExitCode.ENVIRONMENT
    except (click.Abort, KeyboardInterrupt):
        said = "fdbench: stopped; what was finished is kept. Type the same again to go on"
        click.echo(said, err=True)
        code = ExitCode.INCOMPLETE
    return int(code or 0)


_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY)


def _describe(error: OSError) -> str:
    """Which file the system refused, why, and what to do about it."""
    # Of a rename the second is the place that was wanted, the first a file of fdbench's own.
    place = error.filename2 or error.filename
    what = error.strerror or str(error) or type(error).__name__
    if error.errno in _IN_THE_WAY:
        advice = "Move what is there out of the way"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "Make sure that you may write there, or choose another place"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some disk space"
    else:
        advice = "Check that place"
    said = f"{place}: {what}" if place else what
    return f"{said}\n{advice}, then run the same command again"
