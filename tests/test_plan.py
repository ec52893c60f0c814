"""The plan: pure, balanced, and complete before anything runs."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import IntegrityFault, UsageFault
from harness.plan import suites
from harness.plan.cells import change_job, plan_suite
from harness.plan.sampling import captured_at, phase_at, phase_of
from harness.plan.suites import Suite, SuiteCell
from harness.records import Driven, Phase, Role
from runners.protocol import solvers
from runners.protocol.wire import CAPTURED_AT, NEVER, Job
from tests.fakes import samples

pytestmark = pytest.mark.unit

RECIPES, DEVICES = suites.load_recipes(), suites.load_devices()
WAN, TAEHV = "wan21-t2v-1.3b-480p", "self-forcing-wan2.1-t2v-1.3b-taehv"
CELL = SuiteCell(
    recipe=TAEHV,
    baseline="fastvideo",
    floor=["flashdreams", "flashdreams{dtype=float32}"],
    limit=2.0,
    limit_origin="a test",
)


def plan(*cells, device="cpu", size="tiny", **changes):
    """A planned suite."""
    suite = Suite(description="a test", size=size, cells=list(cells), **changes)
    return plan_suite("mine", suite, RECIPES, device, DEVICES[device])


def trials(cell=CELL, **changes):
    """The trials of a suite with one cell."""
    return plan(cell, **changes).cells[0].trials


def jobs(cell=CELL, **changes):
    """One job per role."""
    return {trial.role: trial.job for trial in trials(cell, **changes)}


@pytest.mark.parametrize(
    ("driven", "reason"),
    [
        pytest.param(
            {"flashdreams": Driven(recipes=(TAEHV,))}, "no environment fastvideo yet", id="none"
        ),
        pytest.param(
            {"flashdreams": Driven(recipes=(TAEHV,)), "fastvideo": Driven(recipes=(WAN,))},
            "environment fastvideo does not drive this recipe yet",
            id="other-recipes",
        ),
    ],
)
def test_cell_without_its_environment_is_listed_with_the_reason(driven, reason):
    """Nothing is planned for a side that nobody can start."""
    suite = Suite(description="a test", size="tiny", cells=[CELL])
    planned = plan_suite("mine", suite, RECIPES, "cpu", DEVICES["cpu"], driven)

    assert planned.cells == ()
    assert planned.unsupported[0].reason.startswith(reason)


def test_plan_is_deterministic():
    """The same suite gives the same plan, trial for trial."""
    assert plan(CELL, processes=4) == plan(CELL, processes=4)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_each_side_runs_once_a_round(processes):
    """Every round has one process of each side, next to each other."""
    pairs = [t for t in trials(processes=processes) if t.role != Role.FLOOR]
    rounds = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]

    assert [{t.process for t in one} for one in rounds] == [{i} for i in range(processes)]
    assert all({t.role for t in one} == {Role.CANDIDATE, Role.REFERENCE} for one in rounds)


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_each_side_goes_first_equally_often(processes):
    """Over an even number of processes neither side profits from running second."""
    pairs = [t for t in trials(processes=processes) if t.role != Role.FLOOR]
    first = Counter(trial.role for trial in pairs[::2])

    assert first == {Role.CANDIDATE: processes // 2, Role.REFERENCE: processes // 2}


def test_first_side_varies_between_cells():
    """Which side starts is drawn per cell, so that no side starts every cell."""
    starts = {
        planned.trials[0].role
        for slug in RECIPES.recipes
        for baseline in ("diffusers", "fastvideo")
        for device in ("h100", "h200", "gb200", "gb300")
        for planned in plan(
            replace(CELL, recipe=slug, baseline=baseline), size="full", device=device
        ).cells
    }

    assert starts == {Role.CANDIDATE, Role.REFERENCE}


@pytest.mark.parametrize(
    ("floor", "extra"),
    [
        pytest.param(["flashdreams", "fastvideo"], [], id="both-in-the-pair"),
        pytest.param(
            ["flashdreams", "flashdreams{dtype=float32}"],
            ["flashdreams{dtype=float32}"],
            id="one-of-them",
        ),
        pytest.param(
            ["diffusers", "diffusers{dtype=float64}"],
            ["diffusers", "diffusers{dtype=float64}"],
            id="neither",
        ),
    ],
)
def test_floor_runs_only_what_the_pair_does_not(floor, extra):
    """A floor side that is one of the pair's is not launched a second time."""
    planned = trials(replace(CELL, floor=floor), processes=2)

    assert [str(t.side) for t in planned if t.role == Role.FLOOR] == extra


def test_floor_of_one_side_twice_is_refused():
    """A side against itself, in the same trial, is at distance zero and no floor."""
    twice = "flashdreams{dtype=float32}"

    with pytest.raises(UsageFault, match=r"mine, cell 1.*floor"):
        plan(replace(CELL, floor=[twice, twice]))


def test_trial_ids_are_unique_and_fit_a_file_name():
    """A trial's id names its folder."""
    cells = (CELL, replace(CELL, recipe=WAN, baseline="diffusers"))
    planned = [t for cell in plan(*cells, processes=3).cells for t in cell.trials]
    ids = [trial.trial_id for trial in planned]

    assert len(ids) == len(set(ids))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_") for name in ids)
    assert max(map(len, ids)) < 200


def test_full_size_on_a_cpu_is_unsupported():
    """Cells that the device cannot hold are listed with the reason, outside the denominator."""
    planned = plan(CELL, size="full", device="cpu")

    assert planned.cells == ()
    (cell,) = planned.unsupported
    assert (cell.cell_id, cell.reason) == (f"{TAEHV}/cpu/fastvideo", "full size needs a GPU")
    assert (str(cell.candidate), str(cell.reference)) == ("flashdreams", "fastvideo")


def test_full_size_on_a_gpu_is_planned_as_published():
    """On a GPU the recipe's own values hold, compile and graph included."""
    job = jobs(size="full", device="h200")[Role.CANDIDATE]

    assert (job.network.num_layers, job.latent_height, job.latent_width) == (30, 60, 104)
    assert (job.compile, job.cuda_graph, job.attention, job.threads) == (True, True, "cudnn", 0)


def test_tiny_size_on_a_cpu_has_no_compile_and_no_graph():
    """On a CPU neither exists, and both sides get the same threads."""
    job = jobs(threads=3)[Role.CANDIDATE]

    assert (job.network.num_layers, job.latent_height, job.window_t) == (2, 8, 6)
    assert (job.compile, job.cuda_graph, job.attention, job.threads) == (False, False, "sdpa", 3)


@pytest.mark.parametrize(
    ("settings_", "side", "expected"),
    [
        pytest.param({"dtype": "float32"}, "", {"dtype": "float32"}, id="cell"),
        pytest.param({}, "{dtype=float64}", {"dtype": "float64"}, id="side"),
        pytest.param(
            {"dtype": "float32"}, "{dtype=float64}", {"dtype": "float64"}, id="side-over-cell"
        ),
        pytest.param({"ar_steps": 3}, "", {"capture_steps": (0, 1, 2)}, id="captures-follow"),
        pytest.param(
            {"ar_steps": 3, "capture_steps": [2]}, "", {"capture_steps": (2,)}, id="captures-set"
        ),
        pytest.param(
            {"shift": 5.0}, "", {"timesteps": (1000.0, 937.5, 2500 / 3, 625.0)}, id="shift"
        ),
        pytest.param(
            {"denoising_timesteps": [1000, 500]},
            "",
            {"denoising_steps": 2, "sigmas": (1.0, 8 / 9)},
            id="steps-follow",
        ),
        pytest.param(
            {}, "{timestep_rounding=as_shipped}", {"timestep_rounding": "as_shipped"}, id="rounding"
        ),
    ],
)
def test_overrides_reach_the_job(settings_, side, expected):
    """What cell and side set is in the job, and what follows from it is recomputed."""
    job = jobs(replace(CELL, settings=settings_, candidate=f"flashdreams{side}"))[Role.CANDIDATE]

    assert {name: getattr(job, name) for name in expected} == {
        name: pytest.approx(value) if name in ("timesteps", "sigmas") else value
        for name, value in expected.items()
    }


def test_side_override_touches_its_own_side_only():
    """The reference does not see what the candidate overrides."""
    planned = jobs(replace(CELL, candidate="flashdreams{dtype=float32}"))

    assert planned[Role.REFERENCE].dtype == "bfloat16"
    assert replace(planned[Role.CANDIDATE], dtype="bfloat16") == planned[Role.REFERENCE]


@pytest.mark.parametrize(
    ("shift", "timesteps"),
    [
        pytest.param(8.0, (1000, 960, 888.889, 727.273), id="shift-8"),
        pytest.param(5.0, (1000, 937.5, 833.333, 625), id="shift-5"),
        pytest.param(1.0, (1000, 750, 500, 250), id="no-shift"),
    ],
)
def test_self_forcing_table(shift, timesteps):
    """The warped timesteps are those that FlashDreams and Self-Forcing document."""
    steps = (1000, 750, 500, 250)
    sigmas, warped = solvers.table("self_forcing", steps, 4, shift)

    assert warped == pytest.approx(timesteps, abs=5e-4)
    assert [1000 * sigma for sigma in sigmas] == pytest.approx(warped)


@pytest.mark.parametrize(
    ("steps", "timesteps"),
    [
        pytest.param(5, (999, 969, 922, 841, 666), id="5-steps"),
        pytest.param(50, (999, 997, 994, 991, 989), id="50-steps"),
    ],
)
def test_unipc_table(steps, timesteps):
    """The integer timesteps are those of the library's own scheduler at shift 8."""
    sigmas, table = solvers.table("unipc", (), steps, 8.0)

    assert table[:5] == timesteps
    assert len(sigmas) == len(table) == steps


@given(st.integers(1, 60), st.floats(1.0, 12.0), st.sampled_from(["unipc", "self_forcing"]))
def test_noise_only_decreases(steps, shift, solver):
    """Whatever the steps and the shift, a schedule goes from noise to image."""
    nominal = tuple(1000 - 1000 * i // steps for i in range(steps))
    sigmas, timesteps = solvers.table(solver, nominal, steps, shift)

    assert list(sigmas) == sorted(sigmas, reverse=True)
    assert len(set(sigmas)) == steps
    assert all(0 < sigma <= 1 for sigma in sigmas)
    assert all(0 <= t <= 1000 for t in timesteps)


@pytest.mark.parametrize(
    ("ar", "has_graph", "phase"),
    [
        pytest.param(6, True, Phase.FILLING, id="filling"),
        pytest.param(7, True, Phase.CAPTURE, id="capture"),
        pytest.param(8, True, Phase.STEADY, id="steady"),
        pytest.param(7, False, Phase.STEADY, id="no-graph"),
        pytest.param(0, True, Phase.FILLING, id="first"),
    ],
)
def test_phase(ar, has_graph, phase):
    """An AR step is steady once the window is full and the graph, if any, is captured."""
    assert phase_at(ar, 7, has_graph=has_graph) is phase
    job = samples.job(len_t=3, window_t=21, sink_t=0, cuda_graph=has_graph)
    assert phase_of(ar, job) is phase


@pytest.mark.parametrize(
    ("said", "phases"),
    [
        pytest.param({}, ["filling", "capture", "steady", "steady"], id="nobody-looked"),
        pytest.param(
            {CAPTURED_AT: "7"}, ["filling", "capture", "steady", "steady"], id="as-planned"
        ),
        pytest.param({CAPTURED_AT: "8"}, ["filling", "capture", "capture", "steady"], id="later"),
        pytest.param(
            {CAPTURED_AT: "7, 9"}, ["filling", "capture", "steady", "capture"], id="twice"
        ),
        pytest.param(
            {CAPTURED_AT: NEVER}, ["filling", "capture", "capture", "capture"], id="never"
        ),
    ],
)
def test_step_is_steady_only_where_the_graph_was_captured(said, phases):
    """What the side saw decides, not what the library is meant to do; 6 to 9 of a window of 7."""
    job = samples.job(len_t=3, window_t=21, sink_t=0, cuda_graph=True)

    assert [phase_of(ar, job, captured_at(said)).value for ar in range(6, 10)] == phases


def test_fact_that_is_no_list_of_steps_is_refused():
    """A side that says something else of its graph contradicts the protocol."""
    with pytest.raises(IntegrityFault, match="'soon' is no list of AR steps"):
        captured_at({CAPTURED_AT: "soon"})


def test_sink_counts_for_the_window():
    """The window is full when sink and window are."""
    job = samples.job(len_t=3, window_t=7, sink_t=5)

    assert [phase_of(ar, job) for ar in (3, 4)] == [Phase.FILLING, Phase.STEADY]


def test_unchanged_job_keeps_its_tables():
    """No change leaves a planned job as it is."""
    job = jobs()[Role.CANDIDATE]

    assert isinstance(job, Job)
    assert change_job(job, {}) == job
