"""FlashDreams' ``docs/benchmarks/benchmark_results.json``, schema 1.0.0.

Reads ``NVIDIA/flashdreams@d5c4ce0`` (``docs/benchmarks/schema.md``). Metrics in milliseconds become
figures, those of other units do not; ``total_ms`` of LingBot is what the file says, although it is
the DiT alone. A record that is ``missing`` or ``oom`` keeps its slots, without a value.
"""

from collections.abc import Iterator
from typing import Any, Final

from harness.errors import LogFormatError
from harness.imported_records import PublishedFigure
from harness.logs import json_items
from harness.logs.figures import without_repeats
from harness.logs.lines import Log, NotThisFormatError

_SCHEMA: Final = "1.0.0"
_STATUSES: Final = ("pass", "oom", "missing")
_WORDS: Final = ("workload", "hardware", "parallelism", "method", "status")


def parse(log: Log, where: str) -> tuple[PublishedFigure, ...]:
    """Return every figure and kept slot of the file, in its order.

    Raises:
        LogFormatError: It is no such file, of another schema, or a record is not of that schema.
    """
    text = json_items.read_text(log, "{", where)
    whole, _ = json_items.decode(text, text.index("{"), where)
    if "schema_version" not in whole or not isinstance(whole.get("records"), list):
        raise NotThisFormatError(f"{where}: no schema_version and records in it")
    if whole["schema_version"] != _SCHEMA:
        raise LogFormatError(f"{where}: schema {whole['schema_version']!r}, not {_SCHEMA}")
    opening = text.find("[", text.find('"records"'))
    records = list(json_items.items(text, opening, where)) if opening >= 0 else []
    if [item for item, _, _ in records] != whole["records"]:
        raise LogFormatError(f"{where}: its records are not the list behind the word records")
    figures = [figure for record in records for figure in _figures(record, where)]
    if not any(figure.value_ms is not None for figure in figures):
        raise LogFormatError(f"{where}: no record of it has a figure")
    return without_repeats(figures, where)


def _figures(record: json_items.Item, where: str) -> Iterator[PublishedFigure]:
    item, start, end = record
    for key in _WORDS:
        if not isinstance(item.get(key), str):
            raise LogFormatError(f"{where}: the record at byte {start} has no {key}")
    if item["status"] not in _STATUSES:
        raise LogFormatError(f"{where}: unknown status {item['status']!r} at byte {start}")
    metrics: Any = item.get("metrics")
    if not isinstance(metrics, dict):
        raise LogFormatError(f"{where}: the record at byte {start} has no metrics")
    for metric, value in metrics.items():
        if metric.endswith("_ms") and (value is not None or item["status"] != "pass"):
            if value is not None and item["status"] != "pass":
                raise LogFormatError(f"{where}: {metric} at byte {start} is {item['status']}")
            yield PublishedFigure(
                workload=f"{item['workload']} {item['parallelism']}",
                device=item["hardware"],
                method=item["method"],
                metric=metric,
                status=item["status"],
                value_ms=json_items.measured(value, metric, where) if value is not None else None,
                byte_start=start,
                byte_end=end,
            )
