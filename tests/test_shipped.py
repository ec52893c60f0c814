"""FlashDreams' own integrations, pinned and as shipped, as one side of a comparison."""

import json
import subprocess

import pytest

from harness.environments.built import build_environment
from harness.environments.declared import load_environments
from harness.records import PairRow, ParityRow, TrialRow
from harness.store.run import open_run
from tests.command import fdbench
from tests.conftest import require_source

pytestmark = pytest.mark.real

NAME = "flashdreams_integrations"
SUITE = """
description = "FlashDreams as shipped against this project's runner"
size = "tiny"
[[cells]]
recipe = "{slug}"
baseline = "as-shipped"
candidate = "flashdreams_integrations"
reference = "flashdreams"
settings = {{ dtype = "float32", decoder = "none", {settings} }}
floor = ["flashdreams", "flashdreams{{dtype=bfloat16}}"]
limit = 0.001
limit_origin = "one configuration, written down twice: a thousandth of its bfloat16 error"
"""


@pytest.fixture(scope="module")
def integrations():
    """The environment of the integrations; skips where their source cannot be had."""
    require_source(NAME)
    return build_environment(NAME, print)


def compare(tmp_path, slug, settings):
    """A finished run of one slug, as shipped against ours."""
    suite = tmp_path / "shipped.toml"
    suite.write_text(SUITE.format(slug=slug, settings=settings))
    done = fdbench("run", "--suite", suite, "--gpu", "cpu", "--out", tmp_path / "run")
    assert done.code == 0, done.text
    return open_run(tmp_path / "run")


def test_shipped_configuration_makes_the_same_latents(integrations, tmp_path):
    """Step for step the same numbers, from a configuration that this project did not write."""
    run = compare(tmp_path, "self-forcing-wan2.1-t2v-1.3b-taehv", "ar_steps = 4")
    apart = {
        row.ar: row.relative_l2 for row in run.read_rows(ParityRow) if row.comparison == "pair"
    }
    told = {row.side: json.loads(row.facts) for row in run.read_rows(TrialRow)}
    facts = told[NAME]
    (pair,) = run.read_rows(PairRow)

    assert sorted(apart) == [0, 1, 2, 3]
    assert max(apart.values()) <= 1e-7
    assert pair.settings_differences == "[]"
    assert facts["integrations_commit"] == load_environments()[NAME].source.commit
    assert facts["integrations_configuration"].startswith("self_forcing.runner.")
    assert facts["stand_ins"] == "cv2, mediapy"
    assert len({one["flashdreams_record_sha256"] for one in told.values()}) == 1


def test_every_slug_that_is_declared_is_shipped(integrations):
    """Recipes that the environment drives, and slugs of its own, are registered by integrations."""
    code = "import json, os, pathlib, runners.shipped as s;"
    code += "print(json.dumps(s.places(pathlib.Path(os.environ['FDBENCH_SOURCE']))))"
    done = subprocess.run(
        [str(integrations.folder / "bin" / "python"), "-c", code],
        env=integrations.variables(),
        capture_output=True,
        text=True,
        check=True,
    )
    shipped = json.loads(done.stdout)

    assert set(integrations.declared.recipes) <= set(shipped)
    assert integrations.declared.slugs.items() <= shipped.items()


def test_unknown_slug_is_refused_with_what_there_is(integrations, tmp_path):
    """Instead of a pipeline of something else."""
    done = subprocess.run(
        [*integrations.command("self-forcing", tmp_path / "job.json")],
        env=integrations.variables(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "registers no 'self-forcing'; it has causal-forcing" in done.stderr
