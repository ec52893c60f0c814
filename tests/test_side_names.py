"""What sides are called in reports: as the run kept it, else as declared, else as published."""

import shutil
from dataclasses import replace

import pytest

from harness.store.run import open_run
from harness.store.run_record import EnvironmentRecord
from reports.render import render_run
from reports.side_names import CANDIDATE_COLOUR, known_names, names_of

pytestmark = pytest.mark.unit

KEPT = EnvironmentRecord(
    title="Mine", role="candidate", description="", packages=(), reason_no_deps="", digest="",
    code_digest="",
)  # fmt: skip
OLDER = replace(KEPT, title="", role="")


@pytest.mark.parametrize(
    ("environments", "side", "shown"),
    [
        pytest.param({"own": KEPT}, "own{dtype=float32}", "Mine{dtype=float32}", id="kept"),
        pytest.param({"diffusers": KEPT}, "diffusers", "Mine", id="kept-before-declared"),
        pytest.param({"flashdreams": OLDER}, "flashdreams", "FlashDreams", id="older-run"),
        pytest.param({}, "wan21", "Official Wan2.1", id="declared"),
        pytest.param({}, "lightx2v", "LightX2V runner", id="published"),
        pytest.param({}, "own", "own", id="unknown"),
        pytest.param({"own": replace(KEPT, title="")}, "own", "own", id="without-title"),
        pytest.param({"own@0123": KEPT}, "own@0123", "own@0123", id="earlier-state"),
    ],
)
def test_side_is_called_by_the_nearest_that_knows(environments, side, shown):
    """A run's record before what is declared here, and that before the published names."""
    assert names_of(environments).display(side) == shown


def test_a_pair_is_called_by_its_roles():
    """A candidate against a candidate has no upstream; several candidates have no one title."""
    names = names_of({"own": KEPT})

    assert names.pair(["diffusers"], ["flashdreams{a=1}"]) == ("upstream", "FlashDreams")
    assert names.pair(["diffusers"], ["own", "flashdreams"]) == ("upstream", "candidate")
    assert names.pair(["flashdreams{a=1}"], ["own"]) == ("reference", "candidate")
    assert names.pair(["flashdreams", "diffusers"], ["own"]) == ("upstream", "Mine")


def test_green_is_a_candidate_and_nothing_else():
    """Of two candidates the one in the other's place has another colour."""
    names = names_of({"own": KEPT})
    green, others = CANDIDATE_COLOUR, ("diffusers", "wan21", "official", "watched", "unknown")

    assert [names.colour(side) for side in ("own{a=1}", "flashdreams")] == [green, green]
    assert green not in [names.colour(side) for side in others]
    assert names.colour("wan21") == names.colour("official") != names.colour("diffusers")
    assert green not in names.colours("flashdreams", "own")[0]
    assert names.colours("flashdreams", "own")[1] == green


@pytest.mark.slow
def test_report_says_what_the_run_kept(fake_run, tmp_path):
    """An environment that is declared nowhere any more keeps its title."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    store = open_run(run)
    record = store.read_record()
    roles = {name: one.role for name, one in record.environments.items()}
    assert roles == dict.fromkeys(roles, "reference") | {"flashdreams": "candidate"}

    named = {
        name: replace(one, title=f"The {name} one") for name, one in record.environments.items()
    }
    with store.writing():
        store.write_record(replace(record, environments=named))

    assert "The left one" in render_run(run).read_text()
    assert known_names().display("left") == "left"
