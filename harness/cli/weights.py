"""``fdbench weights``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from harness.cli.pipes import answering
from harness.environments import weights
from harness.environments.weights import LOCK_FILE, Found, PinState
from harness.errors import ExitCode, worst

_CODES = {
    PinState.GOOD: ExitCode.PASS,
    PinState.CHANGED: ExitCode.INTEGRITY,
    PinState.MISSING: ExitCode.ENVIRONMENT,
    PinState.UNPINNED: ExitCode.ENVIRONMENT,
}
_ADVICE = {
    ExitCode.INTEGRITY: "a file differs from its pin; delete it, then: fdbench weights pin",
    ExitCode.ENVIRONMENT: "files are missing or not pinned; fetch and pin: fdbench weights pin",
}

_lock_option = click.option(
    "--lock",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=LOCK_FILE,
    show_default="suites/weights.lock.json",
    help="File of the pins.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("weights")
def weights_group() -> None:
    """Pin the real checkpoints of recipes, and verify them later."""


@weights_group.command("pin", short_help="Download checkpoints and record their digests.")
@click.argument("recipes", nargs=-1)
@_lock_option
@_json_option
def pin_command(recipes: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Download the checkpoints of RECIPES, or of all, and record commit, digests and sizes.

    Files that are pinned already must match their pins; files that are here already are not
    downloaded again. They go into the cache of huggingface_hub (HF_HUB_CACHE), where the runners
    look for them.

    \b
    Example: fdbench weights pin self-forcing-wan2.1-t2v-1.3b-taehv
    """
    made = {}
    for name, pin in weights.pin(weights.checkpoints_of(recipes), path):
        made[name] = asdict(pin)
        if not as_json:
            size = sum(file.size for file in pin.files.values())
            click.echo(f"{name}: {len(pin.files)} files, {size / 1e9:.2f} GB at {pin.revision}")
    if as_json:
        click.echo(json.dumps({"lock": str(path), "checkpoints": made}, indent=1))


@weights_group.command("verify", short_help="Compare checkpoints with their pins, offline.")
@click.argument("recipes", nargs=-1)
@_lock_option
@_json_option
def verify_command(recipes: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Compare the checkpoints of RECIPES, or all that are pinned, with their pins, offline.

    Exits 0 if every file is here and matches its pin, 7 if one was changed, 5 if one is missing
    or not pinned.

    \b
    Example: fdbench weights verify self-forcing-wan2.1-t2v-1.3b-taehv
    """
    pins = weights.read_pins(path)
    wanted = weights.checkpoints_of(recipes) if recipes else list(pins.checkpoints)
    found = list(weights.verify(wanted, pins))
    code = worst(_CODES[one.state] for one in found) if found else ExitCode.ENVIRONMENT
    with answering(code):
        if as_json:
            answer = {"exit_code": int(code), "files": list(map(asdict, found))}
            click.echo(json.dumps(answer, indent=1))
        else:
            _print(found, code, path)


def _print(found: list[Found], code: ExitCode, path: Path) -> None:
    for one in found:
        note = f": {one.note}" if one.note else ""
        click.echo(f"{one.state:<10}  {one.checkpoint}  {one.path}{note}")
    if not found:
        click.echo(f"{path} has no pins", err=True)
    if code in _ADVICE:
        click.echo(_ADVICE[code], err=True)
