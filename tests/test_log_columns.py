"""FlashDreams' line read many at a time means what it means read line by line."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LogFormatError
from harness.logs import columns, flashdreams
from harness.records import LogStep
from harness.store.schema import schema_of
from tests.fakes.samples import step_line

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
STAGES = {"encode": 0.016, "diffuse": 343.706, "decode": 6.646, "finalize": 74.226}
LOGURU = "2026-11-23 06:46:44.090 | INFO     | flashdreams.infra.pipeline.base:finalize:334 - "
BEFORE = (
    "",
    LOGURU,
    "[default3]:",
    "[rank1]: " + LOGURU,
    LOGURU.replace("INFO    ", "AR      "),
    "\x1b[32m",
    "Prompt: ",
)
AFTER = ("\n", "\r\n", " \n", "\r", "", " tail\n", "\x1b[0m\n")


def one_by_one(log):
    """The same log with no line read in columns: what it says, or why it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "plain_lines", lambda piece, _: np.zeros(len(piece.starts), bool))
        return outcome(log)


def outcome(log):
    """Every step, or the message of the error."""
    try:
        return flashdreams.parse(log, "log")
    except LogFormatError as error:
        return str(error)


@st.composite
def dressed_lines(draw):
    """Step lines in all dresses, some of them spoiled, some repeated."""
    plain, end = st.sampled_from(["", LOGURU]), st.just("\n")
    chosen = []
    for ar in range(draw(st.integers(1, 5))):
        names = draw(st.sampled_from([list(STAGES), list(STAGES)[:2], ["finalize"], ["a", "b"]]))
        line = step_line(ar, {name: STAGES.get(name, 1.5) for name in names}, draw(st.booleans()))
        spoil = draw(st.sampled_from(["", "", "", "343.706", "AR ", "|", "diffuse", " ms"]))
        if spoil:
            line = line.replace(spoil, draw(st.sampled_from(["", "encode", "1.000", "nan", "  "])))
        text = draw(plain | st.sampled_from(BEFORE)) + line + draw(end | st.sampled_from(AFTER))
        chosen += [text] * draw(st.sampled_from([1, 1, 1, 2]))
    return "".join(chosen).encode()


@pytest.mark.slow
@settings(max_examples=4 * settings.default.max_examples)
@given(log=dressed_lines())
def test_columns_say_what_single_lines_say(log):
    """Rows and complaints are the same, to the byte and the word."""
    assert outcome(log) == one_by_one(log)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("**/*.log")), ids=lambda path: path.name)
def test_columns_of_real_logs_are_those_of_single_lines(path):
    """On logs of real runs, too."""
    log = path.read_bytes()

    assert outcome(log) == one_by_one(log)


@pytest.mark.parametrize("before", ["", LOGURU, "[default0]:", "[rank0]: " + LOGURU])
def test_usual_lines_are_read_in_columns(before):
    """A log that people have takes the fast way: no line of it is read alone."""
    log = "".join(f"{before}{step_line(ar, STAGES, memory=True)}\n" for ar in range(50)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flashdreams, "_to_step", None)
        steps = flashdreams.parse(log, "log")

    assert [step.ar for step in steps] == list(range(50))
    assert steps[7].memory_peak_gib == 8.898
    assert log[steps[7].byte_start : steps[7].byte_end].decode() == before + step_line(
        7, STAGES, memory=True
    )


def test_table_has_the_columns_of_the_record():
    """Nothing is lost between the columns and the rows."""
    log = "".join(step_line(ar, STAGES) + "\n" for ar in range(3)).encode()
    table = flashdreams.parse_table(log, "log")

    assert table.schema == schema_of(LogStep)
    assert table.schema.names == [field.name for field in dataclasses.fields(LogStep)]
    assert dict(table["stages_ms"][1].as_py()) == STAGES


def test_ranks_of_a_large_log_come_in_order():
    """Four ranks that write in turn, over more than one piece of the file."""
    lines = [
        f"[default{rank}]:{LOGURU}{step_line(ar, STAGES, memory=True)}\n"
        for ar in range(6000)
        for rank in (2, 0, 3, 1)
    ]
    table = flashdreams.parse_table("".join(lines).encode(), "log")

    assert table["rank"].to_numpy().tolist() == [rank for rank in range(4) for _ in range(6000)]
    assert table["ar"].to_numpy().tolist() == list(range(6000)) * 4


def test_figures_that_do_not_add_up_are_found_among_many():
    """One line of a thousand has another time than its total says."""
    lines = [f"{step_line(ar, STAGES)}\n" for ar in range(1000)]
    lines[700] = lines[700].replace("343.706", "343.606")
    log = "".join(lines).encode()

    with pytest.raises(LogFormatError, match=f"AR 700 at byte {log.index(b'AR 700 ')} do not add"):
        flashdreams.parse(log, "log")


def test_missing_step_of_a_large_log_is_named():
    """One line of twenty thousand is lost."""
    lines = [f"{step_line(ar, STAGES)}\n" for ar in range(20_000) if ar != 12_345]

    with pytest.raises(LogFormatError, match="AR 12345 is missing"):
        flashdreams.parse("".join(lines).encode(), "log")
