"""When a step began, ended, was told and arrived: seconds from the launch, or null."""

from dataclasses import replace

import pytest

from harness.records import StepRow
from harness.store.schema import read_table, to_rows, to_table
from harness.store.tables import write_parquet
from harness.trials.timeline import arrivals_by_ar, clock_columns
from harness.trials.trial_record import Arrival
from runners.protocol import wire
from tests.fakes import samples
from tests.test_trial_record import RECORD

pytestmark = pytest.mark.unit

LAUNCHED_AT_S = 1_000_000.25
STEP = wire.StepEvent(
    nonce=samples.NONCE,
    ar=0,
    stages_ms={"diffuse": 340.0, "finalize": 70.0},
    denoise_ms=(171.0, 169.0),
    wall_ms=411.0,
    kernels_ms={},
    captures=(),
    began_at_s=1_000_001.25,
    ended_at_s=1_000_001.75,
    told_at_s=1_000_002.25,
    memory_peak_gib=8.5,
    preempted=3,
)
END = wire.EndEvent(nonce=samples.NONCE, ar_steps=2, noise_draws=4, facts={})
LATER = {
    *("began_s", "ended_s", "told_s", "arrival_s", "energy_j"),
    *("preempted", "allocator_peak_gib"),
}


def arrivals(number):
    """So many, a second apart."""
    return tuple(Arrival(at_s=LAUNCHED_AT_S + n, energy_j=None) for n in range(number))


def test_columns_are_seconds_from_the_launch():
    """On one clock, so that they can be subtracted; the counter is the GPUs' own."""
    arrival = Arrival(at_s=1_000_002.2503, energy_j=5e6)
    columns = clock_columns(STEP, arrival, LAUNCHED_AT_S)

    assert {name: columns[name] for name in LATER} == {
        "began_s": 1.0,
        "ended_s": 1.5,
        "told_s": 2.0,
        "arrival_s": pytest.approx(2.0003),
        "energy_j": 5e6,
        "preempted": 3,
        "allocator_peak_gib": 8.5,
    }


@pytest.mark.parametrize(
    ("event", "arrival", "launched_at_s"),
    [
        pytest.param(STEP, arrivals(1)[0], None, id="older-record"),
        pytest.param(STEP, None, None, id="nothing-known"),
        pytest.param(
            replace(STEP, began_at_s=None, ended_at_s=None, told_at_s=None),
            None,
            LAUNCHED_AT_S,
            id="older-event",
        ),
    ],
)
def test_what_nobody_kept_is_null(event, arrival, launched_at_s):
    """An older run has no moments, and no zeros either."""
    columns = clock_columns(event, arrival, launched_at_s)

    assert {columns[n] for n in ("began_s", "ended_s", "told_s", "arrival_s")} == {None}
    assert columns["wall_ms"] == 411.0


def test_each_event_has_its_own_arrival():
    """The n-th line arrived as the n-th, whatever step it is of."""
    events = [replace(STEP, ar=1), STEP, END]
    first, second, third = arrivals(3)
    record = replace(RECORD, arrivals=(first, second, third))

    assert arrivals_by_ar(events, record) == {1: first, 0: second}


@pytest.mark.parametrize("number", [0, 2, 4])
def test_events_that_did_not_all_arrive_have_none(number):
    """Which one is missing nobody knows."""
    events = [STEP, replace(STEP, ar=1), END]

    assert arrivals_by_ar(events, replace(RECORD, arrivals=arrivals(number))) == {}


def test_table_of_an_older_run_has_nulls(tmp_path):
    """Columns that came later are null in it, whatever their type; the others are as they were."""
    row = samples.step_row(began_s=1.0, preempted=2)
    table = to_table([row], StepRow)
    write_parquet(table.drop_columns(sorted(LATER)), tmp_path / "old.parquet")
    write_parquet(table, tmp_path / "new.parquet")

    assert to_rows(read_table(tmp_path / "old.parquet", StepRow), StepRow) == [samples.step_row()]
    assert to_rows(read_table(tmp_path / "new.parquet", StepRow), StepRow) == [row]
