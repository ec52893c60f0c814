"""Verdicts and latency table on a terminal."""

from pathlib import Path

from harness.cli.tables import make_console, make_table
from harness.errors import ExitCode
from harness.integrity.import_record import read_records
from harness.records import PairRow
from harness.store.run import open_run
from harness.units import format_interval, format_ms, format_percent
from reports.latency import LatencyRow, latency_rows

MEANING = {
    ExitCode.PASS: "pass",
    ExitCode.SLOWER: "slower than allowed",
    ExitCode.PARITY: "parity failed",
    ExitCode.INCOMPLETE: "incomplete",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.INTEGRITY: "integrity",
    ExitCode.ENVIRONMENT: "environment",
    ExitCode.USAGE: "usage",
}
"""What an exit code says in a word or two."""


_HEADINGS = (
    "Recipe",
    "GPU",
    "Baseline",
    "Figure",
    "Upstream (ms)",
    "FlashDreams (ms)",
    "Speedup",
)


def _speedup(row: LatencyRow) -> str:
    bounds = format_interval(row.interval_percent)
    return (
        f"{format_percent(row.speedup_percent)} ({bounds})"
        if bounds
        else format_percent(row.speedup_percent)
    )


def print_summary(folder: Path, code: ExitCode) -> None:
    """Print each verdict with its reason, the latency table and what the exit code means."""
    run = open_run(folder)
    console = make_console()
    console.print()
    for pair in run.read_rows(PairRow):
        console.print(f"{pair.verdict:<13}{pair.cell_id}\n{'':<13}{pair.reason}")
    rows = [
        (
            f"{row.recipe} ({row.variant})" if row.variant else row.recipe,
            row.device,
            row.baseline,
            row.figure,
            format_ms(row.upstream_ms),
            format_ms(row.flashdreams_ms),
            row.withheld or _speedup(row),
        )
        for row in latency_rows(run)
    ]
    if rows:
        console.print()
        console.print(make_table(_HEADINGS, rows, left=4))
    brought = read_records(run)
    if brought:
        console.print(f"\n{len(brought)} imported logs, parsed here and measured elsewhere")
    if not run.read_record().cells:
        console.print("no cell was planned: nothing was measured here, so nothing can pass")
    console.print(f"\nexit code {int(code)}: {MEANING[code]}")
