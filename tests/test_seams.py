"""What a new family brings: kinds, solvers and inputs by name, and a core that knows no family."""

from dataclasses import replace

import pytest

from harness.environments.declared import PROJECT_DIR, driven, load_environments
from harness.errors import UsageFault
from harness.plan import suites
from harness.plan.cells import plan_suite
from harness.plan.overrides import check_overrides, impossible
from harness.store.run import open_run
from runners.protocol import named_inputs, solvers
from runners.protocol.kinds import KINDS
from runners.protocol.solvers import DENOISE, GIVEN, PREFILL, UPDATE
from runners.protocol.wire import PROTOCOL_VERSION
from tests.fakes import samples

pytestmark = pytest.mark.unit

RECIPES = suites.load_recipes()
RUNS = sorted(path.parent for path in (PROJECT_DIR / "docs/results").glob("*/run.json"))


@pytest.mark.parametrize("folder", RUNS, ids=lambda path: path.name)
def test_stored_plans_are_planned_today(folder):
    """Every cell of a committed run is planned as it was, but for the protocol's number."""
    record = open_run(folder).read_record()
    name, suite = suites.load_suite(record.suite)
    devices = suites.load_devices()
    here = (record.device, devices[record.device], driven(load_environments()))
    today = {cell.cell_id: cell for cell in plan_suite(name, suite, RECIPES, *here).cells}

    assert record.plan
    for then in record.plan:
        assert {trial.job.protocol for trial in then.trials} == {2}
        trials = [replace(t, job=replace(t.job, protocol=PROTOCOL_VERSION)) for t in then.trials]
        assert replace(then, trials=tuple(trials)) == today[then.cell_id]


@pytest.mark.parametrize(
    "slug", [s for s, r in RECIPES.recipes.items() if not (r.no_runner or r.no_matched_trial)]
)
def test_kind_has_the_parameters_that_the_recipe_says(slug):
    """Weights, memory and kernel time are made from the shapes that the checkpoint has."""
    recipe = RECIPES.recipes[slug]
    network = RECIPES.network(recipe, "full")
    shapes = KINDS[network.kind].shapes(network)

    counts = []
    for shape in shapes.values():
        count = 1
        for length in shape:
            count *= length
        counts.append(count)
    assert sum(counts) == RECIPES.networks[recipe.network].parameters


def test_kernels_of_wan_have_the_names_that_runs_store():
    """A stored kernel time is read by these names."""
    network = RECIPES.network(RECIPES.recipes["wan21-t2v-1.3b-480p"], "full")
    layer = KINDS["wan"].layer(network)

    assert {p.name: p.count for p in layer.products} == {
        "linear_dim_dim": 6,
        "linear_dim_ffn": 1,
        "linear_ffn_dim": 1,
    }
    assert [a.name for a in layer.attentions] == ["self_attention", "cross_attention"]
    assert layer.cached_values == 2 * network.dim


@pytest.mark.parametrize(
    ("changes", "ar", "wanted"),
    [
        pytest.param({}, 0, [DENOISE] * 2 + [UPDATE], id="stream"),
        pytest.param({"guidance": 6.0}, 1, [DENOISE] * 4 + [UPDATE], id="two-branches"),
        pytest.param({"given_frames": 3}, 0, [GIVEN], id="given"),
        pytest.param({"given_frames": 3}, 1, [DENOISE] * 2 + [UPDATE], id="after-given"),
        pytest.param({"given_frames": 1}, 0, [DENOISE] * 2 + [UPDATE], id="given-in-part"),
        pytest.param({"solver": "unipc", "ar_steps": 1}, 0, [DENOISE] * 2, id="one-step"),
        pytest.param({"solver": "unipc"}, 0, [DENOISE] * 2 + [UPDATE], id="unipc-stream"),
        pytest.param({"solver": "euler"}, 0, [DENOISE] * 2, id="first-of-prefills"),
        pytest.param({"solver": "euler"}, 1, [PREFILL] + [DENOISE] * 2, id="prefill"),
    ],
)
def test_calls_of_an_ar_step(changes, ar, wanted):
    """Plan, call checks and evidence read one list of calls."""
    assert [call.what for call in solvers.calls(samples.job(**changes), ar)] == wanted


def test_calls_are_told_the_table_and_the_context_noise():
    """Each denoising call is told its step's timestep, the update the noise of the context."""
    one = samples.job(context_noise=128)

    told = [call.told for call in solvers.calls(one, 1)]

    assert told == [*one.timesteps, 128.0]


@pytest.mark.parametrize(
    ("changes", "draws"),
    [
        pytest.param({}, 2, id="renoised"),
        pytest.param({"context_noise": 128}, 3, id="context"),
        pytest.param({"solver": "unipc"}, 1, id="once"),
        pytest.param({"given_frames": 3}, 0, id="given"),
    ],
)
def test_draws_of_an_ar_step(changes, draws):
    """What is given takes no noise, and context noise one tensor more."""
    assert solvers.draws(samples.job(**changes), 0) == draws


def test_karras_grid_is_that_of_both_sides():
    """Source: nvidia-cosmos/cosmos-predict2.5 50369b8, ``FlowUniPCMultistepScheduler``, N = 5."""
    sigmas, timesteps = solvers.table("unipc_karras", (), 6, 5.0)

    assert timesteps == (995.0, 984.0, 941.0, 742.0, 228.0, 9.0)
    assert sigmas[0] == pytest.approx(200 / 201)
    assert sigmas[-1] == pytest.approx(0.01 / 1.01)


def test_inputs_of_a_step_are_named_by_it():
    """One digest covers inputs of the rollout and of each AR step."""
    extent = named_inputs.Extent(3, 16, 8, 10, 2)

    found = named_inputs.keys(("first_frame", "hdmap", "viewmats"), extent)

    assert {key: one.shape(extent) for key, one in found.items()} == {
        "first_frame": (1, 16, 8, 10),
        "hdmap.ar0": (3, 16, 8, 10),
        "hdmap.ar1": (3, 16, 8, 10),
        "viewmats": (6, 4, 4),
    }


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        pytest.param({"solver": "unipcc"}, "unknown solver 'unipcc'; nearest: unipc", id="solver"),
        pytest.param(
            {"input_names": ["hd_map"]}, "unknown input 'hd_map'; nearest: hdmap", id="input"
        ),
        pytest.param({"weights_rule": "sharpe"}, "nearest: sharp", id="rule"),
        pytest.param({"weights_from": "gpu"}, "known: device, file", id="source"),
    ],
)
def test_unknown_name_in_a_side_is_told_the_nearest(overrides, said):
    """A slip is answered with what was meant, before anything runs."""
    with pytest.raises(UsageFault, match=said):
        check_overrides(overrides, "suite mine, cell 1")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param('solver = "euler"', 'solver = "eular"', "nearest: euler", id="solver"),
        pytest.param(
            'inputs = ["first_frame"]',
            'inputs = ["first_frames"]',
            "nearest: first_frame",
            id="input",
        ),
        pytest.param(
            "parameters = 1_418_996_800",
            'parameters = 1_418_996_800\nkind = "van"',
            "nearest: wan",
            id="kind",
        ),
        pytest.param("ffn_dim = 8960", "fn_dim = 8960", "nearest: ffn_dim", id="shape"),
        pytest.param("dim = 1536, ", "", "dim is missing", id="no-shape"),
        pytest.param(
            'network = "wan2.1-t2v-1.3b"', 'network = "wan2.1-t2v"', "nearest: wan2.1", id="network"
        ),
        pytest.param("tiny = { window_t", "tiny = { windowt", "nearest: window_t", id="tiny"),
        pytest.param("tiny = { window_t = 6", 'tiny = { window_t = "6"', "window_t", id="type"),
    ],
)
def test_unknown_name_in_recipes_is_told_the_nearest(tmp_path, old, new, said):
    """Recipes are refused by file, line and key."""
    text = (suites.SUITES_DIR / "recipes.toml").read_text()
    assert old in text
    path = tmp_path / "recipes.toml"
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(UsageFault, match=said) as refused:
        suites.load_recipes(path)

    assert f"{path}:" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, "", id="possible"),
        pytest.param({"weights_rule": "sharp", "weights_gains": (2.5, 1.5)}, "", id="sharp"),
        pytest.param({"weights_rule": "sharp"}, "takes 2 weights_gains, not 0", id="no-gains"),
        pytest.param({"weights_gains": (2.0,)}, "flat has no gains", id="flat"),
        pytest.param(
            {"given_frames": 9, "input_names": ("first_frame",)},
            "of 9 1 must be generated",
            id="all-given",
        ),
        pytest.param({"given_frames": 1}, "no input gives them", id="given-by-nobody"),
        pytest.param({"input_names": ("hdmap", "hdmap")}, "is named twice", id="twice"),
        pytest.param({"context_noise": 1001}, "a timestep is in [0, 1000]", id="context"),
        pytest.param(
            {"weights_rule": "sharp", "weights_gains": (0.0, 1.0)}, "a gain is above 0", id="zero"
        ),
        pytest.param({"capture_steps": (3,)}, "there is no AR step [3]", id="capture"),
        pytest.param(
            {"solver": "unipc_karras", "denoising_steps": 1}, "takes at least 2", id="one-step"
        ),
        pytest.param({"as_shipped": ("timesteps",)}, "timestep_rounding=as_shipped", id="part"),
        pytest.param({"from_ar": 1}, "does nothing without position_offset", id="no-fault"),
        pytest.param({"from_ar": 3, "position_offset": 3}, "the last AR step is 2", id="too-late"),
        pytest.param({"device": "cuda", "gpus": 2}, "1 on 2 GPUs", id="ranks"),
    ],
)
def test_job_that_no_side_can_do_is_refused(changes, said):
    """Values that are allowed one by one may still make no sense together."""
    found = impossible(samples.job(**changes))

    assert (said in found) if said else found == "", found


def test_sides_of_a_cell_have_their_weights_from_one_place():
    """A file and a device give other weights: a noise floor across them would hide anything."""
    cell = suites.SuiteCell(
        recipe="self-forcing-wan2.1-t2v-1.3b-taehv",
        baseline="official",
        floor=["official", "official{weights_from=device,dtype=float64}"],
        limit=2.0,
        limit_origin="a test",
    )
    suite = suites.Suite(description="a test", size="tiny", cells=[cell])

    with pytest.raises(UsageFault, match="its sides have different weights_from"):
        plan_suite("mine", suite, RECIPES, "cpu", suites.load_devices()["cpu"])


def test_reference_environment_is_no_candidate():
    """Only an environment that runs FlashDreams is a cell's candidate."""
    cell = suites.SuiteCell(
        recipe="self-forcing-wan2.1-t2v-1.3b-taehv",
        baseline="official",
        candidate="fastvideo",
        floor=["official", "official{dtype=float64}"],
        limit=2.0,
        limit_origin="a test",
    )
    suite = suites.Suite(description="a test", size="tiny", cells=[cell])
    here = (suites.load_devices()["cpu"], driven(load_environments()))
    planned = plan_suite("mine", suite, RECIPES, "cpu", *here)

    (unsupported,) = planned.unsupported
    assert (
        unsupported.reason == "environment fastvideo is a reference: a candidate runs FlashDreams"
    )
