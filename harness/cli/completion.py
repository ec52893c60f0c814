"""Completion of names on the command line, for a shell that asks: names only, and at once.

An option is completed by what it is called, whichever command has it.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from harness.errors import FdbenchError
from harness.plan import names

_Names = Callable[[click.Context], Iterable[str]]


class Completed(StringParamType):
    """Text that a shell can complete; what it must be is checked by the command."""

    def __init__(self, known: _Names) -> None:
        """Complete to what ``known`` gives."""
        self._known = known

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that begin so, in whatever case; none where what they come from cannot be read."""
        try:
            known = list(self._known(ctx))
        except (FdbenchError, OSError, ValueError, LookupError):
            return []
        start = incomplete.lower()
        return [CompletionItem(name) for name in known if name.lower().startswith(start)]


def completed(command: click.Command) -> click.Command:
    """The command, its options and those of its subcommands completed."""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    for one in (command, *inner):
        for param in one.params:
            known = _KNOWN.get((command.name, param.name)) or _KNOWN.get(("", param.name))
            if known is not None:
                param.type = Completed(known)
    return command


def _cells_of_suite(ctx: click.Context) -> Iterable[str]:
    return names.cell_names(str(ctx.params["suite"]), str(ctx.params["device"]))


def _cells_of_run(ctx: click.Context) -> Iterable[str]:
    from harness.store.run import open_run  # noqa: PLC0415  pyarrow, and only for this one

    folder: Path | None = ctx.params["folder"]
    return open_run(folder).read_record().cells if folder else ()


def _environments(ctx: click.Context) -> Iterable[str]:
    takes_one = ctx.command.name == "export"
    return (*names.environment_names(), *(() if takes_one else ("all",)))


_KNOWN: Mapping[tuple[Any, Any], _Names] = {
    ("", "suite"): lambda _: names.suite_names(),
    ("", "device"): lambda _: names.device_names(),
    ("import", "recipe"): lambda _: names.recipe_names(),
    ("parse", "slug"): lambda _: names.recipe_names(),
    ("weights", "recipes"): lambda _: names.recipe_names(),
    ("env", "name"): _environments,
    ("run", "only"): _cells_of_suite,
    ("reproduce", "cell"): _cells_of_run,
}
"""Command, or none for all, and parameter to its names."""
