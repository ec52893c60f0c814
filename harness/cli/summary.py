"""Verdicts and latency table on a terminal."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from harness.errors import ExitCode
from harness.records import PairRow
from harness.store import open_run
from harness.units import format_ms, format_percent
from reports.latency import latency_rows

_MEANING = {
    ExitCode.PASS: "pass",
    ExitCode.SLOWER: "slower than allowed",
    ExitCode.PARITY: "parity failed",
    ExitCode.INCOMPLETE: "incomplete",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.INTEGRITY: "integrity",
    ExitCode.ENVIRONMENT: "environment",
    ExitCode.USAGE: "usage",
}


def print_summary(folder: Path, code: ExitCode) -> None:
    """Print each verdict with its reason, the latency table and what the exit code means."""
    run = open_run(folder)
    console = Console(highlight=False)
    console.print()
    for pair in run.read_rows(PairRow):
        console.print(f"{pair.verdict:<13}{pair.cell_id}", soft_wrap=True, markup=False)
        console.print(f"             {pair.reason}", soft_wrap=True, markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in (
        "Recipe",
        "GPU",
        "Upstream (ms)",
        "FlashDreams (ms)",
        "Speedup",
        "Baseline",
        "Figure",
    ):
        table.add_column(
            heading, justify="right" if "(ms)" in heading or heading == "Speedup" else "left"
        )
    for row in latency_rows(run):
        table.add_row(
            row.recipe,
            row.device,
            format_ms(row.upstream_ms),
            format_ms(row.flashdreams_ms),
            format_percent(row.speedup_percent),
            row.baseline,
            row.figure,
        )
    console.print()
    console.print(table)
    click.echo(f"\nexit code {int(code)}: {_MEANING[code]}")
