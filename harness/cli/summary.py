"""Verdicts and latency table on a terminal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.cli.tables import (
    VERDICT_STYLES,
    make_console,
    make_grouped,
    make_table,
    print_table,
    wrapped,
)
from harness.errors import ExitCode
from harness.integrity.import_record import read_records
from harness.records import PairRow, TrialRow, Verdict
from harness.store.run import Store, open_run
from harness.units import format_interval, format_ms, format_number_of, format_percent
from reports.latency import LatencyRow, latency_rows
from reports.verdicts import times_note, unjudged_reason

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
_VERDICT_WIDTH = 13
_STYLES = {ExitCode.PASS: "green", ExitCode.INCOMPLETE: "yellow", ExitCode.INCONCLUSIVE: "yellow"}


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
    _print_verdicts(_judged_and_not(run), console)
    _print_latency(run, console)
    brought = read_records(run)
    if brought:
        logs = format_number_of(len(brought), "imported log")
        console.print(f"\n{logs}, parsed here and measured elsewhere")
    if not run.read_record().cells:
        console.print("no cell was planned: nothing was measured here, so nothing can pass")
    meaning = (MEANING[code], _STYLES.get(code, "red"))
    console.print(Text.assemble(f"\nexit code {int(code)}: ", meaning))


def _judged_and_not(run: Store) -> list[tuple[str, str, str]]:
    """Verdict, cell and reason of every planned cell; those without a verdict come last."""
    pairs = run.read_rows(PairRow)
    told = [(pair.verdict, pair.cell_id, pair.reason) for pair in pairs]
    judged = {pair.cell_id for pair in pairs}
    trials = Counter(row.cell_id for row in run.read_rows(TrialRow))
    unjudged = [cell_id for cell_id in run.read_record().cells if cell_id not in judged]
    incomplete = Verdict.INCOMPLETE.value
    return told + [(incomplete, cell_id, unjudged_reason(trials[cell_id])) for cell_id in unjudged]


def _print_verdicts(told: Sequence[tuple[str, str, str]], console: Console) -> None:
    """Each verdict beside its cell, or above it where the longest cell has no room there."""
    longest = max((len(cell_id) for _, cell_id, _ in told), default=0)
    is_beside = _VERDICT_WIDTH + longest <= console.width
    indent = (_VERDICT_WIDTH if is_beside else 2) * " "
    for verdict, cell_id, reason in told:
        coloured = Text(verdict, VERDICT_STYLES.get(verdict, ""))
        gap = (_VERDICT_WIDTH - len(verdict)) * " " if is_beside else f"\n{indent}"
        console.print(Text.assemble(coloured, gap, cell_id))
        console.print(wrapped(console, reason, indent))


def _print_latency(run: Store, console: Console) -> None:
    """The latency table; without speed-ups where the times mean nothing."""
    note = times_note(run.read_record())
    headings = _HEADINGS[:-1] if note else _HEADINGS
    rows = [
        (
            f"{row.recipe} ({row.variant})" if row.variant else row.recipe,
            row.device,
            row.baseline,
            row.figure,
            format_ms(row.upstream_ms),
            format_ms(row.flashdreams_ms),
            row.withheld or _speedup(row),
        )[: len(headings)]
        for row in latency_rows(run)
    ]
    if not rows:
        return
    console.print()
    if note:
        console.print(wrapped(console, f"{note} So no speedup is shown."), end="\n\n")
    grouped = make_grouped(headings, rows, by=range(3))
    print_table(console, make_table(headings, rows, left=4), grouped)
