"""The smoke suite as a user runs it: real environments, real upstream code, real comparisons."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from harness.records import PairRow, ParityRow, Phase, StepRow, TrialRow
from harness.store.run import open_run
from tests.command import fdbench

pytestmark = pytest.mark.real


def test_smoke_suite_passes_and_says_so(smoke_run):
    """Exit code 0, both verdicts, the latency table and the report's path are printed."""
    assert smoke_run.code == 0, smoke_run.text
    assert "pass         wan21-t2v-1.3b-480p/cpu/diffusers" in smoke_run.text
    assert "pass         self-forcing-wan2.1-t2v-1.3b-taehv/cpu/fastvideo" in smoke_run.text
    assert "Upstream (ms)" in smoke_run.text
    assert str(smoke_run.folder / "report" / "index.html") in smoke_run.text


def test_progress_names_pair_side_and_step(smoke_run):
    """In a pipe, plain lines say which pair and side runs, which AR step of how many, time left."""
    assert (
        "self-forcing-wan2.1-t2v-1.3b-taehv/cpu/fastvideo: candidate flashdreams" in smoke_run.text
    )
    assert "  AR 4 (5 of 5), " in smoke_run.text
    assert "left" in smoke_run.text


def test_fastvideos_release_makes_the_same_bidirectional_video(tmp_path):
    """The pair that the per-step suite runs at full size, on this CPU."""
    suite = tmp_path / "release.toml"
    suite.write_text(
        """
        description = "FastVideo's release, bidirectional"
        size = "tiny"
        [[cells]]
        recipe = "wan21-t2v-1.3b-480p"
        baseline = "fastvideo"
        settings = { denoising_steps = 5, decoder = "none" }
        floor = ["flashdreams", "flashdreams{dtype=float32}"]
        limit = 2.0
        limit_origin = "twice the bfloat16 error of FlashDreams against its float32, same run"
        controls = ["flashdreams{weights_seed=1}"]
        """
    )
    done = fdbench("run", "--suite", suite, "--gpu", "cpu", "--out", tmp_path / "run")

    assert done.code == 0, done.text
    assert "pass         wan21-t2v-1.3b-480p/cpu/fastvideo" in done.text


def test_every_step_is_stored_with_its_log_line(smoke_run):
    """Each row of the step table points at the bytes of the log line it came from."""
    run = open_run(smoke_run.folder)
    steps = run.read_rows(StepRow)
    assert len(steps) == 5 * 1 + 5 * 5
    for step in steps:
        log = (smoke_run.folder / "logs" / step.trial_id / "log.txt").read_bytes()
        line = log[step.byte_start : step.byte_end].decode()
        assert f"AR {step.ar} " in line
        assert f"total {step.total_ms:.3f} ms" in line


def test_self_forcing_rolls_its_window(smoke_run):
    """The tiny window of six frames is full from AR 2 on, so three of five steps are steady."""
    steps = open_run(smoke_run.folder).read_rows(StepRow)
    phases = {step.ar: step.phase for step in steps if "fastvideo" in step.cell_id}
    assert [phases[ar] for ar in range(5)] == [Phase.FILLING] * 2 + [Phase.STEADY] * 3


def test_parity_is_judged_at_every_step_against_a_measured_floor(smoke_run):
    """Every AR step of every candidate process has an error and a floor, and stays within 2x."""
    rows = open_run(smoke_run.folder).read_rows(ParityRow)
    for cell, ar_steps in (("wan21", 1), ("self-forcing", 5)):
        own = [row for row in rows if row.cell_id.startswith(cell)]
        floors = {row.ar: row.relative_l2 for row in own if row.comparison == "floor"}
        errors = [row for row in own if row.comparison == "pair"]
        assert sorted(floors) == list(range(ar_steps))
        assert len(errors) == 2 * ar_steps
        assert all(0 < row.relative_l2 <= 2 * floors[row.ar] for row in errors)
        # Every candidate against one and the same reference, the first.
        assert {row.reference_trial.rpartition(".")[2] for row in errors} == {"0"}
        assert {row.candidate_trial.rpartition(".")[2] for row in errors} == {"0", "1"}


def test_both_sides_ran_the_same_bytes_and_settings(smoke_run):
    """Weights, noise, torch and every other matched setting agree; no difference is recorded."""
    run = open_run(smoke_run.folder)
    for pair in run.read_rows(PairRow):
        assert json.loads(pair.settings_differences) == []
        sides = [
            json.loads(trial.settings)
            for trial in run.read_rows(TrialRow)
            if trial.cell_id == pair.cell_id and trial.role != "floor"
        ]
        assert len({side["weights_sha256"] for side in sides}) == 1
        assert len({side["noise_sha256"] for side in sides}) == 1
        assert all(side["num_parameters"] > 1_000_000 for side in sides)


def test_the_same_side_repeats_to_the_bit(smoke_run):
    """Two processes of one side write identical latents: what differs across sides is the sides."""
    captures = smoke_run.folder / "captures"
    first = sorted(captures.glob("*candidate.flashdreams.0/*.safetensors"))
    assert len(first) == 1 + 5
    for path in first:
        twin = captures / path.parent.name.replace("flashdreams.0", "flashdreams.1") / path.name
        assert path.read_bytes() == twin.read_bytes()


def test_tables_open_without_fdbench(smoke_run):
    """Any Parquet reader opens the tables, and the columns carry units."""
    table = pq.read_table(smoke_run.folder / "trials")
    assert table.num_rows == 10
    assert table.schema.field("wall_s").metadata[b"unit"] == b"s"


def test_check_repeats_the_verdict_and_finds_tampering(smoke_run, tmp_path):
    """``check`` exits 0 on the run as it is, and 7 once a single byte of a log is altered."""
    copy = tmp_path / "run"
    shutil.copytree(smoke_run.folder, copy)
    assert fdbench("check", copy).code == 0

    log = next(copy.glob("logs/*candidate*/log.txt"))
    log.write_bytes(log.read_bytes().replace(b"diffuse", b"diffusE", 1))

    checked = fdbench("check", copy)
    assert checked.code == 7
    assert "log.txt was altered after the run" in checked.text


def test_check_answers_a_script(smoke_run):
    """``check --json`` has the exit code and each cell's verdict."""
    answer = json.loads(fdbench("check", smoke_run.folder, "--json").text)

    assert (answer["exit_code"], answer["meaning"]) == (0, "pass")
    assert [cell["verdict"] for cell in answer["cells"].values()] == ["pass", "pass"]


def test_report_renders_again_byte_for_byte(smoke_run):
    """A second rendering of a stored run gives the same page."""
    page = smoke_run.folder / "report" / "index.html"
    before = page.read_bytes()
    assert fdbench("report", smoke_run.folder).code == 0
    assert page.read_bytes() == before
