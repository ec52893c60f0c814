"""Self-Forcing's block line, as FlashDreams' harness prints it on the upstream side.

``✅ Block 6 completed in 474.86ms (12 frames) | denoise 350.12ms kv_update 86.74ms decode 38.00ms``

Reads ``guandeh17/Self-Forcing@33593df`` with ``integrations/self_forcing/tests/parity_check/
changes.patch`` of ``NVIDIA/flashdreams@d5c4ce0``. Blocks count from 1: ``ar`` is the block
less one. ``stages_ms`` is as printed; the last block has no ``kv_update``. ``total_ms`` is printed,
``total_wo_finalize_ms`` is it less ``kv_update``, decode included.
"""

from typing import Final

from harness.logs.completed import CompletedLine, completed_steps, refuse_none
from harness.logs.lines import Log
from harness.logs.sequence import Numbering, in_order
from harness.records import LogStep

_FORM: Final = CompletedLine(
    numbering=Numbering(word="Block", first=1),
    brackets=rb"\d{1,9} frames",
    example="✅ Block 6 completed in …ms (12 frames) | denoise …ms kv_update …ms decode …ms",
)


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return every block in order, rank by rank; exact duplicates collapse.

    Raises:
        LogFormatError: There is no block, one is missing, repeated with other figures or cut off,
            its figures do not add up, or there are two runs.
    """
    found = in_order(completed_steps(_FORM, log, where), _FORM.numbering, where)
    if not found:
        refuse_none(_FORM, log, where)
    return found
