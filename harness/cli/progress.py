"""What a running suite shows: a live line on a terminal, plain lines elsewhere."""

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.cli.tables import VERDICT_STYLES, make_console, wrapped
from harness.records import Outcome, PairRow, Plan, PlannedTrial, TrialRow
from harness.units import format_duration, format_ms, format_number_of
from harness.worker import RunWatcher

_SEPARATOR = " · "
_LEAST = 15
"""Columns below which a shortened name says nothing."""


class PlainWatcher(RunWatcher):
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``."""
        self._console = console
        self._trials = 0
        self._ended = 0
        self._started_s = time.monotonic()
        self._over_s: float | None = None
        """When the last trial should end; None if nobody can say."""
        self._begun_s: dict[str, float] = {}
        """Cell to when its first trial of this command started."""
        self._estimated_s: dict[str, float] = {}

    def planned(self, planned: Plan) -> None:
        """Say what will run, how long it should take, and what cannot run."""
        self._trials = sum(len(cell.trials) for cell in planned.cells)
        self._started_s = time.monotonic()
        self._estimated_s = planned.estimated_s
        estimates = [planned.estimated_s.get(cell.cell_id) for cell in planned.cells]
        known = [seconds for seconds in estimates if seconds is not None]
        if known and len(known) == len(estimates):
            self._over_s = self._started_s + sum(known)
        about = f", about {format_duration(sum(known))} by the plan" if known else ""
        cells = format_number_of(len(planned.cells), "cell")
        self._print(f"{cells}, {self._trials} trials on {planned.device}{about}")
        for cell in planned.unsupported:
            self._print(f"not planned: {cell.cell_id}: {cell.reason}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def trial_started(self, trial: PlannedTrial) -> None:
        """Print which side of which pair starts."""
        self._begun_s.setdefault(trial.cell_id, time.monotonic())
        self._print(
            f"{self._place()} {trial.cell_id}: {trial.role} {trial.side}, "
            f"process {trial.process + 1}"
        )

    def step_done(self, trial: PlannedTrial, ar: int, total_ms: float) -> None:
        """Print AR step and time."""
        self._print(f"  {_step(trial, ar, total_ms)}")

    def trial_ended(self, trial: PlannedTrial, row: TrialRow) -> None:
        """Print how it ended and how long the rest will take."""
        self._count()
        how = "" if row.outcome == Outcome.COMPLETED else f" {row.outcome}: {row.reason}"
        self._print(f"  {trial.side} took {format_duration(row.wall_s)}{how}, {self._left()}")

    def judged(self, pair: PairRow) -> None:
        """Print a cell's verdict, and how long it took beside what the plan had said."""
        told = f"{pair.verdict}: {pair.cell_id}: {pair.reason}"
        line = Text(wrapped(self._console, told, further="  "))
        line.stylize(VERDICT_STYLES.get(pair.verdict, ""), 0, len(pair.verdict))
        self._console.print(line)
        begun_s = self._begun_s.get(pair.cell_id)
        planned_s = self._estimated_s.get(pair.cell_id)
        if begun_s is not None and planned_s is not None:
            took = format_duration(time.monotonic() - begun_s)
            self._print(f"  took {took} here; the plan: {format_duration(planned_s)}")

    def _place(self) -> str:
        return f"[{self._ended + 1}/{self._trials}]"

    def _count(self) -> None:
        """Take in that a trial has ended: the others should take as long as those so far."""
        self._ended += 1
        now_s = time.monotonic()
        per_trial_s = (now_s - self._started_s) / self._ended
        self._over_s = now_s + per_trial_s * (self._trials - self._ended)

    def _left(self) -> str:
        """Time left; unknown too when all that was thought to be left is over."""
        left_s = -1.0 if self._over_s is None else self._over_s - time.monotonic()
        if left_s < 0 and self._ended < self._trials:
            return "time left unknown"
        return f"about {_roughly(max(left_s, 0))} left"

    def _print(self, text: str) -> None:
        self._console.print(Text(wrapped(self._console, text, further="  ")))


class LiveWatcher(PlainWatcher):
    """The same on a terminal, with one line that changes in place."""

    def __init__(self, console: Console, live: Live) -> None:
        """Print above ``live`` and keep the running trial in it."""
        super().__init__(console)
        self._live = live

    def note(self, text: str) -> None:
        """Show what takes time, and for how long already, until something else does."""
        since_s = time.monotonic()
        self._live.update(
            LiveLine(head=lambda: format_duration(time.monotonic() - since_s), others=(text,))
        )

    def trial_started(self, trial: PlannedTrial) -> None:
        """Show which side of which pair starts."""
        self._begun_s.setdefault(trial.cell_id, time.monotonic())
        self._show(trial, "starting")

    def step_done(self, trial: PlannedTrial, ar: int, total_ms: float) -> None:
        """Show AR step, its time and the time left."""
        self._show(trial, _step(trial, ar, total_ms))

    def trial_ended(self, trial: PlannedTrial, row: TrialRow) -> None:
        """Keep one line for a trial that did not complete."""
        self._count()
        if row.outcome != Outcome.COMPLETED or row.invalid:
            self._print(f"{trial.side}: {row.outcome}: {row.reason or row.invalid}")

    def judged(self, pair: PairRow) -> None:
        """Print a cell's verdict and clear the line."""
        super().judged(pair)
        self._live.update(Text(""))

    def _show(self, trial: PlannedTrial, what: str) -> None:
        place, others = self._place(), (what, str(trial.side), trial.cell_id)
        self._live.update(LiveLine(head=lambda: f"{place} {self._left()}", others=others))


@dataclass(frozen=True, kw_only=True)
class LiveLine:
    """One line, made anew whenever it is drawn, that fits the terminal as it is then."""

    head: Callable[[], str]
    """What is never cut, as of now."""
    others: tuple[str, ...]
    """What follows as far as there is room, most important first."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = fit(self.head(), self.others, options.max_width)
        yield Text(line, no_wrap=True, overflow="crop")


def fit(head: str, others: Sequence[str], width: int) -> str:
    """``head`` and of the others what fits; the first that does not is shortened."""
    line = head
    for other in others:
        room = width - len(line) - len(_SEPARATOR)
        if room < min(_LEAST, len(other)):
            break
        line += _SEPARATOR + _shortened(other, room)
    return line


def _shortened(text: str, width: int) -> str:
    """A sentence without its end, or a name without its middle; a cell keeps its last part."""
    if len(text) <= width:
        return text
    if " " in text:
        return textwrap.shorten(text, width, placeholder="…")
    behind = len(text) - text.rfind("/") if "/" in text else width
    if behind > width - _LEAST // 3:
        behind = (width - 1) // 2
    return f"{text[: width - 1 - behind]}…{text[len(text) - behind :]}"


def _step(trial: PlannedTrial, ar: int, total_ms: float) -> str:
    return f"AR {ar} ({ar + 1} of {trial.job.ar_steps}), {format_ms(total_ms)} ms"


def _roughly(seconds: float) -> str:
    """A duration no finer than a guess deserves."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def pick_watcher() -> Iterator[PlainWatcher]:
    """A live watcher on a terminal, a plain one elsewhere."""
    console = make_console()
    if not console.is_interactive:
        yield PlainWatcher(console)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield LiveWatcher(console, live)
