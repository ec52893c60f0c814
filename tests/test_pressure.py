"""How long the host's tasks waited: as the kernel counts it, and nothing where it does not."""

import json

import pytest

from harness.machine import pressure
from harness.machine.pressure import read_waits, waited_columns, waits_since

pytestmark = pytest.mark.unit

TEXT = (
    "some avg10=0.46 avg60=0.22 avg300=0.19 total={some}\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
)
NONE = {"cpu_waited_percent": None, "memory_waited_percent": None, "io_waited_percent": None}


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel that counts so many microseconds."""
    monkeypatch.setattr(pressure, "_PLACE", tmp_path)

    def count(**waits_us):
        for resource, some in waits_us.items():
            (tmp_path / resource).write_text(TEXT.format(some=some))

    return count


def test_share_of_the_time_in_which_some_task_waited(kernel):
    """What was added while it ran, over its time; tasks that all waited are counted in it."""
    kernel(cpu=5_000_000, memory=10, io=10)
    before = read_waits()
    kernel(cpu=6_500_000, memory=10, io=250_010)

    assert waits_since(before) == {"cpu": 1_500_000, "memory": 0, "io": 250_000}
    assert waited_columns(waits_since(before), 5.0) == {
        "cpu_waited_percent": pytest.approx(30.0),
        "memory_waited_percent": 0.0,
        "io_waited_percent": pytest.approx(5.0),
    }


def test_share_is_no_more_than_all_of_it(kernel):
    """The kernel adds up every two seconds, so a short trial may be told of what was before."""
    assert waited_columns({"cpu": 3_000_000}, 0.5)["cpu_waited_percent"] == 100.0


def test_kernel_that_counts_nothing(kernel):
    """None, never a zero that looks like an idle host."""
    before = read_waits()

    assert (before, waits_since(before)) == ({}, None)
    assert waited_columns(None, 5.0) == NONE


@pytest.mark.parametrize("text", ["", "full avg10=0.00 total=7\n", "some total=\n", "some\n"])
def test_figure_that_is_not_there(kernel, tmp_path, text):
    """One resource that the kernel says nothing of leaves the others."""
    kernel(cpu=1, memory=2)
    (tmp_path / "io").write_text(text)

    assert read_waits() == {"cpu": 1, "memory": 2}


def test_kernel_whose_count_is_switched_off(kernel, tmp_path):
    """A file that cannot be read is none."""
    kernel(cpu=1)
    (tmp_path / "memory").mkdir()

    assert read_waits() == {"cpu": 1}


def test_count_that_began_meanwhile_is_none(kernel):
    """Without a first reading there is no difference."""
    kernel(cpu=1)
    before = read_waits()
    kernel(cpu=3, io=900)

    assert waits_since(before) == {"cpu": 2}
    assert waited_columns({"cpu": 2}, 1.0) == NONE | {"cpu_waited_percent": pytest.approx(2e-4)}


@pytest.mark.parametrize("counts", [True, False], ids=["counted", "not-counted"])
def test_trial_keeps_what_the_kernel_counted(run, kernel, tmp_path, counts):
    """Raw in its record, as a share in its row; null in both where the kernel does not count."""
    if counts:
        kernel(cpu=100, memory=100, io=100)
    row = run("completes").row
    kept = json.loads((tmp_path / "work" / "trial.json").read_text())["waited_us"]

    assert kept == ({"cpu": 0, "memory": 0, "io": 0} if counts else None)
    assert row.cpu_waited_percent == (0.0 if counts else None)
    assert row.io_waited_percent == (0.0 if counts else None)
