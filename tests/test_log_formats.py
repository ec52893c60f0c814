"""The parsers of the formats that others print, and ``fdbench parse``'s choice among them."""

import json
from pathlib import Path

import pytest

from harness.errors import LogFormatError, UsageFault
from harness.judging import stats
from harness.logs import PARSERS, PUBLISHED
from harness.logs.detection import read_log
from harness.logs.stages import comparable
from tests.command import fdbench

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
LINGBOT = (GOLDEN / "lingbot" / "gb300_official_1_gpu_6_chunks.log").read_bytes()
BAR = (GOLDEN / "tqdm" / "flashdreams_0_1_0_unipc_20_steps.log").read_bytes()
STATS = (GOLDEN / "stats_json" / "flashdreams_0_1_0_cpu_3_steps.json").read_bytes()
RESULTS = (GOLDEN / "benchmark_results" / "benchmark_results.json").read_bytes()
PERF = (GOLDEN / "perf_table" / "self_forcing_perf-0521.md").read_bytes()
RECIPE = ("--recipe", "self-forcing-wan2.1-t2v-1.3b-taehv", "--gpu", "h100")


def block(number, denoise=350.12, kv_update=86.74, decode=38.0):
    """Self-Forcing's line, typed from the patch that prints it."""
    stages = {"denoise": denoise, "kv_update": kv_update, "decode": decode}
    printed = " ".join(f"{name} {ms:.2f}ms" for name, ms in stages.items() if ms is not None)
    total = sum(ms for ms in stages.values() if ms is not None)
    return f"✅ Block {number} completed in {total:.2f}ms (12 frames) | {printed}\n"


def chunk(number, denoise=1000.0, before=""):
    """LingBot's line, typed from the patch that prints it."""
    return (
        f"{before}Chunk {number} completed in {denoise + 250:.2f}ms (wo_finalize {denoise:.2f}ms, "
        f"x0 shape (16, 3, 58, 104)) | denoise {denoise:.2f}ms kv_update 250.00ms\n"
    )


def bar(done, elapsed, rate, total=50, name=""):
    """One state of a tqdm bar and the return before it."""
    return f"\r{name}{100 * done // total:3d}%|####  | {done}/{total} [{elapsed}<00:00, {rate}]"


def parse(name, log):
    """Parse text or bytes as one format."""
    return PARSERS[name](log if isinstance(log, bytes) else log.encode(), "a.log")


@pytest.mark.parametrize(
    ("log", "at_ar_5", "stated"),
    [
        pytest.param(
            "flashdreams_h100_self_forcing_taehv_7_blocks.log", 343.706, 318.658, id="h100"
        ),
        pytest.param("flashdreams/gb200_self_forcing_7_blocks.log", 202.850, 217.470, id="gb200"),
        pytest.param("flashdreams/a100_self_forcing_7_blocks.log", 954.896, 865.368, id="a100"),
    ],
)
def test_published_figure_is_diffuse_at_ar_5(log, at_ar_5, stated):
    """The published 344 ms is one stage at AR 5; the stated statistic of that log is another."""
    steps = parse("flashdreams", (GOLDEN / log).read_bytes())
    values = [(step.ar, "filling", step.total_wo_finalize_ms) for step in steps]

    assert steps[5].stages_ms["diffuse"] == at_ar_5
    assert stats.seed_statistic(values).value_ms == pytest.approx(stated, abs=6e-4)


@pytest.mark.parametrize(
    "log", sorted((GOLDEN / "flashdreams").glob("*.log")), ids=lambda p: p.stem
)
def test_every_line_captured_from_flashdreams_is_read(log):
    """Whatever stands around them, all step lines of a real log are rows."""
    steps = parse("flashdreams", log.read_bytes())

    assert len(steps) == log.read_bytes().count(b"total(w/o finalize)")


def test_self_forcing_counts_blocks_from_one():
    """Block 6 is AR 5; all but the KV update is its total without it; the last has none."""
    steps = parse("self_forcing", "".join(map(block, range(1, 7))) + block(7, kv_update=None))

    assert [step.ar for step in steps] == list(range(7))
    assert (steps[5].total_ms, steps[5].total_wo_finalize_ms) == (474.86, 388.12)
    assert list(steps[6].stages_ms) == ["denoise", "decode"]
    assert comparable(steps[0].stages_ms) == {"diffuse": 350.12, "finalize": 86.74, "decode": 38.0}


def test_lingbot_log_of_the_pull_request():
    """Chunks count from 0 and the figures are those printed."""
    steps = parse("lingbot", LINGBOT)

    assert [step.ar for step in steps] == list(range(6))
    assert (steps[5].total_ms, steps[5].total_wo_finalize_ms) == (1475.74, 1189.69)
    assert LINGBOT[steps[5].byte_start : steps[5].byte_end] == LINGBOT.splitlines()[5]


def test_slowest_of_unlabelled_ranks_is_kept():
    """Four processes print a chunk; it is done when the last of them is."""
    log = "".join(chunk(ar, 1000.0 + (rank * 7) % 4) for ar in range(3) for rank in range(4))

    assert [step.total_wo_finalize_ms for step in parse("lingbot", log)] == [1003.0] * 3


def test_print_and_logger_of_lightx2v_are_one_line():
    """LightX2V prints and logs each chunk."""
    logged = "2026-05-22 10:00:00.000 | INFO     | lightx2v.runner:run_main:120 - "
    log = "".join(chunk(ar) + chunk(ar, before=logged) for ar in range(3))

    assert len(parse("lingbot", log)) == 3


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(chunk(0) + chunk(0, 1001.0) + chunk(1), "Chunk 1 has 1 lines", id="lost-rank"),
        pytest.param(
            chunk(0) + chunk(1) + chunk(0, 1001.0) + chunk(1, 1001.0), "second run", id="two-runs"
        ),
        pytest.param(chunk(0) + chunk(2), "Chunk 1 is missing", id="gap"),
        pytest.param(
            chunk(0) + chunk(1)[:40] + "\n" + chunk(2), "not a whole step line", id="torn"
        ),
        pytest.param(chunk(0) + chunk(1)[:9], "not a whole step line", id="cut"),
        pytest.param(chunk(0).replace("1250.00", "1251.00"), "do not add up", id="total"),
        pytest.param(chunk(0).replace("wo_finalize 1000", "wo_finalize 999"), "add up", id="wo"),
        pytest.param(chunk(0).replace("1000.00", "nan"), "not a whole step line", id="nan"),
        pytest.param(chunk(0).replace("1250.00", "1,250.00"), "not a whole step", id="thousands"),
        pytest.param(chunk(-1) + chunk(0), "Chunk -1", id="negative"),
        pytest.param("nothing\n", "no Chunk line", id="foreign"),
    ],
)
def test_lingbot_log_that_is_not_whole_is_refused(log, said):
    """Lost, torn and contradicting chunks are errors."""
    with pytest.raises(LogFormatError, match=said):
        parse("lingbot", log)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(block(1) + block(3), "Block 2 is missing", id="gap"),
        pytest.param(block(0) + block(1), "Block 0", id="zero"),
        pytest.param(block(1) + block(2) + block(1, 9.0), "second run", id="two-runs"),
        pytest.param(block(1) + block(2)[:30], "Block 2 at byte", id="cut"),
        pytest.param(block(1).replace("decode", "denoise"), "names a stage twice", id="repeated"),
    ],
)
def test_self_forcing_log_that_is_not_whole_is_refused(log, said):
    """Lost, torn and contradicting blocks are errors, in the numbers of the log."""
    with pytest.raises(LogFormatError, match=said):
        parse("self_forcing", log)


def test_bar_gives_its_mean_and_not_the_moving_average():
    """At the last step 6.55 it/s is shown and 6.57 for the whole bar; the second is the mean."""
    (step,) = parse("tqdm", BAR)

    assert step.stages_ms == {"denoising_step_mean": pytest.approx(1000 / 6.57)}
    assert BAR[step.byte_start : step.byte_end].endswith(b"6.57it/s]")


def test_each_bar_is_a_generation():
    """Two bars are two rows; what loads weights is none, in either unit of the rate."""
    log = bar(3, "00:03", "1.00s/it", 3, "Loading checkpoint shards: ") + "\n"
    log += bar(0, "00:00", "?it/s") + bar(50, "00:57", "1.14s/it") + "\n"
    log += bar(0, "00:00", "?it/s") + bar(50, "00:24", "2.08it/s") + "INFO saved\n"

    assert [round(step.total_ms, 1) for step in parse("tqdm", log)] == [1140.0, 480.8]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(bar(12, "00:13", "1.14s/it"), "ends at 12/50", id="unfinished"),
        pytest.param(
            bar(12, "00:13", "1.14s/it") + bar(0, "00:00", "?it/s"), "followed by", id="stopped"
        ),
        pytest.param(
            bar(50, "00:57", "1.14s/it") + "\n" + bar(50, "00:57", "1.14s/it")[1:],
            "several processes",
            id="ranks",
        ),
        pytest.param(bar(50, "01:30", "1.14s/it"), "moving average", id="average"),
        pytest.param(bar(50, "00:00", "0.00s/it"), "no rate", id="zero"),
        pytest.param(bar(50, "00:57", "?it/s"), "no rate", id="no-rate"),
        pytest.param(
            bar(50, "00:57", "1.14s/it") + "\n" + bar(9, "00:09", "1.00s/it", 9, "Refining: "),
            "several kinds",
            id="kinds",
        ),
        pytest.param(bar(50, "00:57", "1e309s/it"), "no progress bar", id="overflow"),
        pytest.param(bar(3, "00:03", "1.00s/it", 3, "Loading: "), "no progress bar", id="loading"),
    ],
)
def test_bar_without_a_mean_is_refused(log, said):
    """A bar that was stopped, or cannot be told from another, gives no figure."""
    with pytest.raises(LogFormatError, match=said):
        parse("tqdm", log)


def test_stats_file_gives_unrounded_steps():
    """Every object is a step with its own byte range."""
    steps = parse("stats_json", STATS)

    assert [step.ar for step in steps] == [0, 1, 2]
    assert steps[1].stages_ms["diffuse"] == 1303.7758909999866
    assert [json.loads(STATS[step.byte_start : step.byte_end])["total_ms"] for step in steps] == [
        step.total_ms for step in steps
    ]


def test_stats_file_of_the_newer_generation():
    """``step_index``, frame counts, FlashVSR's rates and words beside them are read."""
    extra = '"frames": 8, "pipeline_frames": 8, "pipeline_fps": 4.5, "postprocess": {"é": [1]}, '
    log = STATS.decode().replace('"autoregressive_index"', extra + '"step_index"').encode()
    steps = parse("stats_json", log)

    assert [step.ar for step in steps] == [0, 1, 2]
    assert json.loads(log[steps[2].byte_start : steps[2].byte_end])["step_index"] == 2


@pytest.mark.parametrize(
    ("true", "false", "said"),
    [
        pytest.param("95.08617199981018", "NaN", "NaN", id="nan"),
        pytest.param("95.08617199981018", "1e309", "cannot be a time", id="overflow"),
        pytest.param("95.08617199981018", "-95.0", "cannot be a time", id="negative"),
        pytest.param("95.08617199981018", '"95.0"', "not a number", id="text"),
        pytest.param("95.08617199981018", "true", "not a number", id="boolean"),
        pytest.param("95.08617199981018", "null", "not a number", id="null"),
        pytest.param("95.08617199981018", "96.0", "do not add up", id="other-stage"),
        pytest.param("95.08617199981018", "9" * 5000, "not valid JSON", id="digits"),
        pytest.param("95.08617199981018", "[" * 9000, "not valid JSON", id="depth"),
        pytest.param('"autoregressive_index": 1', '"autoregressive_index": 3', "missing", id="gap"),
        pytest.param('"autoregressive_index": 1', '"autoregressive_index": 0', "twice", id="twice"),
        pytest.param('"autoregressive_index": 1', '"step_index": 1', "both", id="generations"),
        pytest.param(
            '"autoregressive_index": 1', '"autoregressive_index": 1.0', "not an index", id="f"
        ),
        pytest.param('"decode_ms": 1316', '"encode_ms": 1316', "twice", id="key-twice"),
        pytest.param('"total_ms_wo_finalize": 1411', '"other": 1411', "missing", id="no-total"),
        pytest.param("\n]", "", "end of the list", id="cut"),
    ],
)
def test_stats_file_with_a_false_value_is_refused(true, false, said):
    """Nothing but finite times that add up, each step once, is read."""
    log = STATS.decode().strip()
    assert true in log

    with pytest.raises(LogFormatError, match=said):
        parse("stats_json", log.replace(true, false))


def test_repeated_step_and_empty_files_are_refused():
    """A step that is there twice is an error even with the same figures; so is an empty list."""
    first = STATS[STATS.index(b"{") : STATS.index(b"}") + 1]
    with pytest.raises(LogFormatError, match="a step appears twice"):
        parse("stats_json", b"[" + first + b"," + first + b"]")
    with pytest.raises(LogFormatError, match="an empty list"):
        parse("stats_json", b"[]")
    with pytest.raises(LogFormatError, match="no record of it has a figure"):
        PUBLISHED["benchmark_results"](b'{"schema_version": "1.0.0", "records": []}', "a.json")


def test_results_file_has_the_published_figures():
    """Figures are those of the records that passed; missing ones keep their place."""
    figures = PUBLISHED["benchmark_results"](RESULTS, "a.json")
    found = {(f.workload, f.device, f.method, f.metric): f for f in figures}

    assert found["self_forcing_block6 1xGPU", "H100", "official", "dit_ms"].value_ms == 432.0
    assert found["self_forcing_block6 1xGPU", "GB300", "flashdreams", "total_ms"].value_ms == 207.0
    missing = found["self_forcing_block6 1xGPU", "H100", "fastvideo", "dit_ms"]
    assert (missing.status, missing.value_ms) == ("missing", None)
    record = json.loads(RESULTS[missing.byte_start : missing.byte_end])
    assert record["benchmark_id"] == "self-forcing-block6-h100-fastvideo"


@pytest.mark.parametrize(
    ("true", "false", "said"),
    [
        pytest.param('"1.0.0"', '"2.0.0"', "schema '2.0.0'", id="schema"),
        pytest.param('"pass"', '"passed"', "status 'passed'", id="status"),
        pytest.param('"pass"', '"missing"', "is missing", id="value-of-missing"),
        pytest.param('"dit_ms": 344.0', '"dit_ms": NaN', "NaN", id="nan"),
        pytest.param('"hardware": "H100"', '"hardware": 100', "no hardware", id="type"),
        pytest.param('"method": "official"', '"method": "flashdreams"', "twice", id="twice"),
        pytest.param('"metrics": {', '"measures": {', "no metrics", id="no-metrics"),
        pytest.param('"updated_at"', '"old": {"records": []}, "updated_at"', "behind", id="other"),
        pytest.param('"schema_version"', '"schema"', "no schema_version", id="foreign"),
    ],
)
def test_results_file_of_another_schema_is_refused(true, false, said):
    """A file that only looks like it is an error."""
    log = RESULTS.decode()
    assert true in log

    with pytest.raises(LogFormatError, match=said):
        PUBLISHED["benchmark_results"](log.replace(true, false).encode(), "a.json")


@pytest.mark.parametrize(
    ("table", "cell", "value_ms"),
    [
        pytest.param("self_forcing_perf-0521", ("H100", "flashdreams"), 344.0, id="self-forcing"),
        pytest.param("lingbot_world_perf-0521", ("GB300", "lightx2v"), 602.0, id="lingbot"),
        pytest.param("wan21_perf-0521", ("GB200", "official"), 481.0, id="wan21"),
        pytest.param("flashvsr_perf-0527", ("1280x704", "flashdreams"), 372.5, id="flashvsr"),
        pytest.param("hy_worldplay_perf-0530", ("GB300", "official"), 1578.0, id="hy"),
        pytest.param(
            "sana_wm_streaming_perf-0801-fp8", ("GB300", "flashdreams"), 2392.67, id="sana"
        ),
    ],
)
def test_table_is_read_by_its_heading(table, cell, value_ms):
    """Methods stand in another order in every table."""
    figures = PUBLISHED["perf_table"]((GOLDEN / "perf_table" / f"{table}.md").read_bytes(), "a.md")

    assert {(f.device, f.method): f.value_ms for f in figures}[cell] == value_ms


@pytest.mark.parametrize("empty", ["  ", " ", ""])
def test_empty_cell_shifts_nothing(empty):
    """A missing figure is missing; its neighbours keep their columns."""
    log = PERF.decode().replace("| 511 | 432 | 344 |", f"|{empty}| 432 |{empty}|")
    figures = PUBLISHED["perf_table"](log.encode(), "a.md")

    assert [f.value_ms for f in figures[:3]] == [None, 432.0, None]
    assert [f.status for f in figures[:3]] == ["missing", "pass", "missing"]


@pytest.mark.parametrize(
    ("true", "false", "said"),
    [
        pytest.param("| 344 |", "|", "does not have the 4 cells", id="short-row"),
        pytest.param("| 344 |", "| 344 | 1 |", "does not have the 4 cells", id="long-row"),
        pytest.param("| 344 |", "| 1,344 |", "not a plain number", id="thousands"),
        pytest.param("| 344 |", "| nan |", "not a plain number", id="nan"),
        pytest.param("| 344 |", "| n/a |", "not a plain number", id="words"),
        pytest.param("fastvideo", "official", "each once", id="method-twice"),
        pytest.param("fastvideo", "5 %", "name no methods", id="odd-method"),
        pytest.param("GB200", "H100", "appears twice", id="device-twice"),
        pytest.param("| --- |", "| 1 |", "line of dashes", id="no-rule"),
        pytest.param("(ms)", "(fps)", "no title", id="unit"),
    ],
)
def test_table_that_is_no_table_of_times_is_refused(true, false, said):
    """A cell, row or heading that cannot be meant is an error."""
    assert true in PERF.decode()

    with pytest.raises(LogFormatError, match=said):
        PUBLISHED["perf_table"](PERF.decode().replace(true, false).encode(), "a.md")


@pytest.mark.parametrize("log", [p for p in sorted(GOLDEN.rglob("*.*")) if p.name != "SOURCE.md"])
def test_golden_log_is_recognised(log):
    """Each real file is read as the format of its folder, and as no other."""
    with log.open("rb") as opened:
        parsed = read_log(opened, log.name)

    assert parsed.format == (log.parent.name if log.parent != GOLDEN else "flashdreams")


@pytest.mark.slow
@pytest.mark.contract
def test_log_of_two_formats_asks_for_one(tmp_path):
    """Neither is preferred; the message says what to type."""
    log = tmp_path / "both.log"
    log.write_bytes(LINGBOT + BAR)

    with log.open("rb") as opened, pytest.raises(UsageFault, match="--format lingbot"):
        read_log(opened, "a.log")
    done = fdbench("parse", log, *RECIPE, "--format", "tqdm")
    assert done.code == 0
    assert "mean over the bar" in done.text


@pytest.mark.contract
@pytest.mark.slow
def test_damaged_log_is_not_read_as_another_format(tmp_path):
    """A torn log beside a whole bar is not silently taken for the bar."""
    log = tmp_path / "torn.log"
    log.write_bytes(LINGBOT.replace(b"1189.69ms", b"nan", 1) + BAR)

    assert fdbench("parse", log, *RECIPE).code == 2


@pytest.mark.contract
@pytest.mark.slow
def test_parse_prints_one_json_object():
    """Rows have byte ranges and comparable stages, statistics their definitions."""
    done = fdbench(
        "parse", GOLDEN / "lingbot" / "gb300_official_1_gpu_6_chunks.log", *RECIPE, "--json"
    )
    found = json.loads(done.text)

    assert (done.code, found["format"], len(found["rows"])) == (0, "lingbot", 6)
    row = found["rows"][5]
    assert LINGBOT[row["byte_start"] : row["byte_end"]].startswith(b"Chunk 5 ")
    assert row["comparable_ms"] == {"diffuse": 1189.69, "finalize": 286.05}
    statistic = found["statistics"][0]
    assert statistic["name"] == "median from AR 2"
    assert "after the 7 of the documented command" in statistic["definition"]


@pytest.mark.slow
@pytest.mark.contract
def test_parse_lists_published_figures_without_a_recipe():
    """A published table needs no device, since it names its own."""
    done = fdbench("parse", GOLDEN / "perf_table" / "wan21_perf-0521.md")

    assert done.code == 0
    assert "none measured by fdbench" in done.text
    assert "1140" in done.text


def test_flashvsr_denoise_is_not_its_transformer():
    """FlashVSR's DiT is ``dit_concat``; its ``denoise`` only puts frames together."""
    assert comparable({"dit_concat": 231.8, "denoise": 0.4, "decoder": 781.6}) == {
        "diffuse": 231.8,
        "denoise": 0.4,
        "decode": 781.6,
    }
    with pytest.raises(LogFormatError, match="mean the same"):
        comparable({"dit": 1.0, "denoise": 1.0})
