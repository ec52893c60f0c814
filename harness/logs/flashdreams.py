"""FlashDreams' per-step line, as the library logs it and as the recorder prints it.

``AR 5 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms total 424.593 ms``

Reads flashdreams 0.1.0 (``dc9e5c0``), the same at ``d5c4ce0``: ``infra/pipeline/base.py``,
``StreamInferencePipeline.finalize``. Stages are an open set; FlashVSR has its own. The KV update is
``finalize``.
"""

import re
from collections.abc import Iterator

from harness.errors import LogFormatError
from harness.logs.lines import PREFIX, Line, Log, NotThisFormatError, looks_binary, marked_lines
from harness.logs.sequence import Numbering, check_sums, in_order
from harness.logs.stages import by_name
from harness.records import LogStep

_ROUNDING_MS = 0.0011
"""Each figure is rounded to 0.001 ms, so a sum of n may be off by half that times n + 1."""
_AR = Numbering(word="AR")
_STEP = re.compile(
    PREFIX + rb"AR (?P<ar>\d{1,9}) (?P<stages>(?:\w+ \d{1,12}\.\d{3} ms )+)\| "
    rb"total\(w/o finalize\) (?P<without>\d{1,12}\.\d{3}) ms total (?P<total>\d{1,12}\.\d{3}) ms"
    rb"(?: \| GPU mem alloc \d+\.\d{3} GiB reserved \d+\.\d{3} GiB peak (?P<peak>\d+\.\d{3}) GiB)?"
    rb"\s*"
)
_STAGE = re.compile(r"(\w+) (\d+\.\d{3}) ms", re.ASCII)
_BEGUN = re.compile(PREFIX + rb"(AR -?\d+) (?:\w+ \S+ ms |.*total\(w/o finalize\))")
"""A line that begins as a step; one that is not whole was torn, or has a figure that is none."""
_UNFINISHED = re.compile(PREFIX + rb"AR(?: \d*(?: .*)?)?")


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return every AR step in order, rank by rank; exact duplicates collapse.

    Raises:
        LogFormatError: There is no step, one is missing, repeated with other figures or cut off,
            its figures do not add up, or there are two runs.
    """
    found = in_order(_steps(log, where), _AR, where)
    if not found:
        kind = "a binary file" if looks_binary(log) else "no AR step line in it"
        raise NotThisFormatError(
            f"{where}: {kind}; expected lines such as "
            "'AR 0 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms ...'"
        )
    return found


def _steps(log: Log, where: str) -> Iterator[LogStep]:
    last_ar = -1
    for line in marked_lines(log, b"AR "):
        match = _STEP.fullmatch(line.text)
        if match is None:
            _refuse_torn(line, last_ar, where)
            continue
        step = _to_step(match, line, where)
        check_sums(step, _ROUNDING_MS, _AR, where)
        last_ar = step.ar
        yield step


def _to_step(match: re.Match[bytes], line: Line, where: str) -> LogStep:
    ar = int(match["ar"])
    stages = _STAGE.findall(match["stages"].decode("ascii"))
    return LogStep(
        ar=ar,
        rank=int(match["rank"] or 0),
        stages_ms=by_name(stages, _AR.name(ar), where),
        total_wo_finalize_ms=float(match["without"]),
        total_ms=float(match["total"]),
        memory_peak_gib=float(match["peak"]) if match["peak"] else None,
        byte_start=line.start,
        byte_end=line.end,
    )


def _refuse_torn(line: Line, last_ar: int, where: str) -> None:
    if line.ended and (begun := _BEGUN.match(line.text)):
        raise LogFormatError(
            f"{where}: {begun[2].decode()} at byte {line.start} is no whole step line"
        )
    # Only behind a step: a file of the two letters AR is no torn log.
    if not line.ended and last_ar >= 0 and _UNFINISHED.fullmatch(line.text):
        raise LogFormatError(
            f"{where}: ends in the middle of a step line after AR {last_ar}: {line.text[-60:]!r}"
        )
