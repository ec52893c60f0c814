"""LingBot-World's and LightX2V's chunk line, as FlashDreams' harnesses print it.

``Chunk 5 completed in 1475.74ms (wo_finalize 1189.69ms, x0 shape (16, 3, 58, 104)) | denoise
1189.69ms kv_update 286.05ms`` (one line)

Reads ``Robbyant/lingbot-world@9660e94`` and ``ModelTC/LightX2V@caf1056`` with the ``changes.patch``
of ``NVIDIA/flashdreams@d5c4ce0``: ``integrations/lingbot/tests/{parity_check,baseline_lightx2v}``.
``ar`` is the chunk, from 0; ``stages_ms`` and both totals are as printed, without any decode.

Every rank prints the line, most often without its number, and LightX2V prints and logs it. Exact
duplicates collapse. Of lines without a rank that stand together, one for each process, the slowest
is kept as rank 0: a chunk is done when its last rank is.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from harness.errors import LogFormatError
from harness.logs.completed import CompletedLine, completed_steps, refuse_none
from harness.logs.lines import Log
from harness.logs.sequence import Numbering, in_order, same_figures
from harness.records import LogStep

_FORM: Final = CompletedLine(
    numbering=Numbering(word="Chunk"),
    brackets=rb"wo_finalize (?P<without>\d{1,12}\.\d\d)ms, x0 shape \(\d+(?:, \d+)*,?\)",
    example="Chunk 5 completed in …ms (wo_finalize …ms, x0 shape (…)) | denoise …ms kv_update …ms",
)


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return every chunk in order, rank by rank; exact duplicates collapse.

    Raises:
        LogFormatError: There is no chunk, one is missing or cut off, its figures do not add up,
            there are two runs, or lines of several processes cannot be told apart.
    """
    steps = _slowest(completed_steps(_FORM, log, where), where)
    found = in_order(steps, _FORM.numbering, where)
    if not found:
        refuse_none(_FORM, log, where)
    return found


def _slowest(steps: Iterable[LogStep], where: str) -> Iterator[LogStep]:
    """The slowest of neighbouring lines of one chunk and rank.

    Raises:
        LogFormatError: Chunks have different numbers of lines.
    """
    processes: dict[int, tuple[int, LogStep]] = {}
    for (rank, _), group in groupby(steps, key=lambda step: (step.rank, step.ar)):
        lines = list(group)
        slowest = max(lines, key=lambda step: step.total_ms)
        alike = all(same_figures(line, slowest) for line in lines)
        count, first = processes.setdefault(rank, (1 if alike else len(lines), slowest))
        if count != (1 if alike else len(lines)):
            raise LogFormatError(
                f"{where}: Chunk {slowest.ar} has {len(lines)} lines and Chunk {first.ar} has "
                f"{count}; label ranks with torchrun --tee 3"
            )
        yield slowest
