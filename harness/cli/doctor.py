"""``fdbench doctor``."""

import json
from dataclasses import asdict, replace

import click

from harness.cli.plan import outline
from harness.cli.tables import make_console, make_table, wrapped
from harness.environments import doctor
from harness.environments.built import build_environment
from harness.environments.declared import driven, load_environments
from harness.environments.doctor import Health
from harness.environments.sides import by_candidate, names_in
from harness.errors import ExitCode
from harness.plan import suites
from harness.plan.cells import make_plan
from harness.store.run_record import KernelTime
from harness.trials import kernel_time
from harness.units import format_ms


@click.command("doctor")
@click.option("--suite", help="Also show which cells of this suite can run.")
@click.option(
    "--gpu",
    "device",
    default="cpu",
    show_default=True,
    help="Device to look for (see: fdbench list devices).",
)
@click.option(
    "--kernel-time",
    "with_kernel_time",
    is_flag=True,
    help="Also time the large kernels of the suite alone. No runner can be faster.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor_command(
    ctx: click.Context, suite: str | None, device: str, with_kernel_time: bool, as_json: bool
) -> None:
    """Show what this machine has and what it lacks.

    Exits 5 if something that fdbench needs is missing.

    \b
    Example: fdbench doctor --suite per-step --gpu h200 --kernel-time
    """
    if with_kernel_time and not suite:
        raise click.UsageError("--kernel-time times the kernels of a suite: give --suite and --gpu")
    suites.pick("device", device, suites.load_devices())
    planned = outline(suite, device) if suite else []
    most = max((cell.gpus for cell in planned if not cell.cannot_run), default=1)
    checks = doctor.examine(device, most, _needed(suite, device))
    lacking = {gpus: doctor.missing(device, gpus) for gpus in {1, *(c.gpus for c in planned)}}
    cells = [
        replace(cell, cannot_run=cell.cannot_run or lacking[cell.gpus].partition("\n")[0])
        for cell in planned
    ]
    can_time = suite and with_kernel_time and not lacking[1]
    times = _kernel_times(suite, device) if suite and can_time else {}
    if as_json:
        answer = {
            "machine": list(map(asdict, checks)),
            "cells": list(map(asdict, cells)),
            "kernel_time": {cell_id: asdict(alone) for cell_id, alone in times.items()},
        }
        click.echo(json.dumps(answer, indent=1))
    else:
        console = make_console()
        rows = [(check.topic, check.state, check.text) for check in checks]
        console.print(make_table(["", "", ""], rows, left=3, prose=True))
        for cell in cells:
            line = f"{cell.cell_id}: {cell.cannot_run or 'can run'}"
            console.print(wrapped(console, line, further="  "))
        if cells:
            console.print("not checked: package index, GitHub and image registry")
        for cell_id, alone in times.items():
            console.print(f"\n{cell_id}: at least {format_ms(alone.diffuse_ms)} ms of diffuse")
            for kernel, ms in alone.kernels_ms.items():
                console.print(f"  {kernel:<16} {ms:.3f} ms alone")
    if any(check.state == Health.BAD for check in checks):
        ctx.exit(ExitCode.ENVIRONMENT)


def _needed(suite: str | None, device: str) -> list[str]:
    """Environments of a suite, or all."""
    declared = load_environments()
    return names_in(make_plan(suite, device, driven(declared))[1]) if suite else list(declared)


def _kernel_times(suite: str, device: str) -> dict[str, KernelTime]:
    """Kernel time of every cell that can run here."""
    _, planned = make_plan(suite, device, driven(load_environments()))
    times: dict[str, KernelTime] = {}
    for name, cells in by_candidate(planned.cells).items():
        times |= kernel_time.measure(cells, build_environment(name, echo_note), echo_note)
    return times


def echo_note(text: str) -> None:
    """What takes time, beside the answer."""
    click.echo(text, err=True)
