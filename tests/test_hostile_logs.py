"""Logs nobody prepared for: every parser gives whole steps or an error, in linear time."""

import io
import random
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LogFormatError
from harness.logs import PARSERS, PUBLISHED
from harness.logs.lines import MAX_LINE_BYTES, marked_lines
from tests.fakes.samples import step_line

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
STAGES = {"encode": 0.016, "diffuse": 343.706, "decode": 6.646, "finalize": 74.226}
FORMATS = {**PARSERS, **PUBLISHED}
SAMPLES = {path: path.read_bytes() for path in sorted(GOLDEN.rglob("*.*"))}
FUZZ_S = 0.03 * settings.default.max_examples
"""Three seconds, and minutes where properties have thousands of examples."""
MARKERS = {"flashdreams": b"AR ", "self_forcing": b"Block ", "lingbot": b"Chunk ", "tqdm": b"%|"}
every_format = pytest.mark.parametrize("name", FORMATS)
line_format = pytest.mark.parametrize("name", MARKERS)


class Repeated(io.RawIOBase):
    """A file of one piece over and over, which is never in memory as a whole."""

    def __init__(self, piece, size, tail=b""):
        super().__init__()
        self.piece, self.size, self.tail, self.at = (
            piece * (1 + (1 << 20) // len(piece)),
            size,
            tail,
            0,
        )

    def read(self, count=-1):
        """The next bytes; the piece begins anew wherever a read does."""
        left = self.size - self.at
        if left <= 0:
            found, self.tail = self.tail, b""
            return found
        found = self.piece[: min(count, left)]
        self.at += len(found)
        return found

    def seek(self, offset, whence=0):
        """Back to the start, as for a second look at its first bytes."""
        self.at = 0
        return 0


def lines(count, stages_ms=STAGES, before="", after="\n"):
    """A log of ``count`` AR steps."""
    return "".join(f"{before}{step_line(ar, stages_ms)}{after}" for ar in range(count))


def parse(log, name="flashdreams"):
    """Parse text, bytes or a file."""
    return FORMATS[name](log.encode() if isinstance(log, str) else log, "a.log")


def figures(steps):
    """Everything of steps but where they stand."""
    return [(s.ar, s.rank, s.stages_ms, s.total_wo_finalize_ms, s.total_ms) for s in steps]


def trouble(name, log):
    """What is wrong with how a parser takes a log; empty for whole rows and for an error."""
    try:
        rows = parse(log, name)
    except LogFormatError as error:
        return "" if str(error).startswith("a.log: ") and "\n" not in str(error) else str(error)
    if not rows:
        return "no row and no error"
    odd = [row for row in rows if not 0 <= row.byte_start < row.byte_end <= len(log)]
    return f"impossible byte range: {odd[0]}" if odd else ""


@every_format
@given(log=st.binary(max_size=600))
def test_random_bytes_give_rows_or_an_error(name, log):
    """No bytes make a parser fail in another way."""
    assert trouble(name, log) == ""


@every_format
@given(data=st.data())
def test_damaged_sample_gives_rows_or_an_error(name, data):
    """Nor does a real file with a hole, a repetition or odd bytes in it."""
    log = data.draw(st.sampled_from(list(SAMPLES.values())))[:4000]
    first = data.draw(st.integers(0, len(log)))
    last = data.draw(st.integers(first, len(log)))
    put = data.draw(
        st.sampled_from([b"", b"\r", b"nan", b"-1", b"\xf0\x9f", b"\0", log[first:last] * 2])
    )

    assert trouble(name, log[:first] + put + log[last:]) == ""


@pytest.mark.slow
def test_fuzzer_finds_nothing():
    """Mutated real files for a while, always the same ones."""
    draw, end, tried = random.Random(20261123), time.monotonic() + FUZZ_S, 0
    samples = [log[:6000] for log in SAMPLES.values()]
    while time.monotonic() < end:
        log = bytearray(draw.choice(samples))
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(log) + 1)
            other = draw.choice(samples)
            cut = draw.randrange(len(other))
            log[at : at + draw.choice((0, 1, 40))] = draw.choice(
                (
                    bytes([draw.randrange(256)]),
                    other[cut : cut + draw.choice((1, 30, 300))],
                    b"\r",
                    b"",
                )
            )
        for name in FORMATS:
            assert trouble(name, bytes(log)) == "", (name, bytes(log))
        tried += 1
    assert tried > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("piece", "name"),
    [
        pytest.param(b"loading shard 17 of 400, 3.1 GiB\n", "flashdreams", id="no-step"),
        pytest.param(b"x" * 4096, "flashdreams", id="one-line"),
        pytest.param(b"\0", "flashdreams", id="sparse-file"),
        pytest.param(b"AR 5 encode 0.001 ms ", "flashdreams", id="one-line-of-step-words"),
        pytest.param(b" 50%|###   |" + b" " * 100 + b"\r", "tqdm", id="returns"),
        pytest.param(b"[[", "stats_json", id="brackets"),
        pytest.param(b'{"a":[', "benchmark_results", id="objects"),
    ],
)
def test_200_mb_without_a_step_cost_little(piece, name):
    """Ten times the bytes take ten times as long, and are never in memory at once."""
    spent_s = {}
    for num_bytes in (20_000_000, 200_000_000):
        started = time.process_time()
        with pytest.raises(LogFormatError):
            parse(Repeated(piece, num_bytes), name)
        spent_s[num_bytes] = time.process_time() - started
    assert spent_s[200_000_000] < 15 * spent_s[20_000_000] + 1
    assert spent_s[200_000_000] < 20

    tracemalloc.start()
    with pytest.raises(LogFormatError):
        parse(Repeated(piece, 5_000_000), name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (12 << 20 if name in MARKERS else 256 << 20)


def test_endless_json_is_not_read():
    """A list that goes on for ever is refused by its size, before it is decoded."""
    with pytest.raises(LogFormatError, match="larger than"):
        parse(Repeated(b"[ ", 70_000_000), "stats_json")


def test_steps_behind_a_line_of_100_mb_are_found():
    """An endless line is skipped, and byte ranges behind it are still right."""
    noise, tail = 100_000_000, b"\n" + lines(3).encode()
    steps = parse(Repeated(b"AR 5 encode 0.001 ms ", noise, tail))

    assert figures(steps) == figures(parse(lines(3)))
    for step in steps:
        found = tail[step.byte_start - noise : step.byte_end - noise]
        assert found == step_line(step.ar, STAGES).encode()


@pytest.mark.slow
@line_format
def test_time_grows_with_the_log_and_no_faster(name):
    """Four times the log takes about four times as long, whatever stands in it."""
    for piece in (b"a word " + MARKERS[name] + b"7 and more\n", MARKERS[name] * 2000 + b"\n"):
        times = []
        for size in (2_000_000, 8_000_000):
            started = time.process_time()
            with pytest.raises(LogFormatError):
                parse(Repeated(piece, size), name)
            times.append(time.process_time() - started)

        assert times[1] < 12 * max(times[0], 0.01)


@given(
    words=st.lists(st.sampled_from([b"AR 1", b"x", b"y" * 50, b"\n", b"\r", b"\r\n"]), max_size=60),
    piece=st.integers(1, 40),
)
def test_lines_do_not_depend_on_how_a_file_is_read(words, piece):
    """However the bytes arrive, the same lines are found at the same places."""
    log = b"".join(words)

    class Slow(io.BytesIO):
        def read(self, count=-1):
            return super().read(piece)

    whole = list(marked_lines(log, b"AR"))
    assert list(marked_lines(Slow(log), b"AR")) == whole
    assert [log[line.start : line.end] for line in whole] == [line.text for line in whole]
    assert [line.text for line in whole if line.ended] == [
        found for found in log.replace(b"\r", b"\n").split(b"\n")[:-1] if b"AR" in found
    ]


@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1])
@pytest.mark.parametrize("where", ["alone", "after-a-piece"])
def test_longest_line_that_is_read(length, where):
    """The limit is the same wherever the line lies in the file."""
    before = b"" if where == "alone" else b"z" * ((1 << 20) - length // 2) + b"\n"
    found = list(marked_lines(before + (b"AR" + b"x" * length)[:length] + b"\n", b"AR"))

    assert len(found) == (length <= MAX_LINE_BYTES)


def test_four_ranks_interleaved():
    """Ranks that torchrun labels are four sequences, in whatever order they arrive."""
    log = "".join(
        f"[default{rank}]:{step_line(ar, STAGES | {'diffuse': 100.0 + rank})}\n"
        for ar in range(5)
        for rank in ((ar + place) % 4 for place in range(4))
    )
    steps = parse(log)

    assert [(step.rank, step.ar) for step in steps] == [(r, a) for r in range(4) for a in range(5)]
    assert all(step.stages_ms["diffuse"] == 100.0 + step.rank for step in steps)


@pytest.mark.parametrize("end", ["\r", ""])
def test_progress_bar_glued_to_step_lines(end):
    """A bar leaves the cursor behind it, so the next line may start there."""
    bar = f"FlowMatchUniPCScheduler:  50%|█████     | 10/20 [00:01<00:01,  6.62it/s]{end}"

    assert figures(parse(lines(3, before=bar))) == figures(parse(lines(3)))


@pytest.mark.parametrize("half", [b"\xe2", b"\xe2\x96", b"\xf0\x9f\x93", b"\xff\xfe"])
@every_format
def test_half_a_character_at_the_end(name, half):
    """A log cut inside a character is read, or refused by name."""
    assert trouble(name, lines(3).encode() + half) == ""
    assert figures(parse(lines(3).encode() + half)) == figures(parse(lines(3)))


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(lines(3) + lines(5, STAGES | {"diffuse": 1.0}), "second run", id="two-runs"),
        pytest.param(lines(2) + step_line(0, {"diffuse": 1.0}), "second run", id="begins-again"),
        pytest.param(lines(3) + step_line(1, {"diffuse": 1.0}), "AR 1 appears twice", id="twice"),
        pytest.param(step_line(-1, STAGES) + "\n" + lines(3), "AR -1", id="negative"),
        pytest.param(lines(3).replace("343.706", "1e309", 1), "AR 0", id="overflow"),
        pytest.param(lines(3).replace("343.706", "1,343.706", 1), "AR 0", id="thousands"),
        pytest.param(step_line(10**12, STAGES) + "\n", "not a whole step line", id="huge-index"),
        pytest.param(lines(3) + step_line(3, STAGES)[:50], "middle of a step line", id="cut"),
    ],
)
def test_log_that_contradicts_itself_is_refused(log, said):
    """A log of two runs, or with an index or figure that cannot be, is an error that says so."""
    with pytest.raises(LogFormatError, match=said):
        parse(log)


@pytest.mark.parametrize("name", list(MARKERS))
def test_zero_rows_are_an_error(name):
    """A log without a step is never an empty result."""
    for log in (b"", b"\n", b"\r\n\r\n", b"loading\n", b"\xef\xbb\xbf"):
        with pytest.raises(LogFormatError, match="expected"):
            parse(log, name)
