"""Decoded frames: how they are compared, judged, stored beside older runs, and shown."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from harness.errors import ExitCode, IntegrityFault
from harness.integrity.comparing import differ
from harness.judging.gates import judge
from harness.plan.cells import plan_suite
from harness.plan.suites import Suite, SuiteCell, load_devices, load_recipes
from harness.records import Driven, ParityRow, Role, Verdict
from harness.store import schema
from harness.trials.kernels import wrong_attention
from runners.protocol import wire
from tests import test_report
from tests.fakes import samples
from tests.test_parity import LATENTS, capture, compare_captures

pytestmark = pytest.mark.unit

GENERATOR = np.random.default_rng(1)
VIDEO = GENERATOR.uniform(-0.9, 0.9, (4, 3, 16, 16)).astype(np.float32)
TAEHV = "self-forcing-wan2.1-t2v-1.3b-taehv"
LABELS = {"cell_id": "c", "comparison": "pair", "candidate_trial": "l", "reference_trial": "r"}


def compare(tmp_path, left, right):
    """Rows of two sides, each a dict of output's name to array."""
    folders = (tmp_path / "left", tmp_path / "right")
    captures = []
    for folder, side in zip(folders, (left, right), strict=True):
        made = [capture(folder, array, name=name, said=name) for name, array in side.items()]
        captures.append(tuple(made))
    return compare_captures(folders, tuple(captures), LABELS)


@pytest.mark.slow
def test_the_worst_frame_counts(tmp_path):
    """One frame with noise of 0.02 in it: 40 dB over a range of 2, whatever the others are."""
    noisy = VIDEO.copy()
    noisy[2] += 0.02 * np.sign(GENERATOR.standard_normal(noisy[2].shape)).astype(np.float32)
    latents, frames = compare(
        tmp_path, {"latents": LATENTS, "frames": noisy}, {"latents": LATENTS, "frames": VIDEO}
    )

    assert (latents.capture, latents.psnr_db, latents.ssim) == ("latents", None, None)
    assert frames.capture == "frames"
    assert frames.psnr_db == pytest.approx(40.0, abs=0.01)
    assert 0.9 < frames.ssim < 0.9999
    assert latents.relative_l2 == 0 < frames.relative_l2


def test_equal_frames_have_no_noise(tmp_path):
    """Half precision on disk is compared like any other."""
    half = VIDEO.astype(np.float16)
    (row,) = compare(tmp_path, {"frames": half}, {"frames": half})

    assert (row.psnr_db, row.ssim, row.relative_l2) == (float("inf"), pytest.approx(1.0), 0.0)


def test_black_frame_is_never_alike(tmp_path):
    """A frame of NaN has no figure that could pass."""
    broken = VIDEO.copy()
    broken[1] = np.nan
    (row,) = compare(tmp_path, {"frames": broken}, {"frames": VIDEO})

    assert np.isnan([row.psnr_db, row.ssim, row.relative_l2]).all()


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        pytest.param(VIDEO, VIDEO[:3], "shapes differ", id="fewer-frames"),
        pytest.param(VIDEO[0], VIDEO[0], "no video's", id="picture"),
        pytest.param(VIDEO[:, :1], VIDEO[:, :1], "no video's", id="grey"),
        pytest.param(VIDEO[..., :4], VIDEO[..., :4], "no video's", id="too-narrow"),
        pytest.param(VIDEO[:0], VIDEO[:0], "has shape", id="none"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, left, right, said):
    """Frames of another shape are no evidence, as for latents."""
    with pytest.raises(IntegrityFault, match=f"AR 0.*{said}"):
        compare(tmp_path, {"frames": left}, {"frames": right})


def decoding_cell():
    """The sample cell with a decoder."""
    cell = samples.cell()
    trials = [replace(t, job=replace(t.job, decoder="taehv")) for t in cell.trials]
    return replace(cell, trials=tuple(trials))


def judged(rows):
    """The judgement of the decoding cell."""
    cell = decoding_cell()
    return judge(cell, [samples.trial_row(trial) for trial in cell.trials], (), rows)


def rows(**changes):
    """Latents as they should be, and frames of the same distances but for what changes."""
    latents = [replace(row, capture="latents") for row in samples.parity_rows()]
    frames = [replace(row, capture="frames", psnr_db=40.0, ssim=0.9) for row in latents]
    return latents + [
        replace(row, **changes) if row.comparison == "pair" else row for row in frames
    ]


def test_frames_within_the_limit_pass():
    """PSNR and SSIM are shown, and not judged."""
    assert judged(rows(psnr_db=1.0, ssim=0.0)).verdict == Verdict.PASS


@pytest.mark.parametrize("error", [0.021, float("nan")])
def test_frames_beyond_the_limit_fail(error):
    """Where latents agree, the message says that the frames do not."""
    judgement = judged(rows(relative_l2=error))

    assert judgement.code == ExitCode.PARITY
    assert judgement.reason.startswith("decoded frames differ from AR 0 on")


def test_frames_are_held_against_the_floor_of_frames():
    """A floor that is wider for frames excuses no latents, and the other way round."""
    wide = [
        replace(row, relative_l2=0.1) if row.comparison == "floor" and row.is_of_frames else row
        for row in rows(relative_l2=0.15)
    ]
    swapped = [replace(r, capture={"latents": "frames"}.get(r.capture, "latents")) for r in wide]

    assert judged(wide).verdict == Verdict.PASS
    assert judged(swapped).verdict == Verdict.PASS
    assert judged(rows(relative_l2=0.15)).code == ExitCode.PARITY


@pytest.mark.parametrize(
    "is_kept",
    [
        pytest.param(lambda row: not row.is_of_frames, id="no-frames"),
        pytest.param(lambda row: not row.is_of_frames or row.ar != 1, id="one-step"),
        pytest.param(lambda row: not row.is_of_frames or row.comparison != "floor", id="no-floor"),
        pytest.param(lambda row: row.is_of_frames, id="no-latents"),
    ],
)
def test_missing_frames_are_incomplete(is_kept):
    """A cell that decodes is not judged by its latents alone, nor by its frames alone."""
    judgement = judged([row for row in rows() if is_kept(row)])

    assert judgement.verdict == Verdict.INCOMPLETE


@pytest.mark.parametrize(
    ("latents", "frames", "verdict"),
    [
        pytest.param(1.0, 1.0, Verdict.PASS, id="both"),
        pytest.param(1.0, 0.02, Verdict.INCOMPLETE, id="latents-only"),
        pytest.param(0.02, 1.0, Verdict.INCOMPLETE, id="frames-only"),
        pytest.param(1.0, None, Verdict.INCOMPLETE, id="no-frames"),
    ],
)
def test_control_must_show_in_latents_and_frames(latents, frames, verdict):
    """A gate that frames of another model pass proves nothing about frames."""
    cell, control = decoding_cell(), samples.trial(Role.CONTROL, decoder="taehv", ar_steps=1)
    cell = replace(cell, trials=(*cell.trials, control))
    seen = [
        samples.parity_row(
            comparison="control",
            candidate_trial=control.trial_id,
            capture=name,
            relative_l2=error,
        )
        for name, error in (("latents", latents), ("frames", frames))
        if error is not None
    ]
    trials = [samples.trial_row(trial) for trial in cell.trials]

    assert judge(cell, trials, (), [*rows(), *seen]).verdict == verdict


def test_older_table_is_read_with_nulls(tmp_path):
    """Nullable columns that came later are null; without one that is not, a file is refused."""
    path, row = tmp_path / "parity.parquet", samples.parity_row()
    table = schema.to_table([row], ParityRow)
    older = table.drop_columns(["capture", "psnr_db", "ssim"])
    pq.write_table(older.replace_schema_metadata(table.schema.metadata), path)

    assert schema.to_rows(schema.read_table(path, ParityRow), ParityRow) == [row]
    assert not row.is_of_frames

    pq.write_table(table.drop_columns(["cosine"]), path)
    with pytest.raises(IntegrityFault, match="columns are not those"):
        schema.read_table(path, ParityRow)


def test_older_settings_are_the_same_settings():
    """A stored row without a later field is what its evidence shows; one that differs is not."""
    told = json.loads(wire.to_json(samples.settings()))
    derived = samples.trial_row(settings=json.dumps(told))
    del told["decoder_weights_sha256"]
    stored = replace(derived, settings=json.dumps(told))

    assert differ(stored, derived) == ""
    assert "settings" in differ(replace(stored, settings="{}"), derived)
    told["seed"] += 1
    assert "settings" in differ(replace(stored, settings=json.dumps(told)), derived)


@pytest.mark.parametrize(
    ("decoder", "others_ms", "is_wrong"),
    [("wan_vae", 5.0, False), ("wan_vae", 20.0, True), ("taehv", 5.0, True), ("none", 5.0, True)],
)
def test_only_a_decoders_own_attention_is_excused(decoder, others_ms, is_wrong):
    """A tenth of attention may be the Wan VAE's, which cuDNN has no kernel for."""
    kernels = {"cudnn_generated_fort_native_sdpa": 100.0, "fmha_cutlassF_bf16": others_ms}
    step = samples.step_row(kernels=json.dumps(kernels))

    assert bool(wrong_attention("cudnn", [step], decoder)) == is_wrong


@pytest.mark.parametrize("kernel", ["fmha_cutlassF_bf16", "gemm"])
def test_no_attention_but_the_decoders_is_wrong(kernel):
    """The network's own must have run."""
    step = samples.step_row(kernels=json.dumps({kernel: 1.0}))

    assert wrong_attention("cudnn", [step], "wan_vae")


@pytest.mark.parametrize(
    ("decoders", "settings", "reason"),
    [
        pytest.param(("taehv",), {}, "", id="driven"),
        pytest.param((), {"decoder": "none"}, "", id="latents"),
        pytest.param(
            (), {}, "environment fastvideo does not decode with taehv: set decoder", id="not"
        ),
        pytest.param(("wan_vae",), {}, "environment fastvideo does not decode", id="another"),
    ],
)
def test_only_driven_decoders_are_planned(decoders, settings, reason):
    """Every side of a cell must decode as the cell says, or it is listed with the reason."""
    cell = SuiteCell(
        recipe=TAEHV,
        baseline="fastvideo",
        floor=["flashdreams", "flashdreams{dtype=float32}"],
        limit=2.0,
        limit_origin="a test",
        settings=settings,
    )
    suite = Suite(description="a test", size="tiny", cells=[cell])
    driven = {
        "flashdreams": Driven(recipes=(TAEHV,), decoders=("taehv", "wan_vae")),
        "fastvideo": Driven(recipes=(TAEHV,), decoders=decoders),
    }
    planned = plan_suite("mine", suite, load_recipes(), "cpu", load_devices()["cpu"], driven)

    if reason:
        assert planned.unsupported[0].reason.startswith(reason)
    else:
        assert len(planned.cells) == 1


@pytest.mark.slow
def test_report_shows_frames_beside_latents(tmp_path):
    """The worst frame of the worst process and the floor's; the worst ratio is of either."""
    made = [
        replace(row, capture=name, relative_l2=row.relative_l2 * (1 + (name == "frames")))
        for name in ("latents", "frames")
        for row in test_report.parity_rows([0.008] * 4)
    ]
    alike = {"pair": (41.5, 0.875), "floor": (43.25, 0.9375)}
    parity = [
        replace(row, psnr_db=alike[row.comparison][0], ssim=alike[row.comparison][1])
        if row.capture == "frames"
        else row
        for row in made
    ]
    worse = replace(parity[4 + 4], candidate_trial="candidate.1", psnr_db=39.125)
    run = test_report.make_run(
        tmp_path / "run", pair=test_report.pair_row(), parity=[*parity, worse]
    )
    html, markdown = test_report.rendered(run)

    assert "0 39.1 43.2 0.875000 0.937500 1.60e-02 2.00e-02 0.80x" in test_report.words(html)
    assert "| 1 | 41.5 | 43.2 | 0.875000 | 0.937500 | 1.60e-02 | 2.00e-02 |" in markdown
    assert "PSNR" not in test_report.rendered(test_report.passing_run(tmp_path / "latents"))[1]
