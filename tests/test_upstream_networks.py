"""Every upstream's network at full size has exactly the parameters of the synthetic weights."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from harness.environments.built import build_environment
from harness.environments.declared import load_environments
from harness.plan.suites import load_recipes
from tests.conftest import require_source

pytestmark = pytest.mark.real

CHECKS = Path(__file__).parent / "in_upstream"
T2V, I2V = "wan21-t2v-1.3b-480p", "wan21-i2v-14b-480p"


def run_in(name: str, *words: object) -> str:
    """Output of a program in an environment, with the staged code and source."""
    if load_environments()[name].source:
        require_source(name)
    built = build_environment(name, print)
    done = subprocess.run(
        [str(built.folder / "bin" / "python"), *map(str, words)],
        env=built.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("side", "slug", "keys"),
    [
        ("self_forcing", T2V, 825),
        ("causal_forcing", T2V, 825),
        ("infinity_rope", T2V, 825),
        ("wan21", T2V, 825),
        ("wan21", I2V, 1303),
        ("cosmos_predict2", "cosmos2-t2v-2b-720p", 569),
        ("fastvideo:fastvideo_causal", T2V, 825),
        ("fastvideo:fastvideo_denoising", T2V, 825),
        ("fastvideo_af2ee9c:fastvideo_causal", T2V, 825),
        ("fastvideo_af2ee9c:fastvideo_denoising", T2V, 825),
    ],
)
def test_full_size_network_has_the_synthetic_parameters(side, slug, keys):
    """Names and shapes agree one by one; nothing is allocated."""
    recipes = load_recipes()
    recipe = recipes.recipes[slug]
    network = dataclasses.asdict(recipes.network(recipe, "full"))
    name = side.partition(":")[0]

    said = run_in(name, CHECKS / "check_network.py", side, json.dumps(network))
    answer = json.loads(said.splitlines()[-1])  # FastVideo says other things before

    assert answer == {
        "keys": keys,
        "parameters": recipes.networks[recipe.network].parameters,
        "missing": [],
        "surplus": [],
        "shapes": [],
    }


def test_full_size_decoders_have_the_synthetic_parameters():
    """So do the decoders; and what TAEHV's frames are compared with is the whole clip's."""
    said = json.loads(run_in("self_forcing", CHECKS / "check_decoders.py").splitlines()[-1])
    context = said.pop("taehv_context")

    assert said == {
        "wan_vae": {"keys": 108, "differ": []},
        "taehv": {"keys": 64, "differ": []},
    }
    assert context["8"] < 1e-6 < 1e-3 < context["3"]


def test_loaded_network_is_what_it_says():
    """A missing, surplus or mis-shaped parameter stops a trial; compilation is seen."""
    assert run_in("self_forcing", CHECKS / "check_loading.py").split() == [
        "check_compilation_is_seen_in_all_its_ways",
        "check_whole_checkpoint_is_loaded",
        "check_missing_parameter_is_named",
        "check_surplus_parameter_is_named",
        "check_shape_is_named",
        "check_altered_file_is_refused",
    ]
