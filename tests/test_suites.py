"""Suites, recipes, devices and sides: what is shipped loads, and what is mistyped is named."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

import runners
from harness.environments.declared import Environment, driven, load_environments
from harness.errors import UsageFault
from harness.plan import suites
from harness.plan.cells import make_plan, plan_suite
from harness.plan.overrides import OVERRIDES, parse_side
from harness.plan.suites import Recipe, Suite, load_suite, load_toml
from runners.protocol.solvers import SOLVERS
from runners.protocol.wire import Job
from tests.fakes.command import fdbench

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).parent.parent
SUITES = suites.suite_names()
SUITE = """
description = "a test"
size = "tiny"

[[cells]]
recipe = "wan21-t2v-1.3b-480p"
baseline = "diffusers"
floor = ["diffusers", "diffusers{dtype=float64}"]
limit = 2.0
limit_origin = "a test"
settings = { denoising_steps = 5 }
"""


def write_suite(tmp_path, text):
    """A suite file with this text."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_there_is_a_suite_to_load():
    """The smoke suite ships."""
    assert "smoke" in SUITES


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("device", sorted(suites.load_devices()))
def test_shipped_suite_plans_on_every_device(name, device):
    """Every suite loads and can be laid out on every device, each cell planned or with a reason."""
    loaded, suite = load_suite(name)
    devices = suites.load_devices()
    plan = plan_suite(loaded, suite, suites.load_recipes(), device, devices[device])

    assert len(plan.cells) + len(plan.unsupported) == len(suite.cells)
    assert all(cell.reason for cell in plan.unsupported)


@pytest.mark.parametrize("slug", sorted(suites.load_recipes().recipes))
@pytest.mark.parametrize("size", ["full", "tiny"])
def test_shipped_recipe_is_consistent(slug, size):
    """A window holds whole AR steps, a self-forcing schedule has its steps, the network exists."""
    recipes = suites.load_recipes()
    recipe = recipes.recipes[slug]
    if size == "tiny" and not recipe.tiny:
        return
    values = dataclasses.asdict(recipe) | (recipe.tiny if size == "tiny" else {})

    assert set(recipe.tiny) <= {item.name for item in dataclasses.fields(Recipe)}
    assert (values["window_t"] + values["sink_t"]) % values["len_t"] == 0
    assert len(recipe.denoising_timesteps) in (0, recipe.denoising_steps)
    assert recipe.solver in SOLVERS
    assert recipes.network(recipe, size).dim % recipes.network(recipe, size).num_heads == 0


def test_capture_is_where_the_window_is_full():
    """The AR steps at which FlashDreams 0.1.0 captures its graph."""
    recipes = suites.load_recipes().recipes

    assert recipes["self-forcing-wan2.1-t2v-1.3b-taehv"].capture_ar == 7
    assert recipes["self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope"].capture_ar == 4


def test_slugs_agree_everywhere():
    """Recipes, entry points and the runners of the candidate's environment name the same slugs."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    entry_points = project["project"]["entry-points"]["flashdreams.runner_configs"]
    declared = load_environments()
    own, pinned = declared["flashdreams"].slugs, declared["flashdreams_integrations"].slugs

    recipes = suites.load_recipes().recipes
    run = {slug for slug, recipe in recipes.items() if not recipe.no_runner}
    assert run - set(pinned) == set(own)
    assert own == runners.RUNNERS
    assert set(pinned) == set(runners.PINNED)
    assert set(pinned) <= set(recipes)
    assert entry_points == runners.RUNNERS | runners.PINNED


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        pytest.param('size = "tiny"', 'size = "tiny"\nprocesess = 3', "procesess", id="unknown"),
        pytest.param('size = "tiny"', "size = 1", "size", id="wrong-type"),
        pytest.param('size = "tiny"', 'size = "tiny"\nseed = 1.5', "seed", id="float-for-int"),
        pytest.param('size = "tiny"', 'size = "tiny"\nseed = true', "seed", id="bool-for-int"),
        pytest.param('size = "tiny"', "size = 2026-11-23", "size", id="date"),
        pytest.param('size = "tiny"', "", "size", id="missing"),
        pytest.param("limit = 2.0", 'limit = "2"', "cells.0.limit", id="wrong-type-in-cell"),
        pytest.param("limit = 2.0", "limit = 2.0\nlimt = 3", "cells.0.limt", id="unknown-in-cell"),
        pytest.param('baseline = "diffusers"', "", "cells.0.baseline", id="missing-in-cell"),
        pytest.param("[[cells]]", "[cells]", "cells", id="table-for-list"),
    ],
)
def test_mistyped_suite_is_refused_by_file_and_key(tmp_path, old, new, key):
    """Nothing in a suite file is ignored or guessed."""
    assert old in SUITE
    path = write_suite(tmp_path, SUITE.replace(old, new))

    with pytest.raises(UsageFault) as caught:
        load_toml(Suite, path)

    assert str(path) in str(caught.value)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"size = ", id="not-toml"),
        pytest.param(b"\xff\xfe\x00", id="not-text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"x = 1\nx = 2", id="repeated-key"),
    ],
)
def test_file_that_is_no_suite_is_refused(tmp_path, content):
    """A file that is not TOML, or no suite at all, is named."""
    path = tmp_path / "mine.toml"
    path.write_bytes(content)

    with pytest.raises(UsageFault, match=r"mine\.toml"):
        load_suite(str(path))


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_suite_file_that_cannot_be_read_is_refused(tmp_path, kind):
    """So is a path that is no file."""
    path = tmp_path / "mine.toml"
    if kind == "folder":
        path.mkdir()

    with pytest.raises(UsageFault, match=r"mine\.toml"):
        load_suite(str(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("denoising_steps = 5", "denoisng_steps = 5", "denoising_steps", id="settings"),
        pytest.param("{dtype=float64}", "{dtpe=float64}", "dtype", id="side-override"),
        pytest.param("{dtype=float64}", "{nonce=1}", "nonce", id="forbidden-override"),
        pytest.param("{dtype=float64}", "{dtype}", "no value", id="override-without-value"),
        pytest.param("{dtype=float64}", "{dtype=float64", "form", id="open-brace"),
        pytest.param("480p", "480", "wan21-t2v-1.3b-480p", id="recipe"),
        pytest.param("denoising_steps = 5", 'denoising_steps = "5"', "denoising_steps", id="type"),
        pytest.param("denoising_steps = 5", "shift = nan", "shift", id="nan"),
        pytest.param("denoising_steps = 5", "len_t = 0", "len_t", id="zero"),
        pytest.param("{dtype=float64}", "{dtype=64}", "dtype", id="override-type"),
        pytest.param("{dtype=float64}", "{ar_steps=many}", "ar_steps", id="override-word"),
        pytest.param(', "diffusers{dtype=float64}"', "", "floor", id="floor-of-one"),
        pytest.param('"tiny"', '"tiny"\nprocesses = 0', "processes", id="no-processes"),
        pytest.param('"tiny"', '"huge"', "size", id="unknown-size"),
    ],
)
def test_impossible_suite_is_refused_with_the_nearest_name(tmp_path, old, new, said):
    """What cannot run is refused by the plan, before anything is built; the message names it."""
    assert old in SUITE
    path = write_suite(tmp_path, SUITE.replace(old, new))

    with pytest.raises(UsageFault, match=said):
        make_plan(str(path), "cpu", driven(load_environments()))


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        pytest.param("official", (), id="plain"),
        pytest.param("official{}", (), id="empty-braces"),
        pytest.param("official{dtype=float16}", (("dtype", "float16"),), id="word"),
        pytest.param("fd{shift=5.0,seed=1}", (("shift", 5.0), ("seed", 1)), id="numbers"),
        pytest.param("fd{compile=true}", (("compile", True),), id="bool"),
        pytest.param(
            "fd{denoising_timesteps=[1000, 500],dtype=float32}",
            (("denoising_timesteps", [1000, 500]), ("dtype", "float32")),
            id="list",
        ),
        pytest.param("fd{ dtype = float32 }", (("dtype", "float32"),), id="spaces"),
    ],
)
def test_side_is_read_and_round_trips(text, overrides):
    """A side is an environment and overrides, and what it is shown as reads back as itself."""
    side = parse_side(text, "here")

    assert side.environment == text.partition("{")[0]
    assert side.overrides == overrides
    assert parse_side(str(side), "here") == side


def test_overrides_are_the_job_but_for_identity():
    """Which fields of a job a suite may set is frozen here."""
    assert {item.name for item in dataclasses.fields(Job)} - OVERRIDES == {
        "protocol",
        "nonce",
        "slug",
        "size",
        "network",
        "weights",
        "noise",
        "text",
        "decoder_weights",
        "inputs",
        "device",
    }


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        pytest.param("--suite", "smok", "smoke", id="suite"),
        pytest.param("--suite", "recipes", "fdbench list suites", id="suite-that-is-a-table"),
        pytest.param("--suite", "missing.toml", "missing.toml", id="suite-file"),
        pytest.param("--gpu", "h20", "h200", id="device"),
        pytest.param("--only", "no-such-cell", "wan21-t2v-1.3b-480p/cpu/diffusers", id="cell"),
    ],
)
def test_unknown_name_exits_2_with_the_nearest(tmp_path, option, value, near):
    """A name that fdbench does not know is answered with one that it does."""
    options = {"--suite": "smoke", "--gpu": "cpu", "--out": tmp_path / "out"} | {option: value}
    done = fdbench("run", *(word for pair in options.items() for word in pair))

    assert (done.code, done.out) == (2, "")
    assert near in done.err
    assert not (tmp_path / "out").exists()


def test_only_names_a_cell_that_cannot_run(tmp_path):
    """A cell that the suite has is not denied; its reason is told."""
    path = write_suite(tmp_path, SUITE)
    with pytest.raises(UsageFault) as refused:
        make_plan(str(path), "cpu", {}, "wan21")

    assert str(refused.value) == (
        "--only 'wan21': what it names in mine cannot run on cpu:\n"
        "wan21-t2v-1.3b-480p/cpu/diffusers: no environment diffusers yet: "
        "upstream_envs/diffusers is not there"
    )
    with pytest.raises(UsageFault, match="matches no cell of mine; it has:\nnone that can run"):
        make_plan(str(path), "cpu", {}, "other")


@pytest.mark.parametrize("words", [["smoke", "cpu"], ["Smoke", "CPU"], ["SMOKE", "cpu"]])
def test_names_are_taken_in_any_case(words):
    """As reports write them; what is planned has the names as they are known."""
    suite, device = words
    cells = json.loads(fdbench("plan", "--suite", suite, "--gpu", device, "--json").out)

    assert cells == json.loads(fdbench("plan", "--suite", "smoke", "--gpu", "cpu", "--json").out)


@pytest.mark.parametrize(
    ("kind", "wanted", "said"),
    [
        pytest.param("device", "H20", "unknown device 'H20'; nearest: h200", id="near"),
        pytest.param("device", "tpu", "unknown device 'tpu'; nearest: cpu", id="device"),
        pytest.param("device", "x", "unknown device 'x'; see: fdbench list devices", id="nothing"),
        pytest.param("recipe", "taehv", "nearest: lingbot-world", id="part-of-a-name"),
        pytest.param("recipe", "nothere", "see: fdbench list recipes", id="recipe"),
        pytest.param("env", "DIFFUSER", "nearest: diffusers", id="env"),
        pytest.param("suite", "x", "see: fdbench list suites", id="suite"),
    ],
)
def test_at_most_three_names_are_suggested(kind, wanted, said):
    """And none at all where none is like it: then where they are listed."""
    known = {
        "recipe": suites.load_recipes().recipes,
        "suite": SUITES,
        "device": suites.load_devices(),
        "env": load_environments(),
    }[kind]
    with pytest.raises(UsageFault) as refused:
        suites.pick(kind, wanted, known)

    assert said in str(refused.value)
    assert sum(name in str(refused.value).split() for name in known) <= 3
    assert f"fdbench list {kind}s" in str(refused.value)


def test_name_in_a_file_is_taken_as_it_is_written():
    """A recipe's slug is part of a cell's id."""
    with pytest.raises(UsageFault, match="nearest: smoke"):
        suites.pick("suite", "Smoke", ["smoke"], "mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "limit = 2.0",
            "limits = 2.0",
            "mine.toml:9: cells.0.limits: unknown key; nearest: limit, limit_origin",
            id="cell",
        ),
        pytest.param(
            '"tiny"', '"tiny"\nThreads = 2', "Threads: unknown key; nearest: threads", id="suite"
        ),
        pytest.param("limit = 2.0", "", "cells.0.limit: this key is missing", id="missing"),
        pytest.param(
            "settings =",
            'expected_differences = [{ setting = "a", reson = "b", evidence = "c" }]\nsettings =',
            "cells.0.expected_differences.0.reson: unknown key; nearest: reason",
            id="inner-table",
        ),
    ],
)
def test_misspelt_key_is_told_the_nearest(tmp_path, old, new, said):
    """What was typed, not what is missing for it; by file, line and key."""
    assert old in SUITE
    with pytest.raises(UsageFault) as refused:
        load_suite(str(write_suite(tmp_path, SUITE.replace(old, new))))

    assert said in str(refused.value)


def test_misspelt_key_of_any_file_is_told_the_nearest(tmp_path):
    """Tables by name, and one that may be left out."""
    path = tmp_path / "env.toml"
    path.write_text(
        'description = ""\npackages = []\nrecipes = []\ncommand = []\n[source]\nurls = ""'
    )
    with pytest.raises(UsageFault, match=r"source\.urls: unknown key; nearest: url"):
        load_toml(Environment, path)
    path.write_text("[networks.a]\nparameter = 1\n[recipes]")
    with pytest.raises(UsageFault, match=r"a\.parameter: unknown key; nearest: parameters"):
        load_toml(suites.Recipes, path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("nothere.toml", "there is no such file", id="missing"),
        pytest.param(".", "could not be read: Is a directory", id="folder"),
    ],
)
def test_file_that_cannot_be_read_is_told_in_words(tmp_path, name, said):
    """No number of the system's, and no class of Python's."""
    folder = tmp_path / "mine.toml"
    folder.mkdir()
    with pytest.raises(UsageFault) as refused:
        load_suite(str(folder / name) if name != "." else str(folder))

    assert said in str(refused.value)
    assert "Errno" not in str(refused.value)


@pytest.mark.parametrize("kind", ["recipes", "suites", "devices", "envs"])
def test_list_names_everything(kind):
    """``fdbench list`` has every name that the other commands take."""
    known = {
        "recipes": suites.load_recipes().recipes,
        "suites": SUITES,
        "devices": suites.load_devices(),
        "envs": load_environments(),
    }[kind]
    heading, *lines = fdbench("list", kind).out.partition("\n\n")[0].splitlines()
    rows = json.loads(fdbench("list", kind, "--json").out)

    assert [line.split()[0] for line in lines] == list(known)
    assert [next(iter(row.values())) for row in rows] == list(known)
    assert heading.split()[0] == next(iter(rows[0]))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param("limit = 2.0", "limit = 2.0\nlimt = 3.0", "limt = 3.0", id="unknown-key"),
        pytest.param("limit = 2.0", 'limit = "2"', 'limit = "2"', id="wrong-type"),
        pytest.param("limit = 2.0", "", "[[cells]]", id="missing-key"),
        pytest.param('size = "tiny"', "size = 1", "size = 1", id="top-level"),
    ],
)
def test_refused_key_is_named_with_its_line(tmp_path, old, new, line):
    """The line that is wrong is named, or that of the table which lacks a key."""
    text = SUITE.replace(old, new)
    path = write_suite(tmp_path, text)
    number = 1 + path.read_text().splitlines().index(line)

    with pytest.raises(UsageFault, match=rf"mine\.toml:{number}: ") as caught:
        load_toml(Suite, path)

    assert str(path) in str(caught.value)


def test_wrong_key_of_a_later_cell_is_found_there(tmp_path):
    """Cells repeat their keys; the line is that of the right cell."""
    cell = SUITE[SUITE.index("[[cells]]") :]
    path = write_suite(tmp_path, SUITE + cell.replace("limit = 2.0", "limit = true"))
    number = 1 + path.read_text().splitlines().index("limit = true")

    with pytest.raises(UsageFault, match=rf":{number}: cells\.1\.limit"):
        load_toml(Suite, path)


@pytest.mark.parametrize("same", [True, False], ids=["alike", "with-another-limit"])
def test_cell_named_twice_is_refused_with_its_line(tmp_path, same):
    """Two cells with one id would write over each other; both lines are named."""
    cell = SUITE[SUITE.index("[[cells]]") :]
    second = cell if same else cell.replace("limit = 2.0", "limit = 3.0")
    path = write_suite(tmp_path, SUITE + second)
    lines = path.read_text().splitlines()
    first, last = (n + 1 for n, line in enumerate(lines) if line.startswith("recipe = "))

    with pytest.raises(UsageFault, match=rf":{last}: cells\.1\.recipe: .* in line {first}"):
        load_suite(str(path))


def test_scenes_of_a_recipe_are_cells_of_their_own(tmp_path):
    """The same pair at another input size is another cell."""
    cell = SUITE[SUITE.index("[[cells]]") :]
    other = cell.replace("limit = 2.0", 'limit = 2.0\nscene = "8x8"')

    assert len(load_suite(str(write_suite(tmp_path, SUITE + other)))[1].cells) == 2
