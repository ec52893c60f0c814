"""How well a cell was measured: clocks, controls, and what the documented command leaves out."""

from dataclasses import replace

import pytest

from harness.records import REPEATED, Phase, Role, Side
from reports.latency import latency_of, protocol_notes
from reports.measurement import ControlRow, clock_fault, controls_of, measured_sides
from reports.run_view import CellView
from tests.fakes import samples
from tests.test_report import pair_row

pytestmark = pytest.mark.unit

RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
SIDES = {Role.REFERENCE: (samples.REFERENCE, 432.0), Role.CANDIDATE: (samples.CANDIDATE, 344.0)}
CONTROL = samples.trial(Role.CONTROL, Side(environment="flashdreams", overrides=(("shift", 5.0),)))


def steps_of(trial, diffuse_ms, ar_steps=5, **changes):
    """AR steps of a trial; the window is full from AR 2 on."""
    return [
        samples.step_row(
            ar=ar,
            trial_id=trial.trial_id,
            role=trial.role,
            process=trial.process,
            phase=Phase.FILLING if ar < 2 else Phase.STEADY,
            **{
                "stages_ms": {"diffuse": diffuse_ms},
                "total_ms": diffuse_ms,
                "clock_total_ms": diffuse_ms,
                "wall_ms": diffuse_ms,
            }
            | changes,
        )
        for ar in range(ar_steps)
    ]


def cell(device="h200", processes=1, parity=(), documented_ar_steps=7, **candidate):
    """A cell that passed; ``candidate`` changes the steps of that side's last process."""
    planned = [
        (samples.trial(role, side, n), ms)
        for role, (side, ms) in SIDES.items()
        for n in range(processes)
    ]
    steps = [step for trial, ms in planned[:-1] for step in steps_of(trial, ms)]
    steps += steps_of(*planned[-1], **candidate)
    trials = [samples.trial_row(trial) for trial, _ in planned]
    return CellView(
        cell_id=f"{RECIPE}/{device}/fastvideo",
        pair=pair_row(device=device, documented_ar_steps=documented_ar_steps),
        trials=(*trials, samples.trial_row(CONTROL)),
        steps=tuple(steps),
        parity=tuple(parity),
    )


CLOCKS = [pytest.param("total_ms", id="log"), pytest.param("wall_ms", id="host")]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("factor", [1.006, 0.994])
def test_clocks_that_differ_withhold_the_speedup_on_a_gpu(clock, factor):
    """More than half a per cent between any clock and fdbench's: no speed-up, but both times."""
    measured = cell(**{clock: 344.0 * factor})

    assert clock_fault(measured) == "clocks differ by 0.60 %"
    for row in latency_of(measured):
        assert (row.withheld, row.speedup_percent) == ("clocks differ by 0.60 %", None)
        assert (row.upstream_ms, row.flashdreams_ms) == (432.0, 344.0)


@pytest.mark.parametrize("clock", CLOCKS)
def test_clocks_that_agree_within_half_a_per_cent_withhold_nothing(clock):
    """What two clocks differ by on a good day is no fault."""
    measured = cell(**{clock: 344.0 * 1.0049})

    assert clock_fault(measured) == ""
    assert [round(row.speedup_percent) for row in latency_of(measured)] == [26, 26]


@pytest.mark.parametrize("clock", CLOCKS)
def test_clocks_of_a_tiny_cpu_run_withhold_nothing(clock):
    """On a CPU the steps are too short for the host's clock, and no figure is published."""
    measured = cell(device="cpu", **{clock: 344.0 * 1.2})

    assert clock_fault(measured) == ""
    assert all(row.speedup_percent is not None for row in latency_of(measured))


def test_one_process_whose_clocks_differ_is_enough():
    """The largest difference over processes counts; four good launches do not hide a bad one."""
    measured = cell(processes=5, wall_ms=344.0 * 1.02)

    assert clock_fault(measured) == "clocks differ by 2.00 %"
    reference, candidate = measured_sides(measured)
    assert (reference.wall_difference, candidate.wall_difference) == (0.0, pytest.approx(0.02))
    assert candidate.num_processes == 5


def test_profiled_step_does_not_count_for_the_clocks():
    """A profiler takes time on one clock only; here it would be the median."""
    measured = cell(processes=2, ar_steps=1, wall_ms=999.0)
    profiled = [
        replace(step, phase=Phase.PROFILED) if step.wall_ms == 999.0 else step
        for step in measured.steps
    ]

    assert clock_fault(measured) != ""
    assert clock_fault(replace(measured, steps=tuple(profiled))) == ""


@pytest.mark.parametrize("clock", ["clock_total_ms", "wall_ms"])
def test_process_without_a_clock_withholds_the_speedup(clock):
    """What nothing was held against is not published."""
    measured = cell(processes=5, **{clock: None})

    assert clock_fault(measured) == "a process lacks one of the three clocks"
    assert {row.speedup_percent for row in latency_of(measured)} == {None}


def test_clocks_are_held_together_in_the_steady_state_too():
    """A slow clock of few steps does not drown in the median of all."""
    measured = cell(ar_steps=12)
    own = [step for step in measured.steps if step.role == Role.CANDIDATE]
    few = [step.ar for step in own if step.phase == Phase.STEADY][:3]
    assert few
    steps = [
        replace(
            step,
            phase=Phase.STEADY if step.ar in few else Phase.FILLING,
            wall_ms=step.wall_ms * (1.02 if step.ar in few else 1.0),
        )
        for step in measured.steps
    ]

    assert clock_fault(replace(measured, steps=tuple(steps))) == "clocks differ by 2.00 %"


def disturbed(*marks):
    """A cell whose candidate was launched as often as there are marks, each with its own."""
    made = cell()
    (first,) = [trial for trial in made.trials if trial.role == Role.CANDIDATE]
    launches = [
        replace(first, trial_id=first.trial_id + REPEATED * number, marks=mark)
        for number, mark in enumerate(marks)
    ]
    own = [step for step in made.steps if step.role == Role.CANDIDATE]
    steps = [replace(step, trial_id=one.trial_id) for one in launches for step in own]
    others = [trial for trial in made.trials if trial is not first]
    kept = [step for step in made.steps if step.role != Role.CANDIDATE]
    return replace(made, trials=(*others, *launches), steps=(*kept, *steps))


@pytest.mark.parametrize(
    ("marks", "withheld", "said"),
    [
        (("",), "", ()),
        (
            ("slowed", ""),
            "",
            ("process 0: slowed. It was repeated once; the figures take the repetition.",),
        ),
        (
            ("slowed", "slowed again"),
            "a counted process was disturbed",
            (
                "process 0: slowed. It was repeated once; the figures take the repetition.",
                "process 0, repeated: slowed again. Times of the cell are compared with nothing.",
            ),
        ),
        (
            ("slowed",),
            "a counted process was disturbed",
            ("process 0: slowed. It was not repeated.",),
        ),
    ],
)
def test_disturbed_times_are_compared_with_nothing(marks, withheld, said):
    """One repetition is what a disturbed launch gets; where that is disturbed too, none is left."""
    measured = disturbed(*marks)

    assert {row.withheld for row in latency_of(measured)} == {withheld}
    assert {row.speedup_percent is None for row in latency_of(measured)} == {bool(withheld)}
    assert measured_sides(measured)[1].marks == said


def test_profiled_process_is_none_that_was_measured():
    """One whose every step ran under a profiler counts for the kernels alone."""
    made = cell(processes=2, ar_steps=1)
    last = made.steps[-1].trial_id
    steps = [
        replace(step, phase=Phase.PROFILED, kernels='{"cudnn_sdpa": 3.0}')
        if step.trial_id == last
        else step
        for step in made.steps
    ]
    trials = [replace(t, first_step_s=99.0) if t.trial_id == last else t for t in made.trials]
    candidate = measured_sides(replace(made, steps=tuple(steps), trials=tuple(trials)))[1]

    assert candidate.num_processes == 1
    assert candidate.first_step_s != 99.0
    assert candidate.attention


def test_cell_without_a_counted_process_has_rows_without_figures():
    """Every launch failed: the report says so, and does not break."""
    made = cell()
    (row, *_) = latency_of(replace(made, trials=(), steps=tuple(steps_of(CONTROL, 344.0))))

    assert (row.upstream_ms, row.flashdreams_ms, row.speedup_percent) == (None, None, None)


def parity(comparison, ar, error, trial=CONTROL):
    """Distance at one AR step."""
    return samples.parity_row(
        comparison=comparison, ar=ar, relative_l2=error, candidate_trial=trial.trial_id
    )


def test_control_is_shown_where_it_is_nearest():
    """The step nearest to its floor is what the gate had to notice, not the smallest distance."""
    floors = [parity("floor", ar, 0.01 * (ar + 1), samples.trial()) for ar in range(3)]
    own = [parity("control", ar, error) for ar, error in enumerate((0.9, 0.3, 0.42))]
    pairs = [parity("pair", ar, 0.011, samples.trial()) for ar in range(3)]

    assert controls_of(cell(parity=[*pairs, *floors, *own])) == (
        ControlRow(side="FlashDreams{shift=5.0}", relative_l2=0.42, ratio=14.0, num_steps=3),
    )


def test_control_without_a_floor_has_no_ratio():
    """Nothing is divided by what is not there."""
    (row,) = controls_of(cell(parity=[parity("control", 0, 0.9)]))

    assert (row.relative_l2, row.ratio) == (0.9, None)
    assert controls_of(cell()) == ()


def test_note_where_the_documented_command_ends_too_early():
    """A reader is told that a published figure is that of a filling window, once per recipe."""
    early = [cell(documented_ar_steps=2), cell(documented_ar_steps=2)]
    (note,) = protocol_notes(early)

    assert f"command of {RECIPE} ends after 2 AR steps" in note
    assert "begins at AR 2" in note
    assert protocol_notes([cell(documented_ar_steps=3)]) == ()


def test_steady_state_begins_where_it_does_on_both_sides():
    """A CUDA graph captured on one side leaves that step out of the other's figure, too."""
    early = cell(documented_ar_steps=2)
    captured = [
        replace(step, phase=Phase.CAPTURE) if step.role == Role.CANDIDATE and step.ar == 2 else step
        for step in early.steps
    ]
    (note,) = protocol_notes([replace(early, steps=tuple(captured))])

    assert "begins at AR 3" in note


def test_recipes_that_end_alike_share_a_note():
    """One sentence, not one a recipe."""
    early, pair = cell(documented_ar_steps=2), pair_row(documented_ar_steps=2)
    other = replace(early, cell_id="other/h200/fastvideo", pair=replace(pair, recipe="other"))
    (note,) = protocol_notes([early, other])

    assert f"The documented commands of {RECIPE} and other end after 2 AR steps" in note


def test_cell_without_a_verdict_has_the_figures_of_one():
    """The documented command's steps count there too, and no more of them."""
    judged = cell(documented_ar_steps=3)
    unjudged = replace(judged, pair=None, planned_command_ar_steps=3)

    windows = [[row.window for row in latency_of(one)] for one in (judged, unjudged)]
    assert windows[0] == windows[1]
    assert {row.withheld for row in latency_of(unjudged)} == {"no verdict"}


def decoded(reference_ms, candidate_ms):
    """A cell whose sides decode in these times; None where a side does not."""
    made, times = cell(), {Role.REFERENCE: reference_ms, Role.CANDIDATE: candidate_ms}
    steps = [
        replace(step, stages_ms=step.stages_ms | {"decode": times[step.role]})
        if times[step.role] is not None
        else step
        for step in made.steps
    ]
    return replace(made, steps=tuple(steps))


def test_decoding_counts_where_both_sides_decode():
    """Frames are what a user waits for: one figure with the decoder, one without."""
    rows = {row.figure: row for row in latency_of(decoded(28.0, 13.0))}

    assert list(rows) == [
        "diffuse and decode, median from AR 2",
        "diffuse and decode, steady state",
        "diffuse, median from AR 2",
        "diffuse, steady state",
    ]
    whole = rows["diffuse and decode, steady state"]
    assert (whole.upstream_ms, whole.flashdreams_ms) == (460.0, 357.0)
    assert (rows["diffuse, steady state"].upstream_ms) == 432.0


@pytest.mark.parametrize("times", [(None, 13.0), (28.0, None), (None, None), (0.05, 0.05)])
def test_decoding_of_one_side_is_not_compared(times):
    """FlashDreams marks the stage without a decoder too; its time is no decoder's."""
    figures = [row.figure for row in latency_of(decoded(*times))]

    assert figures == ["diffuse, median from AR 2", "diffuse, steady state"]


def test_decoding_is_not_compared_where_a_side_has_no_process():
    """FlashDreams alone, which marks the stage without a decoder, makes no such figure."""
    whole = decoded(28.0, 13.0)
    alone = replace(whole, steps=tuple(s for s in whole.steps if s.role == Role.CANDIDATE))

    assert not any("decode" in row.figure for row in latency_of(alone))


def test_no_note_without_a_steady_step_or_a_verdict():
    """Nothing is said about a steady state that nobody saw, or a cell nobody judged."""
    unseen = cell(documented_ar_steps=1)
    filling = tuple(replace(step, phase=Phase.FILLING) for step in unseen.steps)
    assert protocol_notes([replace(unseen, steps=filling)]) == ()
    assert protocol_notes([replace(cell(documented_ar_steps=1), pair=None)]) == ()
