"""One thing spoiled on one side: every such run ends with its code and names what differs.

What a setting shows is stopped at the settings comparison (4). What none shows is found in the
outputs (3) or in evidence that contradicts itself (7). Adapters are spoiled in a copy.
"""

from pathlib import Path

import pytest

from tests.command import Finished, fdbench

pytestmark = pytest.mark.real

WAN = """
[[cells]]
recipe = "wan21-t2v-1.3b-480p"
baseline = "diffusers"
candidate = "{candidate}"
settings = {{ dtype = "float32", denoising_steps = 5, decoder = "none" }}
floor = ["diffusers", "diffusers{{dtype=float64}}"]
limit = 2.0
limit_origin = "as in the smoke suite"
"""

SELF_FORCING = """
[[cells]]
recipe = "self-forcing-wan2.1-t2v-1.3b-taehv"
baseline = "fastvideo"
candidate = "{candidate}"
settings = {{ ar_steps = 4, decoder = "none" }}
floor = ["flashdreams", "flashdreams{{dtype=float32}}"]
limit = 2.0
limit_origin = "as in the smoke suite"
"""

EXPECTED = """
[[cells.expected_differences]]
setting = "timestep_rounding"
reason = "the library as shipped is what this cell is about"
evidence = "docs/METHODOLOGY.md"
"""


def run_cell(
    tmp_path: Path, cell: str, candidate: str = "flashdreams", **options: Path
) -> Finished:
    """Run a suite of one cell, one process a side."""
    suite = tmp_path / "spoiled.toml"
    head = 'description = "spoiled"\nsize = "tiny"\n'
    suite.write_text(head + cell.format(candidate=candidate))
    flags = [word for name, path in options.items() for word in (f"--{name}", path)]
    folder = tmp_path / "run"
    return fdbench("run", "--suite", suite, "--gpu", "cpu", "--out", folder, *flags, folder=folder)


def spoil(environments_dir: Path, name: str, old: str, new: str) -> None:
    """Replace one place of an adapter or of what adapters share; fails if the place is gone."""
    path = environments_dir / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("cell", "candidate", "named"),
    [
        pytest.param(WAN, "flashdreams{seed=43}", "noise_sha256", id="seed"),
        pytest.param(WAN, "flashdreams{shift=7.0}", "; timesteps: [999, ", id="shift"),
        pytest.param(
            SELF_FORCING,
            "flashdreams{denoising_timesteps=[1000,750,500,249]}",
            "timesteps: [1000, 960, 888.889, 726.",
            id="one-timestep",
        ),
        pytest.param(
            SELF_FORCING, "flashdreams{ar_steps=3}", "ar_steps: 3 against 4", id="one-ar-step-fewer"
        ),
        pytest.param(
            SELF_FORCING,
            "flashdreams{timestep_rounding=as_shipped}",
            "timestep_rounding: as_shipped against none",
            id="library-as-shipped",
        ),
    ],
)
def test_a_visible_difference_stops_at_the_settings(tmp_path, cell, candidate, named):
    """Nothing is compared once the settings of the first two trials differ: exit code 4."""
    finished = run_cell(tmp_path, cell, candidate)

    assert finished.code == 4, finished.text
    assert "settings differ, so nothing was compared" in finished.text
    assert named in finished.text
    assert len(list((finished.folder / "logs").iterdir())) == 2


def test_the_library_as_shipped_fails_parity(tmp_path):
    """Where the rounding of timesteps is an expected difference, the outputs tell: exit code 3."""
    candidate = "flashdreams{timestep_rounding=as_shipped}"
    finished = run_cell(tmp_path, SELF_FORCING + EXPECTED, candidate)

    assert finished.code == 3, finished.text
    assert "outputs differ from AR 0 on" in finished.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            "    return transformer\n",
            "    transformer.blocks[1].ffn.net[2].weight.data[7, 11] += 0.5\n"
            "    return transformer\n",
            id="one-weight",
        ),
        pytest.param(
            "            return forward(*args, **kwargs)\n",
            "            if calls == 6:\n"
            '                kwargs["timestep"] = kwargs["timestep"] + 1\n'
            "            return forward(*args, **kwargs)\n",
            id="one-timestep",
        ),
    ],
)
def test_a_hidden_difference_fails_parity(tmp_path, environments_dir, old, new):
    """One weight or one timestep off by one, which no setting shows, is found in the outputs."""
    spoil(environments_dir, "diffusers/adapter.py", old, new)

    finished = run_cell(tmp_path, WAN, envs=environments_dir)

    assert finished.code == 3, finished.text
    assert "outputs differ from AR 0 on" in finished.text


def test_the_first_ar_step_that_differs_is_named(tmp_path, environments_dir):
    """Noise of another seed from AR 2 on, which no setting shows, is blamed on AR 2."""
    old = "noise = self.bank.tensor(self._calls.ar, self._calls.step + 1)\n"
    new = old + "        noise = noise.flip(0) if self._calls.ar >= 2 else noise\n"
    spoil(environments_dir, "fastvideo_causal.py", old, new)

    finished = run_cell(tmp_path, SELF_FORCING, envs=environments_dir)

    assert finished.code == 3, finished.text
    assert "outputs differ from AR 2 on" in finished.text


END_STEP = "self.recorder.end(self.ar, latents_TCHW, print_line=True, frames=frames)"


@pytest.mark.parametrize(
    ("new", "code", "named"),
    [
        pytest.param(
            f"{END_STEP} if self.ar != 2 else None", 4, "AR 2 is missing: ran 3 of 4", id="step"
        ),
        pytest.param(END_STEP.replace("True", "self.ar != 2"), 7, "AR 2 is missing", id="log-line"),
    ],
)
def test_a_missing_ar_step_is_named(tmp_path, environments_dir, new, code, named):
    """A step that was not run leaves the cell incomplete; one that the log hides is no evidence."""
    spoil(environments_dir, "call_plan.py", END_STEP, new)

    finished = run_cell(tmp_path, SELF_FORCING, envs=environments_dir)

    assert finished.code == code, finished.text
    assert named in finished.text


def test_a_side_that_does_not_do_its_job_proves_nothing(tmp_path, environments_dir):
    """Both sides may agree, but settings that are not the job's are contradictory evidence."""
    spoil(
        environments_dir,
        "diffusers/adapter.py",
        "guidance=self.guidance,\n            len_t",
        "guidance=5.0,\n            len_t",
    )

    finished = run_cell(tmp_path, WAN, envs=environments_dir)

    assert finished.code == 7, finished.text
    assert "guidance: 5 against 6" in finished.text
