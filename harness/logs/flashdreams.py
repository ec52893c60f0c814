"""FlashDreams' per-step line, as the library logs it and as the recorder prints it.

``AR 5 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms total 424.593 ms``

Source: flashdreams 0.1.0, ``infra/pipeline/base.py``, ``StreamInferencePipeline.finalize``.
"""

import re
from collections.abc import Iterator

from harness.errors import LogFormatError
from harness.records import LogStep

_MAX_LINE_BYTES = 4096
"""Far above the longest step line; longer lines are skipped unread."""
_ROUNDING_MS = 0.0011
"""Each figure is rounded to 0.001 ms, so a sum of n may be off by half that times n + 1."""

_ANSI = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_LINE = re.compile(rb"[^\r\n]+")
_PREFIX = (
    rb"(?:\[(?:default|rank)(?P<rank>\d{1,5})\]:\s?)?"
    rb"(?:\d{4}-\d\d-\d\d [\d:.]+ \| [A-Z]+ +\| [\w.<>]+:[\w<>]+:\d+ - )?"
)
_STEP = re.compile(
    _PREFIX + rb"AR (?P<ar>\d{1,9}) (?P<stages>(?:\w+ \d{1,12}\.\d{3} ms )+)\| "
    rb"total\(w/o finalize\) (?P<without>\d{1,12}\.\d{3}) ms total (?P<total>\d{1,12}\.\d{3}) ms"
    rb"(?: \| GPU mem alloc \d+\.\d{3} GiB reserved \d+\.\d{3} GiB peak (?P<peak>\d+\.\d{3}) GiB)?"
    rb"\s*"
)
_STAGE = re.compile(rb"(\w+) (\d+\.\d{3}) ms")
_BEGUN = re.compile(_PREFIX + rb"(AR \d+) (?:\w+ \S+ ms |.*total\(w/o finalize\))")
"""A line that begins as a step; one that is not whole was torn, or has a figure that is none."""
_UNFINISHED = re.compile(_PREFIX + rb"AR(?: \d*(?: .*)?)?")


def parse(log: bytes, where: str) -> tuple[LogStep, ...]:
    """Return every AR step in order, rank by rank; exact duplicates collapse.

    Raises:
        LogFormatError: There is no step, one is missing, repeated with other figures or cut off, or
            its figures do not add up.
    """
    steps: dict[tuple[int, int], LogStep] = {}
    for step in _step_lines(log, where):
        _check_sums(step, where)
        known = steps.setdefault((step.rank, step.ar), step)
        if (known.stages_ms, known.total_ms) != (step.stages_ms, step.total_ms):
            raise LogFormatError(
                f"{where}: AR {step.ar} stands there twice with different figures, "
                f"at bytes {known.byte_start} and {step.byte_start}"
            )
    found = tuple(steps[key] for key in sorted(steps))
    _check_complete(found, log, where)
    return found


def _step_lines(log: bytes, where: str) -> Iterator[LogStep]:
    for line in _LINE.finditer(log):
        if line.end() - line.start() > _MAX_LINE_BYTES:
            continue
        text = _ANSI.sub(b"", line[0])
        match = _STEP.fullmatch(text)
        if match is None:
            if line.end() < len(log) and (begun := _BEGUN.match(text)):
                what = begun[2].decode()
                raise LogFormatError(
                    f"{where}: {what} at byte {line.start()} is no whole step line"
                )
            continue
        stages = _STAGE.findall(match["stages"])
        if len(dict(stages)) < len(stages):
            raise LogFormatError(f"{where}: AR {int(match['ar'])} names a stage twice")
        yield LogStep(
            ar=int(match["ar"]),
            rank=int(match["rank"] or 0),
            stages_ms={name.decode(): float(ms) for name, ms in stages},
            total_wo_finalize_ms=float(match["without"]),
            total_ms=float(match["total"]),
            memory_peak_gib=float(match["peak"]) if match["peak"] else None,
            byte_start=line.start(),
            byte_end=line.end(),
        )


def _check_sums(step: LogStep, where: str) -> None:
    tolerance = _ROUNDING_MS * (len(step.stages_ms) + 1)
    without = step.total_ms - step.stages_ms.get("finalize", 0.0)
    if (
        abs(sum(step.stages_ms.values()) - step.total_ms) > tolerance
        or abs(without - step.total_wo_finalize_ms) > tolerance
    ):
        raise LogFormatError(
            f"{where}: the figures of AR {step.ar} at byte {step.byte_start} do not add up"
        )


def _check_complete(steps: tuple[LogStep, ...], log: bytes, where: str) -> None:
    if not steps:
        kind = "a binary file" if b"\0" in log[:65536] else "no AR step line in it"
        raise LogFormatError(
            f"{where}: {kind}; expected lines such as "
            "'AR 0 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms ...'"
        )
    for rank in {step.rank for step in steps}:
        indices = [step.ar for step in steps if step.rank == rank]
        missing = next((ar for ar, found in enumerate(indices) if ar != found), None)
        if missing is not None:
            raise LogFormatError(f"{where}: AR {missing} is missing (rank {rank} has {indices})")
    last = _ANSI.sub(b"", log[-_MAX_LINE_BYTES:].replace(b"\r", b"\n").rpartition(b"\n")[2])
    if _UNFINISHED.fullmatch(last) and not _STEP.fullmatch(last):
        raise LogFormatError(
            f"{where}: ends in the middle of a step line after AR {steps[-1].ar}: {last[-60:]!r}"
        )
