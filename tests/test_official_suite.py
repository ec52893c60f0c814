"""The official upstream runners at tiny size: pinned sources, unpatched loops, real comparisons.

Needs the upstream repositories, from their addresses or from ``FDBENCH_SOURCES``; skips without.
"""

import json

import pytest

from harness.environments.declared import load_environments
from harness.plan.suites import load_suite
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store.run import open_run
from tests.conftest import require_source
from tests.test_spoiled_runs import run_cell, spoil

pytestmark = pytest.mark.real

SELF_FORCING = """
[[cells]]
recipe = "self-forcing-wan2.1-t2v-1.3b-taehv"
baseline = "official"
settings = {{ ar_steps = 4, decoder = "none", dtype = "float32" }}
floor = ["official", "official{{dtype=float64}}"]
limit = 2.0
limit_origin = "as in the official suite"
"""

FROM_IMAGE = """
[[cells]]
recipe = "wan21-i2v-14b-480p"
baseline = "official"
settings = {{ dtype = "float32", denoising_steps = 5, decoder = "none" }}
floor = ["flashdreams", "flashdreams{{dtype=float64}}"]
limit = 2.0
limit_origin = "as in the official suite"
"""


def test_official_suite_passes(official_run):
    """Every cell is judged and passes."""
    _, suite = load_suite("official")

    assert official_run.code == 0, official_run.text
    assert len(open_run(official_run.folder).read_rows(PairRow)) == len(suite.cells)


def test_errors_are_of_the_size_of_the_precision(official_run):
    """In float32 the two implementations agree to 1e-5; in bfloat16 to its rounding."""
    run = open_run(official_run.folder)
    dtypes = {
        trial.cell_id: json.loads(trial.settings)["dtype"]
        for trial in run.read_rows(TrialRow)
        if trial.role == "candidate"
    }
    errors = [row for row in run.read_rows(ParityRow) if row.comparison == "pair"]

    assert {dtypes[row.cell_id] for row in errors} >= {"float32", "bfloat16"}
    for row in errors:
        low, high = (1e-8, 1e-5) if dtypes[row.cell_id] == "float32" else (1e-4, 4e-2)
        # A decoder adds its own rounding to that of the latents.
        assert low < row.relative_l2 < high * (1 + row.is_of_frames), (row.cell_id, row.ar)


def test_decoded_frames_are_compared(official_run):
    """Both decoders: a stage of both sides, frames that follow the latents, alike to the eye."""
    run = open_run(official_run.folder)
    decoders = {
        trial.trial_id: json.loads(trial.settings)["decoder"]
        for trial in run.read_rows(TrialRow)
        if trial.role in ("candidate", "reference")
    }
    frames = [row for row in run.read_rows(ParityRow) if row.is_of_frames]
    pairs = [row for row in frames if row.comparison == "pair"]

    assert {decoders[row.candidate_trial] for row in pairs} == {"wan_vae", "taehv"}
    assert all(row.psnr_db > 40 and row.ssim > 0.99 for row in pairs)
    # Neither black nor white, and of the spread that the weights are made for.
    assert all(0.1 < row.reference_std < 0.5 for row in frames)
    for step in run.read_rows(StepRow):
        if decoders.get(step.trial_id, "none") != "none":
            assert step.stages_ms["decode"] > 1.0, step.trial_id


DECODED = """
[[cells]]
recipe = "self-forcing-wan2.1-t2v-1.3b-taehv"
baseline = "official"
settings = {{ ar_steps = 2, decoder = "DECODER", dtype = "float32" }}
floor = ["official", "official{{dtype=float64}}"]
limit = 2.0
limit_origin = "as in the official suite"
"""


@pytest.mark.parametrize(
    ("decoder", "layer"), [("wan_vae", "decoder.conv1"), ("taehv", "decoder[8]")]
)
def test_spoiled_decoder_is_found_in_the_frames(tmp_path, environments_dir, decoder, layer):
    """One weight of a decoder, which no setting shows, leaves the latents alone."""
    require_source("self_forcing")
    old = "    return wan_network.fill(model, weights, dtype, job.decoder_weights.path)\n"
    new = old.replace("return", "filled =")
    new += f"    filled.{layer}.weight.data.flatten()[7] += 0.5\n    return filled\n"
    spoil(environments_dir, "causal_decoders.py", old, new)

    finished = run_cell(tmp_path, DECODED.replace("DECODER", decoder), envs=environments_dir)
    rows = open_run(finished.folder).read_rows(ParityRow)
    pairs = [row for row in rows if row.comparison == "pair"]

    assert finished.code == 3, finished.text
    assert "decoded frames differ from AR 0 on" in finished.text
    assert {row.relative_l2 < 1e-5 for row in pairs if not row.is_of_frames} == {True}
    assert {row.relative_l2 > 1e-4 for row in pairs if row.is_of_frames} == {True}


def test_run_records_the_source(official_run):
    """Address, commit and digest of what ran, and what stood in for modules never reached."""
    run = open_run(official_run.folder)
    described = run.read_record().environments["self_forcing"].source
    facts = [
        json.loads(trial.facts)
        for trial in run.read_rows(TrialRow)
        if trial.side.startswith("self_forcing")
    ]

    assert described.commit == "33593df3e81fa3ec10239271dd2c100facac6de1"
    assert described.url == "https://github.com/guandeh17/Self-Forcing"
    assert len(described.tree_sha256) == 64
    assert {fact["commit"] for fact in facts} == {described.commit}
    assert all("wan.modules.t5" in fact["inert"] for fact in facts)


@pytest.mark.parametrize(
    ("name", "old", "new", "code", "named"),
    [
        pytest.param(
            "causal_wan.py",
            "    return generator\n",
            "    generator.model.blocks[1].ffn[2].weight.data[7, 11] += 0.5\n"
            "    return generator\n",
            3,
            "outputs differ from AR 0 on",
            id="one-weight",
        ),
        pytest.param(
            "causal_wan.py",
            "        noise = self.bank.tensor(self._calls.ar, self._calls.step + 1)\n",
            "        noise = self.bank.tensor(min(self._calls.ar, 1), self._calls.step + 1)\n",
            3,
            "outputs differ from AR 2 on",
            id="noise-from-ar-2",
        ),
        pytest.param(
            "causal_wan.py",
            "context_noise=0,",
            "context_noise=0.5,",
            4,
            "AR 0 KV update: told",
            id="context-noise",
        ),
    ],
)
def test_spoiled_official_side_is_found(tmp_path, environments_dir, name, old, new, code, named):
    """What no setting shows ends in the outputs; a call that is not planned ends the trial."""
    require_source("self_forcing")
    spoil(environments_dir, name, old, new)

    finished = run_cell(tmp_path, SELF_FORCING, envs=environments_dir)

    assert finished.code == code, finished.text
    assert named in finished.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            "encode=lambda _pixels: [image_CTHW]",
            "encode=lambda _pixels: [image_CTHW.flip(1)]",
            id="latent",
        ),
        pytest.param(
            'visual=lambda _pixels: self._encoded["clip"][None]',
            'visual=lambda _pixels: self._encoded["clip"][None].flip(2)',
            id="clip",
        ),
    ],
)
def test_the_first_frame_matters(tmp_path, environments_dir, old, new):
    """Another encoded first frame or other CLIP tokens, which no setting shows, fail parity."""
    require_source("wan21")
    spoil(environments_dir, "wan21/adapter.py", old, new)

    finished = run_cell(tmp_path, FROM_IMAGE, envs=environments_dir)

    assert finished.code == 3, finished.text


def test_wrong_commit_is_refused_before_anything_runs(tmp_path, environments_dir):
    """Files other than the pinned commit's: exit code 5, and no run folder."""
    require_source("self_forcing")
    pinned = load_environments()["self_forcing"].source.tree_sha256
    spoil(environments_dir, "self_forcing/env.toml", pinned, "0" * 64)

    finished = run_cell(tmp_path, SELF_FORCING, envs=environments_dir)

    assert finished.code == 5, finished.text
    assert "altered source" in finished.text
    assert not finished.folder.exists()
