"""``fdbench doctor``."""

import json
from dataclasses import asdict

import click

from harness.cli.plan import outline
from harness.cli.tables import make_console, make_table
from harness.doctor import State, examine
from harness.errors import ExitCode


@click.command("doctor")
@click.option("--suite", help="Also say how much of this suite can run.")
@click.option("--gpu", "device", default="cpu", show_default=True, help="Device for --suite.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor_command(ctx: click.Context, suite: str | None, device: str, as_json: bool) -> None:
    """Say what this machine has of what fdbench needs; exits 5 if something will fail.

    \b
    Example: fdbench doctor --suite per-step --gpu h200
    """
    findings = examine()
    cells = outline(suite, device) if suite else []
    if as_json:
        answer = {"machine": list(map(asdict, findings)), "cells": list(map(asdict, cells))}
        click.echo(json.dumps(answer, indent=1))
    else:
        console = make_console()
        rows = [(finding.topic, finding.state, finding.text) for finding in findings]
        console.print(make_table(["", "", ""], rows, left=3))
        for cell in cells:
            console.print(f"{cell.cell_id}: {cell.cannot_run or 'can run'}")
    if any(finding.state == State.BAD for finding in findings):
        ctx.exit(ExitCode.ENVIRONMENT)
