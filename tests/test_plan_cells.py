"""What a suite's cell asks for beyond its pair: variants, controls, profiles, own processes."""

from dataclasses import replace

import pytest

from harness.errors import UsageFault
from harness.plan import suites
from harness.plan.cells import cell_id_of, chosen, plan_suite, repeat_of
from harness.plan.suites import Suite, SuiteCell
from harness.records import Role
from tests.fakes.workplace import CELL as CELL_TOML

pytestmark = pytest.mark.unit

RECIPES, DEVICES = suites.load_recipes(), suites.load_devices()
WAN, TAEHV = "wan21-t2v-1.3b-480p", "self-forcing-wan2.1-t2v-1.3b-taehv"
CELL = SuiteCell(
    recipe=TAEHV,
    baseline="fastvideo",
    floor=["flashdreams", "flashdreams{dtype=float32}"],
    controls=["flashdreams{weights_seed=1}", "flashdreams{shift=5.0,ar_steps=2}"],
    limit=2.0,
    limit_origin="a test",
)
COMPARED = (Role.CANDIDATE, Role.REFERENCE)


def cells(*wanted, **changes):
    """The planned cells of a suite."""
    suite = Suite(description="a test", size="tiny", cells=list(wanted), **changes)
    return plan_suite("mine", suite, RECIPES, "cpu", DEVICES["cpu"]).cells


def trials(cell=CELL, **changes):
    """The trials of a suite with one cell."""
    return cells(cell, **changes)[0].trials


def profiled(planned):
    """Role and process of every trial that runs a step under the profiler, with those steps."""
    return {(t.role, t.process): t.job.profile_steps for t in planned if t.job.profile_steps}


def test_variant_is_part_of_the_cells_name():
    """A recipe can stand twice against one baseline, and no trial takes the other's folder."""
    matched, shipped = cells(CELL, replace(CELL, variant="as-shipped"))

    assert matched.cell_id == f"{TAEHV}/cpu/fastvideo"
    assert shipped.cell_id == f"{TAEHV}/cpu/fastvideo/as-shipped"
    ids = [trial.trial_id for cell in (matched, shipped) for trial in cell.trials]
    assert len(set(ids)) == len(ids)
    assert all(t.trial_id.startswith(shipped.cell_id.replace("/", ".")) for t in shipped.trials)


def test_whole_name_picks_one_cell_and_a_part_of_it_all_that_have_it():
    """A cell's name begins those of its variants, and has to be a name of its own to repeat it."""
    ids = ["a/h200/official", "a/h200/official/decoded", "b/h200/official"]

    assert chosen("a/h200/official", ids) == ["a/h200/official"]
    assert chosen("official/decoded", ids) == ["a/h200/official/decoded"]
    assert chosen("a/h200", ids) == ids[:2]
    assert chosen("", ids) == ids
    assert chosen("nothing", ids) == []


def test_variant_and_scene_are_both_in_the_name():
    """A super-resolution cell may have both."""
    scene = replace(CELL, variant="fp8", scene="1280x720")

    assert cell_id_of(scene, "h200") == f"{TAEHV}/h200/fastvideo/fp8/1280x720"


def suite_file(path, *variants):
    """A suite whose cells differ in their variant."""
    blocks = [
        CELL_TOML.format(recipe=TAEHV, baseline="fastvideo") + f'variant = "{variant}"\n'
        for variant in variants
    ]
    path.write_text('description = "a test"\nsize = "tiny"\n' + "".join(blocks))
    return str(path)


def test_cells_that_differ_in_their_variant_are_two(tmp_path):
    """Only cells of one name would write over each other."""
    _, suite = suites.load_suite(suite_file(tmp_path / "two.toml", "", "as-shipped"))
    assert [cell.variant for cell in suite.cells] == ["", "as-shipped"]

    with pytest.raises(UsageFault, match="fastvideo, as-shipped is defined twice"):
        suites.load_suite(suite_file(tmp_path / "same.toml", "as-shipped", "as-shipped"))


def test_scene_and_variant_of_one_name_are_one_cell(tmp_path):
    """What counts is the name: a scene may not hide behind a variant that is spelt the same."""
    path = tmp_path / "same.toml"
    suite_file(path, "1280x720", "")
    path.write_text(path.read_text().replace('variant = ""', 'scene = "1280x720"'))

    with pytest.raises(UsageFault, match="is defined twice"):
        suites.load_suite(str(path))


def test_controls_are_trials():
    """Each control runs once, last, with its own job and nothing of the other's."""
    planned = trials(processes=3)
    controls = [trial for trial in planned if trial.role == Role.CONTROL]

    assert [str(trial.side) for trial in controls] == CELL.controls
    assert planned[-2:] == tuple(controls)
    assert [trial.process for trial in controls] == [0, 0]
    assert (controls[0].job.weights_seed, controls[1].job.weights_seed) == (1, 0)
    assert controls[1].job.capture_steps == (0, 1)
    assert cells(CELL)[0].controls == tuple(trial.side for trial in controls)


@pytest.mark.parametrize("processes", [1, 3])
def test_streaming_cell_profiles_the_last_step_of_the_first_process(processes):
    """One AR step of each compared side; the other processes and roles are timed only."""
    planned = trials(processes=processes, profile=True)
    last = planned[0].job.ar_steps - 1

    assert last > 0
    assert profiled(planned) == dict.fromkeys(((role, 0) for role in COMPARED), (last,))
    assert len(planned) == len(trials(processes=processes)), "no process is added for it"


@pytest.mark.parametrize("processes", [1, 3])
def test_single_step_cell_is_profiled_in_a_process_of_its_own(processes):
    """Where there is one AR step, the profiled process is one more, so that all others count."""
    single = replace(CELL, recipe=WAN, controls=[])
    planned = trials(single, processes=processes, profile=True)

    assert profiled(planned) == dict.fromkeys(((role, processes) for role in COMPARED), (0,))
    for role in COMPARED:
        own = [t.process for t in planned if t.role == role]
        assert sorted(own) == list(range(processes + 1))


def test_cell_settings_decide_what_a_single_step_is():
    """A streaming recipe cut to one AR step needs the process of its own too."""
    one = replace(CELL, settings={"ar_steps": 1}, controls=[])

    assert set(profiled(trials(one, processes=2, profile=True))) == {(role, 2) for role in COMPARED}


def test_nothing_is_profiled_unasked():
    """A profiler costs time; a suite has to ask for it."""
    assert profiled(trials(processes=2)) == {}


@pytest.mark.parametrize(("own", "expected"), [(0, 2), (1, 1), (5, 5)])
def test_cell_may_have_its_own_number_of_processes(own, expected):
    """A slow cell runs less often than the suite's others, a noisy one more often."""
    other, mine = cells(replace(CELL, recipe=WAN), replace(CELL, processes=own), processes=2)
    for role in COMPARED:
        assert sum(trial.role == role for trial in mine.trials) == expected
        assert sum(trial.role == role for trial in other.trials) == 2


def test_repetition_differs_in_its_name_only():
    """A repetition is the same process launch of the same job, in a folder of its own."""
    (first, *_) = trials()
    again = repeat_of(first)

    assert again.trial_id == f"{first.trial_id}.again"
    assert replace(again, trial_id=first.trial_id) == first
