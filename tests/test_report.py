"""The report shows what a run left, says what is missing, and makes no number of its own."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.records import PairRow, ParityRow, Phase, Role, StepRow, TrialRow, Verdict
from harness.store.run import Store, create_run
from harness.store.run_record import RunRecord, RunState
from reports.latency import latency_rows
from reports.render import render_run
from tests.fakes.stored import environment, record, write_rows

pytestmark = pytest.mark.unit

RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
CELL = f"{RECIPE}/h100/official"
UPSTREAM_MS, FLASHDREAMS_MS, FLOOR = 432.0, 344.0, 0.01
"""The seed's example: 432 ms against 344 ms is +26%."""

NASTY = "<script>alert(1)</script> | `tick`\nnext [x](http://evil.example) *bold* $x$"


def run_record(**changes) -> RunRecord:
    """``run.json`` of a full-size run with real weights on an H100."""
    full = {"suite": "per-step", "device": "h100", "size": "full", "weights": "real"}
    return record(**(full | {"cells": (CELL,)} | changes))


def pair_row(**changes) -> PairRow:
    """The verdict of a cell that passes."""
    row = PairRow(
        cell_id=CELL,
        recipe=RECIPE,
        device="h100",
        baseline="official",
        candidate="flashdreams",
        reference="official",
        floor="official against official{dtype=float16}",
        documented_ar_steps=7,
        limit=2.0,
        limit_origin="twice the bfloat16 error",
        verdict=Verdict.PASS,
        exit_code=ExitCode.PASS,
        reason="every AR step within 2x its noise floor; worst 1.20x",
        settings_differences="[]",
    )
    return replace(row, **changes)


def trial_row(role: Role, side: str, process: int = 0, **changes) -> TrialRow:
    """A completed trial."""
    row = TrialRow(
        trial_id=f"{CELL.replace('/', '.')}.{role}.{side}.{process}",
        cell_id=CELL,
        role=role,
        side=side,
        process=process,
        outcome="completed",
        reason="",
        invalid="",
        exit_status=0,
        marks="",
        wall_s=61.5,
        first_step_s=15.2,
        sm_mhz=1980.0,
        power_w=640.0,
        temperature_c=61.0,
        energy_j=9000.0,
        ar_steps=4,
        environment_digest="e1" * 32,
        code_digest="5b" * 32,
        log_sha256="ab" * 32,
        settings=json.dumps({"dtype": "bfloat16", "seed": 42, "sigmas": [1.0, 0.5]}),
        facts=json.dumps({side: "0.1.0"}),
    )
    return replace(row, **changes)


def step_row(trial: TrialRow, ar: int, diffuse_ms: float) -> StepRow:
    """One AR step of a trial; the window is full from AR 2 on."""
    decode = {"decode": 6.65} if trial.role == Role.CANDIDATE else {}
    return StepRow(
        ar=ar,
        rank=0,
        stages_ms={"diffuse": diffuse_ms, **decode},
        total_wo_finalize_ms=diffuse_ms,
        total_ms=diffuse_ms,
        memory_peak_gib=None,
        byte_start=0,
        byte_end=10,
        trial_id=trial.trial_id,
        cell_id=CELL,
        role=trial.role,
        side=trial.side,
        process=trial.process,
        phase=Phase.FILLING if ar < 2 else Phase.STEADY,
        denoise_ms=(diffuse_ms / 2, diffuse_ms / 2),
        clock_total_ms=diffuse_ms,
        wall_ms=diffuse_ms + 0.3,
        kernels="",
    )


def parity_row(comparison: str, ar: int, relative_l2: float, process: int = 0) -> ParityRow:
    """Distance at one AR step."""
    return ParityRow(
        cell_id=CELL,
        comparison=comparison,
        candidate_trial=f"candidate.{process}",
        reference_trial="reference.0",
        ar=ar,
        relative_l2=relative_l2,
        max_abs=0.05,
        cosine=0.9999,
        reference_std=1.28,
        candidate_std=1.27,
    )


def parity_rows(errors: list[float]) -> list[ParityRow]:
    """Floor and error of AR steps 0, 1, ... for one candidate process."""
    pairs = [parity_row("pair", ar, error) for ar, error in enumerate(errors)]
    return pairs + [parity_row("floor", ar, FLOOR) for ar in range(len(errors))]


TRIALS = (trial_row(Role.REFERENCE, "official"), trial_row(Role.CANDIDATE, "flashdreams"))


def make_run(folder: Path, *, run=None, pair=None, trials=TRIALS, parity=(), steps=None) -> Store:
    """A stored run; ``steps`` default to four AR steps for each trial."""
    made = create_run(folder)
    made.write_record(run or run_record())
    write_rows(made, [pair] if pair else [], PairRow)
    write_rows(made, trials, TrialRow)
    times = {Role.REFERENCE: UPSTREAM_MS, Role.CANDIDATE: FLASHDREAMS_MS}
    for trial in trials:
        rows = [step_row(trial, ar, times[trial.role]) for ar in range(4)]
        made.write_rows(rows if steps is None else steps, StepRow, part=trial.trial_id)
    write_rows(made, parity, ParityRow)
    return made


def passing_run(folder: Path, **changes) -> Store:
    """A run whose only cell passes."""
    return make_run(folder, pair=pair_row(), parity=parity_rows([0.012] * 4), **changes)


def rendered(made: Store) -> tuple[str, str]:
    """HTML and Markdown of a run."""
    page = render_run(made.folder)
    return page.read_text("utf-8"), page.with_name("report.md").read_text("utf-8")


def words(page: str) -> str:
    """The page's text as a reader sees it, drawings left out."""
    without = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(without).split())


@pytest.mark.slow
def test_passing_run_answers_first_and_shows_the_seed_row(tmp_path):
    """The answer, the seed's latency row and the parity ratios are all on the page."""
    html, markdown = rendered(passing_run(tmp_path / "run"))

    text = words(html)
    assert f"{RECIPE} makes the same output as its baseline, within 2x the noise floor." in text
    assert "432 344 +26% Official runner diffuse, median from AR 2 AR 2–3, 1 / 1 processes" in text
    assert "Speedup = (upstream − FlashDreams) ÷ FlashDreams" in text
    assert "1 process a side there is no interval" in text
    assert "1.20e-02 1.00e-02 1.20x 2.00x" in text
    assert "fdbench run --suite per-step --gpu h100" in text
    assert f"| {RECIPE} | H100 | 432 | 344 | +26% | Official runner |" in markdown
    assert html.count('<svg role="img"') == 4


@pytest.mark.slow
def test_failed_parity_names_the_step_and_withholds_the_speedup(tmp_path):
    """A speed-up between different outputs is no speed-up; the times themselves stay."""
    pair = pair_row(verdict=Verdict.FAIL, exit_code=ExitCode.PARITY, reason="outputs differ")
    made = make_run(tmp_path / "run", pair=pair, parity=parity_rows([0.012, 0.12, 0.12, 0.12]))

    text = words(rendered(made)[0])
    assert "FlashDreams' output differs from its baseline's in the only comparison." in text
    assert "12.00x at AR 1" in text
    assert "outside" in text
    assert "432 344 – outputs differ" in text
    assert "+26%" not in text
    assert all(row.speedup_percent is None for row in latency_rows(made))


@pytest.mark.slow
def test_worst_candidate_process_is_shown(tmp_path):
    """A second process that is worse is not averaged away or hidden by the first."""
    parity = [parity_row("pair", 0, error, process) for process, error in enumerate([0.011, 0.019])]
    parity[0] = replace(parity[0], cosine=0.5)
    made = make_run(
        tmp_path / "run", pair=pair_row(), parity=[*parity, parity_row("floor", 0, FLOOR)]
    )

    text = words(rendered(made)[0])
    assert "2 candidate processes" in text
    assert "1.90e-02 1.00e-02 1.90x" in text
    assert "1.10e-02" not in text
    assert "0.500000" in text  # the worst cosine, whichever process has it


@pytest.mark.slow
def test_mismatched_settings_are_marked_and_expected_ones_explained(tmp_path):
    """An unexpected difference is marked, an expected one carries its reason."""
    other = json.dumps({"dtype": "float16", "seed": 42, "sigmas": [1.0, 0.25]})
    listed = [
        ["dtype", "float16", "bfloat16", ""],
        ["sigmas", "(1.0, 0.25)", "(1.0, 0.5)", "upstream rounds"],
    ]
    pair = pair_row(
        verdict=Verdict.INCOMPLETE,
        exit_code=ExitCode.INCOMPLETE,
        reason="settings differ, so nothing was compared: dtype: float16 against bfloat16",
        settings_differences=json.dumps(listed),
    )
    trials = (TRIALS[0], replace(TRIALS[1], settings=other))

    text = words(rendered(make_run(tmp_path / "run", pair=pair, trials=trials))[0])
    assert "Not proven: the only comparison came to no verdict." in text
    assert "3 matched settings, 2 on which upstream and FlashDreams differ" in text
    assert "dtype bfloat16 float16 differs" in text
    assert "differ as expected: upstream rounds" in text
    assert f"No output of {CELL} was compared." in text
    assert "+26%" not in text


@pytest.mark.slow
def test_interrupted_run_without_trials_shows_no_number(tmp_path):
    """Nothing was measured, so every planned cell is incomplete and no figure appears."""
    run = run_record(
        state=RunState.INTERRUPTED, unsupported=(("big/h100/official", "needs 4 GPUs"),)
    )
    html, markdown = rendered(make_run(tmp_path / "run", run=run, trials=()))

    text = words(html)
    assert "This run was interrupted." in text
    assert "pass 0 fail 0 incomplete 1 of 1 planned" in text
    assert "no trial was run" in text
    assert "no AR step was timed 0 / 0" in text
    assert "big/h100/official : needs 4 GPUs" in text
    assert '<svg role="img"' not in html
    assert not re.search(r"\d (ms|x)\b|[+-]\d+%", text)
    assert "no trial was run" in markdown


@pytest.mark.slow
def test_cells_that_were_not_chosen_are_named(tmp_path):
    """A cell of the suite that is not in the run is missing for a reason that both pages give."""
    other = "causal-forcing-wan2.1-t2v-1.3b-framewise/h100/official"
    html, markdown = rendered(make_run(tmp_path / "run", run=run_record(not_chosen=(other,))))

    assert (
        f"not run yet by choice ( fdbench run --into RUN --only CELL adds one): {other}"
        in words(html)
    )
    assert f"* Not run yet, by choice: {other}" in markdown
    assert "of 1 planned, 1 more in the suite" in words(html)
    assert "of 1 planned, 1 more in the suite" in markdown
    assert "To run the whole suite:" in markdown


@pytest.mark.slow
def test_nan_parity_is_shown_as_nan_and_is_the_worst(tmp_path):
    """NaN is neither hidden nor outdone by a finite ratio."""
    pair = pair_row(verdict=Verdict.FAIL, exit_code=ExitCode.PARITY, reason="NaN")
    errors = [0.012, 0.5, float("nan"), 0.012]
    html, markdown = rendered(make_run(tmp_path / "run", pair=pair, parity=parity_rows(errors)))

    assert "NaN at AR 2" in words(html)
    assert re.search(r"\| 2 \| NaN \| 1\.00e-02 \| NaN \|.* outside \|", markdown)


@pytest.mark.slow
def test_unjudged_cell_shows_its_trials_and_no_speedup(tmp_path):
    """A run that died between trials and verdict is told as such."""
    text = words(rendered(make_run(tmp_path / "run", run=run_record(state=RunState.RUNNING)))[0])

    assert "had not ended when this page was made" in text
    assert "the run ended before the cell was judged; trials run: 2" in text
    assert "432 344 – no verdict" in text


def test_steady_figure_covers_only_steps_that_are_steady_on_both_sides(tmp_path):
    """A graph capture on one side takes that AR step out of both sides' medians."""
    capture = [replace(step_row(TRIALS[1], 2, 900.0), phase=Phase.CAPTURE)]
    capture += [step_row(TRIALS[1], ar, FLASHDREAMS_MS) for ar in (3, 4)]
    other = [step_row(TRIALS[0], ar, ms) for ar, ms in ((2, 999.0), (3, 432.0), (4, 432.0))]
    made = make_run(tmp_path / "run", pair=pair_row(), steps=())
    made.write_rows(other, StepRow, part=TRIALS[0].trial_id)
    made.write_rows(capture, StepRow, part=TRIALS[1].trial_id)

    steady = latency_rows(made)[1]
    assert steady.window == "AR 3–4"
    assert (steady.upstream_ms, steady.flashdreams_ms) == (UPSTREAM_MS, FLASHDREAMS_MS)


@pytest.mark.slow
def test_times_of_failed_and_invalid_trials_are_left_out(tmp_path):
    """A trial that crashed, or whose evidence contradicts itself, gives no figure."""
    trials = (
        replace(TRIALS[0], outcome="oom", reason="out of memory at AR 3"),
        replace(TRIALS[1], invalid="AR 2 is in the log and not in the events"),
    )
    pair = pair_row(
        verdict=Verdict.INCOMPLETE, exit_code=ExitCode.INTEGRITY, reason="contradiction"
    )
    made = make_run(tmp_path / "run", pair=pair, trials=trials)

    text = words(rendered(made)[0])
    assert "Evidence of the only comparison contradicts itself" in text
    assert "out of memory at AR 3" in text
    assert "invalid: AR 2 is in the log" in text
    assert latency_rows(made)[0].processes == (0, 0)
    assert "432" not in text


def test_altered_file_is_told_before_any_verdict(tmp_path):
    """A page made from altered files does not say pass without saying so."""
    made = passing_run(tmp_path / "run")
    name = f"trials/{TRIALS[0].trial_id}.parquet"
    (made.folder / name).write_bytes(b"not parquet")

    text = words(rendered(made)[0])
    assert "missing, altered or unreadable: nothing may be concluded" in text
    assert f"{name} was altered after the run" in text
    assert "not a readable Parquet file" in text
    assert "makes the same output" not in text


@pytest.mark.slow
def test_text_from_logs_and_sides_is_escaped(tmp_path):
    """Markup in a reason, a side, a setting or a fact stays text in both formats."""
    side = f"official{{note={NASTY}}}"
    trials = (
        replace(
            TRIALS[0],
            side=side,
            reason=NASTY,
            settings=json.dumps({NASTY: NASTY}),
            facts=json.dumps({NASTY: NASTY}),
        ),
        replace(TRIALS[1], settings="[1]", facts="{broken"),
    )
    pair = pair_row(
        reason=NASTY, limit_origin=NASTY, reference=side, settings_differences="{broken"
    )
    run = run_record(description=NASTY, suite=NASTY)
    made = make_run(
        tmp_path / "run", run=run, pair=pair, trials=trials, parity=parity_rows([0.012] * 4)
    )

    html, markdown = rendered(made)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | `tick`" in html
    assert "<script" not in markdown.split("```")[0]
    assert r"&lt;script&gt;alert(1)&lt;/script&gt; \| \`tick\` next \[x\](http" in markdown
    assert "](http" not in markdown.split("```")[0].replace(r"\](http", "")


@pytest.mark.slow
def test_markdown_tables_have_no_empty_cell_and_equal_columns(tmp_path):
    """An empty or extra cell would shift a column under another heading."""
    pair = pair_row(reason=f"a | b {NASTY}", limit_origin="")
    made = make_run(tmp_path / "run", pair=pair, parity=[parity_row("pair", 0, 0.012)])

    tables = re.findall(r"(?:^\|.*\n)+", rendered(made)[1], flags=re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in table.splitlines()]
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(cell.strip() for row in rows for cell in row)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        pytest.param({}, "", id="real"),
        pytest.param(
            {"weights": "synthetic"}, "Synthetic weights: seeded values", id="synthetic on a GPU"
        ),
        pytest.param(
            {"weights": "synthetic", "size": "tiny", "device": "cpu"},
            "Synthetic weights, tiny models and a CPU: these times mean nothing.",
            id="first light",
        ),
    ],
)
def test_notice_says_only_what_is_true_of_the_run(tmp_path, changes, notice):
    """The caveat follows size, weights and device, and is absent where there is none."""
    text = words(rendered(passing_run(tmp_path / "run", run=run_record(**changes)))[0])

    assert notice in text
    assert ("Synthetic weights" in text) == bool(notice)
    assert ("times mean nothing" in text) == ("CPU" in notice)


@pytest.mark.slow
def test_packages_are_shown_as_they_were_installed(tmp_path):
    """A host's own PyTorch is what ran, whatever the declaration says."""
    ran_in = environment(
        packages=("torch==2.13.0", "imageio[ffmpeg]==2.38.1", "flashdreams==0.1.0"),
        installed=("ImageIO==2.38.1", "torch==2.11.0", "numpy==2.5.2"),
    )
    run = run_record(environments={"flashdreams": ran_in})
    page, markdown = rendered(make_run(tmp_path / "run", run=run))

    for text in (page, markdown.replace("\\", "")):
        assert "torch==2.11.0 (2.13.0 declared)" in text
        assert "imageio[ffmpeg]==2.38.1" in text
        assert "2.38.1 declared" not in text
        assert "flashdreams==0.1.0" in text
