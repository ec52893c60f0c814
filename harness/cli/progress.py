"""What a running suite shows: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.cli.tables import make_console
from harness.records import Outcome, PairRow, Plan, PlannedTrial, TrialRow
from harness.units import format_duration, format_ms
from harness.worker import RunWatcher


class PlainWatcher(RunWatcher):
    """One line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``."""
        self._console = console
        self._trials = 0
        self._ended = 0
        self._started_s = time.monotonic()
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
        about = f", about {format_duration(sum(known))} by the plan" if known else ""
        cells = "1 cell" if len(planned.cells) == 1 else f"{len(planned.cells)} cells"
        self._print(f"{cells}, {self._trials} trials on {planned.device}{about}")
        for cell in planned.unsupported:
            self._print(f"not planned: {cell.cell_id}: {cell.reason}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def trial_started(self, trial: PlannedTrial) -> None:
        """Print which side of which pair starts."""
        self._begun_s.setdefault(trial.cell_id, time.monotonic())
        self._print(self._title(trial))

    def step_done(self, trial: PlannedTrial, ar: int, total_ms: float) -> None:
        """Print AR step and time."""
        self._print(f"  AR step {ar + 1} of {trial.job.ar_steps}: {format_ms(total_ms)} ms")

    def trial_ended(self, trial: PlannedTrial, row: TrialRow) -> None:
        """Print how it ended and how long the rest will take."""
        self._ended += 1
        how = "" if row.outcome == Outcome.COMPLETED else f" {row.outcome}: {row.reason}"
        self._print(f"  {trial.side} took {format_duration(row.wall_s)}{how}, {self._left()}")

    def judged(self, pair: PairRow) -> None:
        """Print a cell's verdict, and how long it took beside what the plan had said."""
        self._print(f"{pair.verdict}: {pair.cell_id}: {pair.reason}")
        begun_s = self._begun_s.get(pair.cell_id)
        planned_s = self._estimated_s.get(pair.cell_id)
        if begun_s is not None and planned_s is not None:
            took = format_duration(time.monotonic() - begun_s)
            self._print(f"  took {took} here; the plan: {format_duration(planned_s)}")

    def _title(self, trial: PlannedTrial) -> str:
        number = f"[{self._ended + 1}/{self._trials}]"
        return f"{number} {trial.cell_id}: {trial.role} {trial.side}, process {trial.process + 1}"

    def _left(self) -> str:
        """Time left, from the mean duration of the trials so far."""
        if not self._ended:
            return "time left unknown"
        per_trial_s = (time.monotonic() - self._started_s) / self._ended
        return f"about {format_duration(per_trial_s * (self._trials - self._ended))} left"

    def _print(self, text: str) -> None:
        self._console.print(Text(text))


class LiveWatcher(PlainWatcher):
    """The same on a terminal, with one line that changes in place."""

    def __init__(self, console: Console, live: Live) -> None:
        """Print above ``live`` and keep the running trial in it."""
        super().__init__(console)
        self._live = live

    def note(self, text: str) -> None:
        """Show what takes time until something else does."""
        self._live.update(Text(text, style="dim"))

    def trial_started(self, trial: PlannedTrial) -> None:
        """Show which side of which pair starts."""
        self._begun_s.setdefault(trial.cell_id, time.monotonic())
        self._show(trial, "starting")

    def step_done(self, trial: PlannedTrial, ar: int, total_ms: float) -> None:
        """Show AR step, its time and the time left."""
        self._show(trial, f"AR step {ar + 1} of {trial.job.ar_steps}, {format_ms(total_ms)} ms")

    def trial_ended(self, trial: PlannedTrial, row: TrialRow) -> None:
        """Keep one line for a trial that did not complete."""
        self._ended += 1
        if row.outcome != Outcome.COMPLETED or row.invalid:
            self._print(f"{trial.side}: {row.outcome}: {row.reason or row.invalid}")

    def judged(self, pair: PairRow) -> None:
        """Print a cell's verdict and clear the line."""
        super().judged(pair)
        self._live.update(Text(""))

    def _show(self, trial: PlannedTrial, what: str) -> None:
        self._live.update(Text(f"{self._title(trial)}: {what} ({self._left()})"))


@contextmanager
def pick_watcher() -> Iterator[RunWatcher]:
    """A live watcher on a terminal, a plain one elsewhere."""
    console = make_console()
    if not console.is_terminal:
        yield PlainWatcher(console)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield LiveWatcher(console, live)
