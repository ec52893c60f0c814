"""Lines of the form ``Block 6 completed in 474.86ms (...) | denoise 350.12ms kv_update ...ms``.

The harnesses of FlashDreams print one an AR step on the upstream side; formats differ in what
stands in the brackets.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import LogFormatError
from harness.logs.lines import PREFIX, Line, Log, NotThisFormatError, looks_binary, marked_lines
from harness.logs.sequence import Numbering, check_sums
from harness.logs.stages import by_name, is_kv_update
from harness.records import LogStep

_ROUNDING_MS = 0.00501
"""Each figure is rounded to 0.01 ms; a sum of n may be off by half that times n + 1."""
_STAGE = re.compile(r"(\w+) (\d+\.\d\d)ms", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class CompletedLine:
    """What sets one such format apart."""

    numbering: Numbering
    brackets: bytes
    """Regular expression of what stands between the brackets; may name the group ``without``."""
    example: str


def completed_steps(form: CompletedLine, log: Log, where: str) -> Iterator[LogStep]:
    """Yield the steps as they stand in the log, each with its figures checked.

    Raises:
        LogFormatError: A line is torn, or its figures do not add up.
    """
    word = form.numbering.word.encode()
    whole = re.compile(
        PREFIX + rb"(?:\xe2\x9c\x85 )?" + word + rb" (?P<index>\d{1,9}) completed in "
        rb"(?P<total>\d{1,12}\.\d\d)ms \(" + form.brackets + rb"\) \| "
        rb"(?P<stages>\w+ \d{1,12}\.\d\dms(?: \w+ \d{1,12}\.\d\dms)*)\s*"
    )
    begun = re.compile(PREFIX + rb"(?:\xe2\x9c\x85 )?(" + word + rb" -?\d+) completed in ")
    unfinished = re.compile(PREFIX + rb"(?:\xe2\x9c\x85 )?(" + word + rb" \d*)(?: .*)?")
    seen = False
    for line in marked_lines(log, word + b" "):
        if match := whole.fullmatch(line.text):
            seen = True
            yield _to_step(match, line, form.numbering, where)
        elif torn := begun.match(line.text) or (
            seen and not line.ended and unfinished.fullmatch(line.text)
        ):
            name = torn[torn.lastindex or 0].decode()
            raise LogFormatError(f"{where}: {name} at byte {line.start} is not a whole step line")


def refuse_none(form: CompletedLine, log: Log, where: str) -> None:
    """Say that a log has no such line.

    Raises:
        NotThisFormatError: Always.
    """
    kind = "a binary file" if looks_binary(log) else f"no {form.numbering.word} line in it"
    raise NotThisFormatError(f"{where}: {kind}; expected lines such as {form.example!r}")


def _to_step(match: re.Match[bytes], line: Line, numbering: Numbering, where: str) -> LogStep:
    ar = int(match["index"]) - numbering.first
    if ar < 0:
        raise LogFormatError(f"{where}: {numbering.name(ar)}, but they count from 1")
    stages = _STAGE.findall(match["stages"].decode("ascii"))
    stages_ms = by_name(stages, numbering.name(ar), where)
    total_ms = float(match["total"])
    kv_update_ms = sum(ms for stage, ms in stages_ms.items() if is_kv_update(stage))
    printed = match.groupdict().get("without")
    step = LogStep(
        ar=ar,
        rank=int(match["rank"] or 0),
        stages_ms=stages_ms,
        total_wo_finalize_ms=float(printed) if printed else round(total_ms - kv_update_ms, 2),
        total_ms=total_ms,
        memory_peak_gib=None,
        byte_start=line.start,
        byte_end=line.end,
    )
    check_sums(step, _ROUNDING_MS, numbering, where)
    return step
