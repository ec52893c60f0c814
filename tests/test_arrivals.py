"""When events of a running side arrive: told by the kernel, and never more than was seen."""

import mmap
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import inotify_simple
import pytest

from harness.records import Outcome
from harness.sandboxes import untrusted
from harness.trials import arrivals, launch
from harness.trials.arrivals import Arrivals
from harness.trials.trial_record import read_record
from runners.protocol import wire
from tests.fakes import samples
from tests.fakes.listener import Listener
from tests.test_timeline import STEP

pytestmark = pytest.mark.unit

EVENTS = "events.jsonl"
LATE_S = 0.005
"""Most that an event may take to arrive, in the median; a poll every 0.2 s took 0.1."""
UNHEARD_S = 5.0
"""How long a line may take where nothing is timed."""


class TimedListener(Listener):
    """Keeps when each step was shown."""

    def __init__(self):
        super().__init__()
        self.shown_at_s = []

    def step_done(self, trial, ar, total_ms):
        """Now."""
        self.shown_at_s.append(time.monotonic())


@pytest.fixture
def never_looks(run, monkeypatch):
    """Runs a trial whose harness does not look by itself: it has to be told."""
    monkeypatch.setattr(launch, "_POLL_S", 60.0)
    return run


def test_event_arrives_when_it_is_told(never_looks, tmp_path):
    """Within 5 ms, though nobody looks; in order; after it was told; all on one clock."""
    watcher = TimedListener()
    result = never_looks("pauses", ar_steps=9, watcher=watcher)
    record = read_record(tmp_path / "work")
    late_s = [step.arrival_s - step.told_s for step in result.steps]
    shown_s = [at_s - record.launched_at_s for at_s in watcher.shown_at_s]
    shown_late_s = [at - step.told_s for at, step in zip(shown_s, result.steps, strict=True)]

    assert result.row.outcome == Outcome.COMPLETED, result.row.reason
    assert len(record.arrivals) == 9 + 1  # the end event, too
    assert all(late > 0 for late in late_s)
    assert median(late_s) < LATE_S
    assert median(shown_late_s) < 2 * LATE_S
    assert [step.arrival_s for step in result.steps] == sorted(s.arrival_s for s in result.steps)
    assert all(0 < s.began_s <= s.ended_s <= s.told_s < result.row.wall_s for s in result.steps)
    assert {(step.preempted, step.allocator_peak_gib) for step in result.steps} == {(2, 1.5)}
    assert {step.energy_j for step in result.steps} == {None}
    assert result.row.first_step_s == pytest.approx(result.steps[0].arrival_s, abs=0.1)
    assert result.row.wall_s < result.steps[-1].arrival_s + 5.0  # its end is told as well


def test_without_watches_steps_are_still_shown(run, tmp_path, monkeypatch):
    """Where the kernel has none left to give there are no arrivals, and everything else."""

    def refuse():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(arrivals, "INotify", refuse)
    watcher = Listener()
    result = run("completes", watcher=watcher)

    assert watcher.told == ["started", 0, 1, 2, "completed"]
    assert read_record(tmp_path / "work").arrivals == ()
    assert [step.arrival_s for step in result.steps] == [None] * 3
    assert all(step.told_s > 0 for step in result.steps)


def test_events_that_were_written_again_have_not_arrived(run, tmp_path):
    """What stands there in the end is not what was stamped."""
    result = run("rewrites_its_events")

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert read_record(tmp_path / "work").arrivals == ()
    assert [step.arrival_s for step in result.steps] == [None] * 3


def test_steps_are_shown_once_each_and_none_after_a_wrong_line(tmp_path):
    """A line is read when it is complete; what comes after one that is no event is not believed."""
    follower = launch._Follower(samples.trial(), tmp_path, Listener())
    lines = [wire.event_line(replace(STEP, ar=ar)) for ar in range(4)]
    shown = []
    pieces = (lines[0][:50], lines[0][50:] + lines[1], "", "no event\n", lines[2], lines[3])
    for piece in pieces:
        with (tmp_path / EVENTS).open("a") as file:
            file.write(piece)
        shown.append([step.ar for step in follower._new_steps()])

    assert shown == [[], [0, 1], [], [], [], []]


@pytest.fixture
def watched(tmp_path):
    """Watches a folder while ``act`` is done in it; gives the arrivals, and how often it rang."""

    def watch(act, most=3, counter=None):
        rings = threading.Semaphore(0)
        with Arrivals(tmp_path, most, rings.release, counter) as seen:
            act(tmp_path / EVENTS, lambda: rings.acquire(timeout=UNHEARD_S))
        return seen.found()

    return watch


def test_each_complete_line_is_stamped_once(watched):
    """Half a line has not arrived; several at once have arrived together."""

    def act(path, heard):
        with path.open("wb", buffering=0) as file:
            file.write(b"one\ntw")
            assert heard()
            file.write(b"o\nthree\n")
            assert heard()

    first, second, third = watched(act)
    assert first.at_s < second.at_s == third.at_s


def test_unfinished_line_is_none(watched):
    """The last line of a side that was killed counts for nothing."""
    assert len(watched(lambda path, heard: path.write_bytes(b"one\ntw"))) == 1


def test_lines_of_a_moment_ago_are_stamped_at_the_end(watched):
    """A side may be gone before anybody has read its last line."""
    assert len(watched(lambda path, heard: path.write_bytes(b"one\n"))) == 1


def test_file_that_is_put_in_place_arrives(watched):
    """Whether it is written there or renamed there."""

    def act(path, heard):
        beside = path.with_name("beside")
        beside.write_bytes(b"one\n")
        beside.rename(path)
        assert heard()
        with path.open("ab") as file:
            file.write(b"two\n")
        assert heard()

    assert len(watched(act)) == 2


def test_energy_is_read_at_each_arrival(watched):
    """The counter is asked once a line, not all the time."""
    counted = iter((10.0, None, 30.0))

    def act(path, heard):
        with path.open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(b"line\n")
                assert heard()

    assert [one.energy_j for one in watched(act, counter=lambda: next(counted))] == [10, None, 30]


def rewritten(path, heard):
    """The same length, other content."""
    path.write_bytes(b"one\n")
    assert heard()
    with path.open("r+b") as file:
        file.write(b"eno\n")


def shortened(path, heard):
    """A line fewer."""
    path.write_bytes(b"one\ntwo\n")
    assert heard()
    os.truncate(path, 4)


def replaced(path, heard):
    """Another file, with more in it."""
    path.write_bytes(b"one\n")
    assert heard()
    path.with_name("other").write_bytes(b"eno\ntwo\n")
    path.with_name("other").replace(path)
    assert heard()


def removed(path, heard):
    """No file any more."""
    path.write_bytes(b"one\n")
    assert heard()
    path.unlink()


def linked(path, heard):
    """A link to a file that grows elsewhere."""
    path.with_name("elsewhere").write_bytes(b"one\n")
    path.symlink_to(path.with_name("elsewhere"))
    path.with_name("elsewhere").write_bytes(b"two\n")


def piped(path, heard):
    """A pipe that nobody writes into."""
    os.mkfifo(path)


def folded(path, heard):
    """A folder with lines in it."""
    path.mkdir()
    (path / "lines").write_bytes(b"one\n")


def flooded(path, heard):
    """More lines than any honest side writes."""
    path.write_bytes(b"\n" * 1_000_000)
    assert heard()


def endless(path, heard):
    """A file that no memory holds."""
    path.write_bytes(b"one\n")
    assert heard()
    os.truncate(path, 1 << 40)


def mapped(path, heard):
    """Written past the kernel's notice, after a line that was noticed."""
    path.write_bytes(b"one\n    ")
    assert heard()
    descriptor = os.open(path, os.O_RDWR)
    with mmap.mmap(descriptor, 8) as content:
        content[4:8] = b"two\n"
    os.close(descriptor)


def flickering(path, heard):
    """There and gone, again and again."""
    for _ in range(500):
        path.write_bytes(b"one\n")
        path.unlink()


@pytest.mark.parametrize(
    "act",
    [
        *(rewritten, shortened, replaced, removed, linked, piped, folded, flooded, endless),
        *(mapped, flickering),
    ],
)
def test_hostile_file_has_no_arrivals(watched, act):
    """Whatever a side does to its events, the harness ends in time and claims nothing."""
    began_s = time.monotonic()

    assert watched(act) == ()
    assert time.monotonic() - began_s < UNHEARD_S


def test_memory_of_a_flood_is_bounded(tmp_path):
    """No more is kept of it than of an honest side, and nobody follows it to its end."""
    rung = []
    with Arrivals(tmp_path, 3, lambda: rung.append(1), None) as seen:
        for _ in range(50):
            with (tmp_path / EVENTS).open("ab") as file:
                file.write(b"\n" * 1000)
            time.sleep(0.002)

    assert (len(seen._found), len(rung)) == (3 + 1, 1)


def test_nothing_is_left_open(watched):
    """Neither descriptors nor threads, whether the block ends well or not."""
    watched(lambda path, heard: None)  # what is loaded once is loaded
    before = ({*Path("/proc/self/fd").iterdir()}, threading.active_count())

    watched(lambda path, heard: path.write_bytes(b"one\n"))
    with pytest.raises(KeyboardInterrupt):
        watched(lambda path, heard: (_ for _ in ()).throw(KeyboardInterrupt))

    assert ({*Path("/proc/self/fd").iterdir()}, threading.active_count()) == before


def test_overflown_queue_loses_no_line(tmp_path, monkeypatch):
    """Where the kernel dropped what it had to tell, the file is read all the same."""
    (tmp_path / EVENTS).write_bytes(b"one\n")
    seen = Arrivals(tmp_path, 3, lambda: None, None)
    with inotify_simple.INotify() as inotify:
        overflow = inotify_simple.Event(-1, inotify_simple.flags.Q_OVERFLOW, 0, "")
        seen._heed(inotify, [overflow])
        assert len(seen.found()) == 1

        with (tmp_path / EVENTS).open("ab") as file:
            file.write(b"two\n")
        seen._heed(inotify, inotify.read(timeout=0))
    assert len(seen.found()) == 2


def test_file_that_grows_is_read_from_where_it_was_left(tmp_path):
    """And nothing of a folder, or from beyond its end."""
    path = tmp_path / EVENTS
    path.write_bytes(b"one\ntwo\n")

    assert untrusted.read_growing(path, 4) == b"two\n"
    assert untrusted.read_growing(path, 100) == b""
    path.unlink()
    path.mkdir()
    assert untrusted.read_growing(path) == b""
