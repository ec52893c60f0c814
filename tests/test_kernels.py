"""Attention by the kernels that ran: their names decide, not what a side says is in force."""

import json
from dataclasses import fields

import pytest

from harness.records import Outcome, Phase
from harness.store.version import SCHEMA_VERSION
from harness.trials import evidence, trial_record
from harness.trials.kernels import attention_ms, wrong_attention
from runners.protocol import wire
from tests.fakes import samples, steps

pytestmark = pytest.mark.unit

CUDNN = (
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_"
    "cga1x1x1_kernel0_0"
)
FLASH = (
    "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 64, 64, 4, "
    "false, false, cutlass::bfloat16_t>, false, false, false>(pytorch_flash::Flash_fwd_params)"
)
EFFICIENT = "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel)"
MATH = (
    "void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, c10::BFloat16, float, 9, "
    "false, false>(c10::BFloat16*, c10::BFloat16 const*, int, int, int)"
)
OTHERS = (
    "nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NTT",
    "triton_red_fused__to_copy_add_mul_native_layer_norm_3",
    "void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, float>",
    "sm90_xmma_fprop_implicit_gemm_bf16f32_bf16f32_f32_nhwckrsc_nhwc_cudnn",
)
NAMED = {"cudnn": CUDNN, "flash": FLASH, "mem_efficient": EFFICIENT, "math": MATH}


def profiled(*kernels):
    """An AR step that ran these kernels for 2 ms each."""
    return samples.step_row(kernels=json.dumps(dict.fromkeys(kernels, 2.0)))


@pytest.mark.parametrize(("family", "kernel"), NAMED.items())
def test_family_is_known_by_the_name(family, kernel):
    """Each backend's own kernel counts for it and for no other."""
    assert attention_ms([profiled(kernel, *OTHERS)]) == {family: 2.0}


def test_times_add_up_over_steps_and_kernels():
    """Attention of two layers' shapes and of two steps is one figure."""
    steps_ = [profiled(CUDNN, CUDNN.replace("knob_7", "knob_3")), profiled(CUDNN, MATH)]

    assert attention_ms(steps_) == {"cudnn": 6.0, "math": 2.0}
    assert attention_ms([samples.step_row()]) == {}


@pytest.mark.parametrize("asked", NAMED)
def test_only_what_was_asked_for_is_right(asked):
    """Any other backend is wrong, alone or beside the right one, and is named."""
    assert wrong_attention(asked, [profiled(NAMED[asked], *OTHERS)]) == ""
    for other in NAMED.keys() - {asked}:
        assert f"as {other}, not as {asked}" in wrong_attention(asked, [profiled(NAMED[other])])
        both = wrong_attention(asked, [profiled(NAMED[asked]), profiled(NAMED[other])])
        assert f"{' and '.join(sorted((asked, other)))}, not as {asked}" in both


def test_profile_without_attention_is_wrong():
    """A step in which no known kernel ran does not prove the one asked for."""
    assert wrong_attention("cudnn", [profiled(*OTHERS)]).startswith("attention ran as no known")


def test_free_choice_and_no_profile_are_never_wrong():
    """PyTorch may choose what it likes where it is left to it; unprofiled steps say nothing."""
    assert wrong_attention("sdpa", [profiled(FLASH)]) == ""
    assert wrong_attention("cudnn", [samples.step_row()]) == ""


@pytest.fixture
def left(tmp_path, capsys):
    """Makes the result of a trial whose last AR step recorded these kernels."""

    def made(attention, *kernels, profile_steps=(2,), **changes):
        job = samples.job(attention=attention, profile_steps=profile_steps, **changes)
        wire.write_json(tmp_path / wire.JOB_FILE, job)
        side = steps.Side(job, tmp_path)
        side.settings()
        for ar in range(job.ar_steps):
            side.line(ar)
            side.event(ar, kernels_ms=dict.fromkeys(kernels, 2.0) if ar == 2 else {})
        side.end()
        side.close()
        (tmp_path / evidence.LOG_FILE).write_text(capsys.readouterr().out)
        own = {item.name for item in fields(trial_record.TrialRecord)}
        values = {k: v for k, v in vars(samples.trial_row()).items() if k in own}
        record = trial_record.TrialRecord(
            **values, schema=SCHEMA_VERSION, started="", ended="", files={}, captures={}
        )
        return evidence.read_trial(tmp_path, trial_record.write_record(tmp_path, record))

    return made


@pytest.mark.parametrize("telemetry", [True, False])
def test_trial_that_should_be_watched_and_was_not_is_marked(left, telemetry):
    """Nobody can say of a trial without a single reading that nothing disturbed it."""
    result = left("cudnn", CUDNN, telemetry=telemetry)

    assert result.row.outcome == Outcome.COMPLETED
    assert result.row.marks == ("the GPU was not read once" if telemetry else "")


def test_trial_that_ran_its_attention_is_valid(left):
    """The profiled step is told apart, and its kernels are kept."""
    result = left("cudnn", CUDNN)

    assert (result.row.outcome, result.row.invalid) == (Outcome.COMPLETED, "")
    assert [step.phase for step in result.steps] == [Phase.FILLING, Phase.FILLING, Phase.PROFILED]
    assert [bool(step.kernels) for step in result.steps] == [False, False, True]
    assert json.loads(result.steps[2].kernels) == {CUDNN: 2.0}


@pytest.mark.parametrize("kernels", [(FLASH,), (CUDNN, FLASH)], ids=["other", "both"])
def test_trial_that_ran_another_attention_is_invalid(left, kernels):
    """Settings that say cudnn do not outweigh the kernels that ran."""
    result = left("cudnn", *kernels)

    assert json.loads(result.row.settings)["attention"] == "cudnn"
    assert result.row.invalid.endswith("flash, not as cudnn")
    assert result.steps == ()


@pytest.mark.parametrize("attention", ["cudnn", "sdpa"])
def test_trial_without_the_kernels_asked_for_is_invalid(left, attention):
    """A step that was to be profiled and was not proves nothing, whatever the attention."""
    result = left(attention)

    assert result.row.invalid == "AR 2 was to be profiled and has no kernels"
    assert result.steps == ()


def test_trial_that_was_not_to_be_profiled_needs_no_kernels(left):
    """Most processes of a side are timed only."""
    assert left("cudnn", profile_steps=()).row.invalid == ""
