"""``fdbench doctor``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from harness import environments, roofline, workflow
from harness.cli.plan import outline
from harness.cli.tables import make_console, make_table
from harness.doctor import State, examine
from harness.errors import ExitCode
from harness.machine import read_machine, require_device
from harness.roofline import Floor
from harness.suites import load_devices
from harness.units import format_ms


@click.command("doctor")
@click.option("--suite", help="Also say how much of this suite can run.")
@click.option("--gpu", "device", default="cpu", show_default=True, help="Device for --suite.")
@click.option(
    "--roofline",
    "with_roofline",
    is_flag=True,
    help="Also time the suite's large kernels alone here: the floor no runner gets under.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor_command(
    ctx: click.Context, suite: str | None, device: str, with_roofline: bool, as_json: bool
) -> None:
    """Say what this machine has of what fdbench needs; exits 5 if something will fail.

    \b
    Example: fdbench doctor --suite per-step --gpu h200 --roofline
    """
    if with_roofline and not suite:
        raise click.UsageError("--roofline times the kernels of a suite: give --suite and --gpu")
    findings = examine()
    cells = outline(suite, device) if suite else []
    floors = _floors(suite, device) if suite and with_roofline else {}
    if as_json:
        answer = {
            "machine": list(map(asdict, findings)),
            "cells": list(map(asdict, cells)),
            "roofline": {cell_id: asdict(floor) for cell_id, floor in floors.items()},
        }
        click.echo(json.dumps(answer, indent=1))
    else:
        console = make_console()
        rows = [(finding.topic, finding.state, finding.text) for finding in findings]
        console.print(make_table(["", "", ""], rows, left=3))
        for cell in cells:
            console.print(f"{cell.cell_id}: {cell.cannot_run or 'can run'}")
        for cell_id, floor in floors.items():
            console.print(f"\n{cell_id}: at least {format_ms(floor.diffuse_ms)} ms of diffuse")
            for kernel, ms in floor.kernels_ms.items():
                console.print(f"  {kernel:<16} {ms:.3f} ms alone")
    if any(finding.state == State.BAD for finding in findings):
        ctx.exit(ExitCode.ENVIRONMENT)


def _floors(suite: str, device: str) -> dict[str, Floor]:
    """Floor of every cell that can run here."""
    request = workflow.RunRequest(suite=suite, device=device, out=Path())
    _, planned = workflow.make_plan(request)
    require_device(read_machine(), device, load_devices()[device], 1)
    environment = environments.build("flashdreams", echo_note)
    return roofline.measure(list(planned.cells), environment, echo_note)


def echo_note(text: str) -> None:
    """What takes time, beside the answer."""
    click.echo(text, err=True)
