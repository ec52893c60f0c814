"""The parser of FlashDreams' step line: what it reads, and what must not fool it."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import LogFormatError
from harness.judging import stats
from harness.logs import PARSERS
from harness.logs.stages import is_kv_update
from harness.plan.sampling import phase_at
from tests.fakes.samples import step_line

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
H200 = (GOLDEN / "flashdreams_0_1_0_h200_self_forcing_14_blocks.log").read_bytes()
H100 = (GOLDEN / "flashdreams_h100_self_forcing_taehv_7_blocks.log").read_bytes()
STAGES = {"encode": 0.016, "diffuse": 343.706, "decode": 6.646, "finalize": 74.226}
FLASHVSR = dict.fromkeys(
    ("pad", "bicubic", "projector", "dit_concat", "denoise", "decoder", "color", "finalize"), 12.5
)
LOGURU = "2026-11-23 06:49:28.912 | INFO     | flashdreams.infra.pipeline.base:finalize:334 - "
ANSI = (
    "\x1b[32m2026-11-23 06:49:28.912\x1b[0m | \x1b[1mINFO    \x1b[0m | "
    "\x1b[36mflashdreams.infra.pipeline.base\x1b[0m:\x1b[36mfinalize\x1b[0m:"
    "\x1b[36m334\x1b[0m - \x1b[1m"
)


def parse(log):
    """Parse text or bytes as the harness does."""
    return PARSERS["flashdreams"](log if isinstance(log, bytes) else log.encode(), "a.log")


def lines(count, stages_ms=STAGES, before="", after="\n"):
    """A log of ``count`` AR steps."""
    return "".join(f"{before}{step_line(ar, stages_ms)}{after}" for ar in range(count))


def timed(steps, full_at=7):
    """Steps as the statistics take them, for a window of seven AR steps and a CUDA graph."""
    return [(s.ar, phase_at(s.ar, full_at, has_graph=True), s.total_wo_finalize_ms) for s in steps]


def figures(steps):
    """Everything of steps but where they stand."""
    return [(s.ar, s.rank, s.stages_ms, s.total_wo_finalize_ms, s.total_ms) for s in steps]


def test_golden_log_gives_every_step():
    """Fourteen AR steps stand between Inductor's reports, each with the figures of its line."""
    steps = parse(H200)

    assert [step.ar for step in steps] == list(range(14))
    assert steps[13].stages_ms == {
        "encode": 0.024,
        "diffuse": 326.798,
        "decode": 0.001,
        "finalize": 80.693,
    }
    assert (steps[13].total_wo_finalize_ms, steps[13].total_ms) == (326.823, 407.516)
    assert steps[13].memory_peak_gib == 8.684


@pytest.mark.parametrize("log", [pytest.param(H200, id="h200"), pytest.param(H100, id="h100")])
def test_byte_range_is_the_very_line(log):
    """The byte range of a row holds exactly one line, which is the row's."""
    for step in parse(log):
        line = log[step.byte_start : step.byte_end]
        assert b"\n" not in line
        assert f"AR {step.ar} encode".encode() in line
        assert f"total {step.total_ms:.3f} ms".encode() in line
        assert log[step.byte_end : step.byte_end + 1] == b"\n"


@pytest.mark.parametrize(
    ("log", "blocks", "seed_ms", "steady_ms"),
    [
        pytest.param(H200, 14, 328.081, 328.081, id="h200-14-blocks"),
        pytest.param(H200, 7, 317.811, None, id="h200-first-7-blocks"),
        pytest.param(H100, 7, 318.658, None, id="h100-7-blocks"),
    ],
)
def test_statistics_of_golden_logs(log, blocks, seed_ms, steady_ms):
    """Both statistics are what a person computes; a log that ends early has no steady one."""
    values = timed(parse(log)[:blocks])

    assert stats.seed_statistic(values).value_ms == pytest.approx(seed_ms, abs=6e-4)
    assert stats.steady_statistic(values).value_ms == (
        steady_ms and pytest.approx(steady_ms, abs=6e-4)
    )


def test_windows_of_the_golden_statistics():
    """The seed's window starts at AR 2, the steady one behind the captured graph at AR 7."""
    values = timed(parse(H200))
    seed, steady = stats.seed_statistic(values), stats.steady_statistic(values)

    assert (seed.ar_first, seed.ar_last, seed.num_steps) == (2, 13, 12)
    assert (steady.ar_first, steady.ar_last, steady.num_steps) == (8, 13, 6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "\n", id="bare"),
        pytest.param(LOGURU, "\n", id="loguru"),
        pytest.param(LOGURU.replace("INFO ", "DEBUG"), "\n", id="other-level"),
        pytest.param(ANSI, "\x1b[0m\n", id="colours"),
        pytest.param(ANSI, "\x1b[0m\r\n", id="colours-crlf"),
        pytest.param("[default0]:", "\n", id="torchrun-tee"),
        pytest.param("[default0]:" + LOGURU, "\n", id="torchrun-tee-loguru"),
        pytest.param("[rank0]: ", "\n", id="rank"),
        pytest.param("", "\r\n", id="crlf"),
        pytest.param("\r 50%|####  | 2/4 [00:01<00:01]\r", "\n", id="progress-bar"),
        pytest.param("", " \n\n", id="blank-lines"),
        pytest.param("Autotune: bias_addmm 0.1791 ms 100.0%\n", "\n", id="autotune-noise"),
    ],
)
def test_every_dress_gives_the_same_steps(before, after):
    """Prefixes, colours, line ends and progress bars change nothing about a step."""
    assert figures(parse(lines(4, before=before, after=after))) == figures(parse(lines(4)))


@pytest.mark.parametrize(
    ("memory", "peak"),
    [pytest.param(True, 8.898, id="gpu"), pytest.param(False, None, id="cpu")],
)
def test_memory_is_optional(memory, peak):
    """A CPU has no memory suffix; where there is one, its peak is kept."""
    assert parse(step_line(0, STAGES, memory=memory))[0].memory_peak_gib == peak


@pytest.mark.parametrize(
    "stages_ms",
    [
        pytest.param(FLASHVSR, id="flashvsr"),
        pytest.param({"diffuse": 343.706, "finalize": 74.226}, id="no-encode-or-decode"),
        pytest.param({"diffuse": 1.0}, id="no-finalize"),
    ],
)
def test_stage_names_are_data(stages_ms):
    """The set of stages is open and keeps its order."""
    assert list(parse(lines(2, stages_ms))[1].stages_ms.items()) == list(stages_ms.items())


def test_ranks_stay_apart():
    """Lines of several ranks are rows of their own, whatever order they arrive in."""
    log = "".join(
        f"[default{rank}]:{step_line(ar, STAGES | {'diffuse': 100.0 + rank})}\n"
        for ar in range(3)
        for rank in (1, 0)
    )

    assert [(step.rank, step.ar) for step in parse(log)] == [
        (r, a) for r in (0, 1) for a in (0, 1, 2)
    ]
    assert {step.rank: step.stages_ms["diffuse"] for step in parse(log)} == {0: 100.0, 1: 101.0}


def test_exact_duplicates_collapse():
    """A tee that prints every line twice changes nothing."""
    doubled = "".join(line + line for line in lines(3).splitlines(keepends=True))

    assert figures(parse(doubled)) == figures(parse(lines(3)))


FAKE_STEP = "AR 2 diffuse 1.000 ms | total(w/o finalize) 1.000 ms total 1.000 ms"


@pytest.mark.parametrize(
    "impostor",
    [
        pytest.param(f"prompt: '{FAKE_STEP}'", id="prompt"),
        pytest.param(f"prompt: {FAKE_STEP}", id="prompt-without-quotes"),
        pytest.param(f"    text={FAKE_STEP}", id="config"),
        pytest.param(f"the slowest was {FAKE_STEP}", id="sentence"),
        pytest.param(f"- {FAKE_STEP}", id="list"),
        pytest.param(f"\x1b[31mprompt\x1b[0m: {FAKE_STEP}", id="coloured"),
        pytest.param(f"{LOGURU}prompt {FAKE_STEP}", id="logged-prompt"),
        pytest.param(f"[default0]:prompt {FAKE_STEP}", id="rank-prompt"),
    ],
)
def test_line_that_contains_a_step_is_no_step(impostor):
    """Text that quotes a step line never becomes a row."""
    assert figures(parse(f"{lines(2)}{impostor}\ndone\n")) == figures(parse(lines(2)))


@pytest.mark.parametrize("where", ["before", "after"])
def test_conflicting_duplicate_is_refused(where):
    """One AR step with two different times is a contradiction, whichever comes first."""
    lie = step_line(1, STAGES | {"diffuse": 1.0}) + "\n"
    log = lie + lines(3) if where == "before" else lines(3) + lie

    with pytest.raises(LogFormatError, match="AR 1 appears twice"):
        parse(log)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_gap_is_refused(lost):
    """A log that lost a step is an error that names it, never a shorter result."""
    log = "".join(lines(4).splitlines(keepends=True)[i] for i in range(4) if i != lost)

    with pytest.raises(LogFormatError, match=f"AR {lost} is missing"):
        parse(log)


def test_gap_in_another_rank_is_refused():
    """A rank that lost a step is named with it."""
    log = lines(3, before="[default0]:") + f"[default1]:{step_line(1, STAGES)}\n"

    with pytest.raises(LogFormatError, match=r"AR 0 is missing \(rank 1"):
        parse(log)


@pytest.mark.parametrize(
    ("true", "false"),
    [
        pytest.param("diffuse 343.706", "diffuse 344.706", id="stage"),
        pytest.param("total 424.594", "total 424.694", id="total"),
        pytest.param("finalize) 350.368", "finalize) 350.308", id="without-finalize"),
        pytest.param("encode 0.016 ms", "encode 0.016 ms encode 0.000 ms", id="repeated-stage"),
        pytest.param("encode 0.016 ms", "encode 0.000 ms encode 0.016 ms", id="empty-first-stage"),
    ],
)
def test_figures_that_do_not_add_up_are_refused(true, false):
    """The totals of a line must be those of its stages, each stage named once."""
    log = lines(3)
    assert true in log

    with pytest.raises(LogFormatError, match="AR 0"):
        parse(log.replace(true, false, 1))


@pytest.mark.parametrize("ar", [pytest.param(0, id="first"), pytest.param(2, id="last")])
@pytest.mark.parametrize(
    "figure",
    [
        "nan",
        "inf",
        "-inf",
        "1e309",
        "-343.706",
        "1,343.706",
        "1 343.706",
        "343,706",
        "343",
        "٣٤٣.٧٠٦",
    ],
)
def test_figure_that_is_no_plain_number_is_refused(ar, figure):
    """A step line with an odd figure is an error wherever it stands, never a missing step."""
    line = step_line(ar, STAGES)
    log = lines(3).replace(line, line.replace("343.706", figure))

    with pytest.raises(LogFormatError, match=f"AR {ar}"):
        parse(log)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(b"", "no AR step", id="empty"),
        pytest.param(b"\n\n", "no AR step", id="blank"),
        pytest.param(b"loading\nwrote video\n", "no AR step", id="foreign"),
        pytest.param(b"\x7fELF\0\0" + bytes(range(256)) * 9, "binary", id="binary"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary", id="png"),
        pytest.param("AR 0 ✅ encode".encode("utf-16"), "binary", id="utf-16"),
    ],
)
def test_log_without_steps_is_refused(log, said):
    """What is no log says what was expected."""
    with pytest.raises(LogFormatError, match=f"a.log: .*{said}"):
        parse(log)


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(H100, id="bare"),
        pytest.param(H100.replace(b"AR", LOGURU.encode() + b"AR"), id="loguru"),
        pytest.param(H100.replace(b"AR", ANSI.encode() + b"AR"), id="colours"),
        pytest.param(H100.replace(b"AR", b"[default0]:AR"), id="rank"),
        pytest.param(H100.replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(H100.replace(b"AR", b" 50%|## |\rAR"), id="progress-bar"),
    ],
)
def test_log_cut_in_its_last_step_is_complete_or_refused(log):
    """Wherever the last line is cut, it is refused or all its figures are there."""
    whole, start = figures(parse(log)), log.rstrip().rindex(b"AR 6") + len(b"AR")
    read = {cut: _figures_or_refusal(log[:cut]) for cut in range(start, len(log))}

    complete = {cut for cut, found in read.items() if found == whole}
    assert {cut: found for cut, found in read.items() if found not in ("refused", whole)} == {}
    assert min(complete) >= log.rindex(b"463.319 ms") + len(b"463.319 ms")


def _figures_or_refusal(log):
    try:
        return figures(parse(log))
    except LogFormatError:
        return "refused"


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(step_line(2, STAGES)[:40] + "Traceback (most recent call):", id="traceback"),
        pytest.param(step_line(2, STAGES) + " 50%|###   |", id="progress-bar"),
        pytest.param(LOGURU + step_line(2, STAGES)[:60], id="cut"),
    ],
)
def test_torn_step_line_is_refused(torn):
    """A last step whose line another process wrote into is not silently left out."""
    with pytest.raises(LogFormatError, match="AR 2"):
        parse(f"{lines(2)}{torn}\nwrote video\n")


def test_endless_line_is_skipped():
    """Megabytes without a line end cost no time and hide no step."""
    noise = "AR 5 encode 0.001 ms " * 100_000

    assert figures(parse(lines(3) + noise + "\n" + lines(3))) == figures(parse(lines(3)))


def contradictions(log):
    """Steps whose figures or place in the log cannot be, unless the log is refused."""
    try:
        steps = parse(log)
    except LogFormatError:
        return []
    assert steps
    return [s for s in steps if not (adds_up(s) and 0 <= s.byte_start < s.byte_end <= len(log))]


def adds_up(step):
    """Whether a step's stages make its total, to the rounding of each figure."""
    tolerance = 0.0011 * (len(step.stages_ms) + 1)
    return sum(step.stages_ms.values()) == pytest.approx(step.total_ms, abs=tolerance)


@given(st.binary(max_size=400))
@example(b"AR 0 a 0.000 ms | total(w/o finalize) 0.000 ms total 0.000 ms")
def test_any_bytes_give_steps_that_add_up_or_an_error(log):
    """No input makes the parser fail in another way, or return a step that contradicts itself."""
    assert contradictions(log) == []


@given(st.lists(st.sampled_from([*re.split(rb"(?<=[ \n|:])", H100[:700]), b"\r", b"\0", b"9"])))
def test_shuffled_log_gives_steps_that_add_up_or_an_error(parts):
    """Nor does any jumble of the words of a real log."""
    assert contradictions(b"".join(parts)) == []


_MS = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1000)
_NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).filter(
    # What other formats call the last stage would be one beside `finalize`, which is subtracted.
    lambda name: name == "finalize" or not is_kv_update(name)
)
_STAGES = st.dictionaries(_NAMES, _MS, min_size=1)


@pytest.mark.slow
@given(st.lists(_STAGES, min_size=1, max_size=6), st.booleans())
def test_rendered_steps_are_read_back(stages, memory):
    """Whatever was printed in the format is what is parsed."""
    log = "\n".join(step_line(ar, stages_ms, memory) for ar, stages_ms in enumerate(stages))

    assert [step.stages_ms for step in parse(log)] == stages
