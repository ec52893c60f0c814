"""The live line and the notes of builds: number and time left first, a clock that runs."""

import os
import re
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.live import Live

from harness.cli.progress import LiveWatcher, PlainWatcher, pick_watcher
from harness.environments.built import BuiltEnvironment
from harness.environments.declared import load_environments
from harness.environments.sides import build_each
from harness.plan.cells import plan_suite
from harness.plan.suites import load_devices, load_recipes, load_suite, suite_names
from tests.command import fdbench
from tests.fakes import samples
from tests.fakes.terminal import Screen, look_like_terminal

pytestmark = pytest.mark.unit

LEFT = re.compile(r"(about \d+ (s|min|h \d\d min)|time) left( unknown)?")


@dataclass
class Clock:
    """Time that passes when a test says so."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        """As ``time`` has it."""
        return self.now_s


@dataclass
class Shown:
    """A live watcher on a terminal of so many columns."""

    columns: int

    def __post_init__(self) -> None:
        self.console = Console(width=self.columns, force_terminal=True, file=Screen())
        self.live = Live(console=self.console, auto_refresh=False)
        self.watcher = LiveWatcher(self.console, self.live)

    @property
    def lines(self) -> list[str]:
        """What stands there now."""
        with self.console.capture() as drawn:
            self.console.print(self.live.get_renderable())
        return drawn.get().splitlines()


@pytest.fixture
def clock(monkeypatch):
    """The time of the watchers."""
    made = Clock()
    monkeypatch.setattr("harness.cli.progress.time", made)
    monkeypatch.setattr("harness.environments.sides.time", made)
    return made


def plan_of(name: str, device: str = "gb200"):
    """A suite on a device, whatever environments there are."""
    loaded, suite = load_suite(name)
    return plan_suite(loaded, suite, load_recipes(), device, load_devices()[device])


def longest_trials():
    """Of every suite with cells that are planned: the trial with the longest names."""
    for name in suite_names():
        plan = plan_of(name)
        trials = [trial for cell in plan.cells for trial in cell.trials]
        if trials:
            longest = max(trials, key=lambda trial: (len(trial.cell_id), len(str(trial.side))))
            yield pytest.param(plan, longest, id=name)


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(("plan", "trial"), list(longest_trials()))
def test_live_line_is_one_and_never_wider_than_the_terminal(plan, trial, columns):
    """Number and time left stand first and whole, for the longest names that there are."""
    shown = Shown(columns)
    shown.watcher.planned(replace(plan, estimated_s={c.cell_id: 3e4 for c in plan.cells}))
    number = sum(len(cell.trials) for cell in plan.cells)
    for event in ("started", "step"):
        if event == "started":
            shown.watcher.trial_started(trial)
        else:
            shown.watcher.step_done(trial, 0, 12345.678)
        (line,) = shown.lines

        assert len(line) <= columns
        assert re.match(rf"\[1/{number}\] about \d+ h \d\d min left · ", line)
    assert "AR 0 (1 of" in line
    assert "12346 ms" in line


def test_nothing_is_cut_that_fits():
    """At 120 columns a cell of the smoke suite is whole, below it loses its middle."""
    plan = plan_of("smoke", "cpu")
    trial = plan.cells[1].trials[0]
    lines = {}
    for columns in (60, 80, 120):
        shown = Shown(columns)
        shown.watcher.planned(plan)
        shown.watcher.step_done(trial, 0, 451.0)
        (lines[columns],) = shown.lines

    whole = "[1/10] time left unknown · AR 0 (1 of 5), 451 ms"
    assert lines[120] == f"{whole} · {trial.side} · {trial.cell_id}"
    assert lines[80] == f"{whole} · {trial.side} · self-f…/fastvideo"
    assert lines[60].startswith(whole)


def test_terminal_that_is_too_narrow_for_the_time_left_has_one_line_too():
    """It is cut there rather than wrapped: a second line would stay behind at each step."""
    shown = Shown(20)
    plan = plan_of("smoke", "cpu")
    shown.watcher.planned(plan)
    shown.watcher.trial_started(plan.cells[0].trials[0])

    assert shown.lines == ["[1/10] time left unk"]


def test_time_left_is_the_plans_until_a_trial_has_ended(clock):
    """Then it is what the trials so far say; it runs down, and does not pretend."""
    shown = Shown(80)
    cell = samples.cell()
    trials = cell.trials[:2]
    plan = replace(plan_of("quick"), cells=(replace(cell, trials=trials),), estimated_s={})
    shown.watcher.planned(replace(plan, estimated_s={cell.cell_id: 300.0}))
    shown.watcher.trial_started(trials[0])
    assert "[1/2] about 5 min left" in shown.lines[0]
    clock.now_s += 220
    assert "[1/2] about 80 s left" in shown.lines[0]

    shown.watcher.trial_ended(trials[0], samples.trial_row(trials[0]))
    shown.watcher.trial_started(trials[1])
    assert "[2/2] about 4 min left" in shown.lines[0]
    clock.now_s += 200
    assert "[2/2] about 20 s left" in shown.lines[0]
    clock.now_s += 21
    assert "[2/2] time left unknown" in shown.lines[0]


def test_without_an_estimate_time_left_is_unknown(clock):
    """On a CPU there is none; one cell's is not that of all."""
    for estimated in ({}, {plan_of("smoke", "cpu").cells[0].cell_id: 10.0}):
        shown = Shown(80)
        plan = replace(plan_of("smoke", "cpu"), estimated_s=estimated)
        shown.watcher.planned(plan)
        shown.watcher.trial_started(plan.cells[0].trials[0])

        assert shown.lines[0].startswith("[1/10] time left unknown · starting")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_note_has_a_clock_that_runs_while_it_blocks(clock, columns):
    """Drawn again it says how long it takes already; the longest name does not push it out."""
    shown = Shown(columns)
    longest = max(load_environments(), key=len)
    shown.watcher.note(f"1 of 3: building environment {longest} (a few minutes)")
    before = shown.lines
    clock.now_s += 135
    (line,) = shown.lines

    assert before[0].startswith("0 s · 1 of 3: building")
    assert line.startswith("2 min 15 s · 1 of 3: building")
    assert len(line) <= columns
    assert f"environment {longest}" in line or columns == 60


@pytest.mark.slow
def test_terminal_is_drawn_again_without_being_told(monkeypatch):
    """A build tells nothing for minutes, and its clock goes on."""
    screen = look_like_terminal(monkeypatch, 80)
    monkeypatch.setattr("sys.stdout", screen)
    with pick_watcher() as watcher:
        watcher.note("1 of 3: building environment left (a few minutes)")
        time.sleep(1.4)
    drawn = screen.getvalue()

    assert "0 s · 1 of 3: building environment left" in drawn
    assert "1 s · 1 of 3: building environment left" in drawn


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_pipe_gets_lines_whatever_the_environment_says(monkeypatch, capsys, variable):
    """CI that wants colours has no line that changes in place."""
    monkeypatch.setenv(variable, "1")
    with pick_watcher() as watcher:
        watcher.note("1 of 3: building environment left (a few minutes)")

    assert type(watcher) is PlainWatcher
    assert capsys.readouterr().out == "1 of 3: building environment left (a few minutes)\n"


def test_builds_have_their_place_and_say_how_long_they_took(clock):
    """Those that are there already take no time and no line."""
    said: list[str] = []

    def make(name, report) -> BuiltEnvironment:
        if name != "there":
            report(f"building environment {name} (a few minutes)")
            clock.now_s += 200
        return SimpleNamespace(name=name)

    names = ["left", "there", "right"]
    assert [made.name for made in build_each(names, make, said.append)] == names
    assert said == [
        "1 of 3: building environment left (a few minutes)",
        "1 of 3: left took 3 min 20 s",
        "3 of 3: building environment right (a few minutes)",
        "3 of 3: right took 3 min 20 s",
    ]


@pytest.mark.slow
@pytest.mark.contract
def test_env_build_says_which_of_how_many(tmp_path):
    """Here the first cannot be made: there is no package index."""
    done = fdbench(
        *("env", "build", "all"),
        FDBENCH_CACHE=str(tmp_path / "cache"),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path),
        PIP_CONFIG_FILE=os.devnull,
    )
    first, *others = load_environments()

    assert done.code == 5, done.text
    assert f"1 of {1 + len(others)}: building environment {first} (a few minutes)\n" in done.text
