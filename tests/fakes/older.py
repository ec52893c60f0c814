"""A run as an earlier fdbench left it: what is stored now, laid out as it was then."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runners.protocol.wire import sha256_file

VERSION = {b"fdbench_schema": b"2"}
FORMER_NAMES = {"workers": "sittings", "kernel_time": "roofline"}
LATER = {
    "steps": (
        *("began_s", "ended_s", "told_s", "arrival_s"),
        *("energy_j", "preempted", "allocator_peak_gib"),
    ),
    "telemetry": ("memory_gib",),
    "trials": (
        *("gpu_memory_peak_gib", "cpu_waited_percent"),
        *("memory_waited_percent", "io_waited_percent"),
    ),
}
"""Columns that no version of schema 2 had."""
LATER_OF_EVENTS = ("began_at_s", "ended_at_s", "told_at_s", "memory_peak_gib", "preempted")
LATER_OF_TRIALS = ("launched_at_s", "arrivals", "waited_us")
KEYS = {"trials": "trial_id", "pairs": "cell_id", "parity": "cell_id"}


@dataclass(frozen=True)
class Layout:
    """What one version of schema 2 lacked."""

    keys: tuple[str, ...] = ()
    """Of ``run.json``."""
    environment_keys: tuple[str, ...] = ()
    parity_columns: tuple[str, ...] = ()
    has_copy: bool = True


LAYOUTS = {
    "before the tables had parts": Layout(),
    "before frames were captured": Layout(parity_columns=("capture", "psnr_db", "ssim")),
    "before times were planned": Layout(keys=("not_chosen", "estimated_s", "passed")),
    "before kernels were timed": Layout(keys=("kernel_time", "workers"), has_copy=False),
    "before there were images": Layout(
        keys=("not_chosen", "estimated_s", "passed", "kernel_time", "workers"),
        environment_keys=("image", "installed"),
        parity_columns=("capture", "psnr_db", "ssim"),
        has_copy=False,
    ),
}


def age(run: Path, layout: Layout) -> None:
    """Lay a run out as an earlier version did."""
    pruned = {
        entry["path"]
        for entry in map(json.loads, (run / "MANIFEST.jsonl").read_text().splitlines())
        if entry.get("pruned")
    }
    digests = {name: entry_of(run, name) for name in pruned}
    age_record(run, layout)
    age_tables(run, layout)
    for path in run.glob("logs/*/trial.json"):
        age_trial(path)
    write_manifest(run, digests)


def age_trial(path: Path) -> None:
    """The record of a trial and its events without what came later."""
    values = json.loads(path.read_text()) | {"schema": 2, "digest": ""}
    events = path.with_name("events.jsonl")
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    for line in lines:
        for name in LATER_OF_EVENTS:
            line.get("step", {}).pop(name, None)
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    values["files"]["events.jsonl"] = sha256_file(events)
    values = {name: value for name, value in values.items() if name not in LATER_OF_TRIALS}
    values["digest"] = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    path.write_text(json.dumps(values))


def age_record(run: Path, layout: Layout) -> None:
    """One line a key, sealed; keys that say nothing were not there."""
    values = json.loads((run / "run.json").read_text())
    for key in (*layout.keys, "sha256"):
        values.pop(key, None)
    values = {FORMER_NAMES.get(key, key): value for key, value in values.items()} | {"schema": 2}
    values = {k: v for k, v in values.items() if k not in ("finished", "pruned") or v}
    for environment in values["environments"].values():
        for key in layout.environment_keys:
            del environment[key]
    text = json.dumps(values, sort_keys=True)
    values["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    for name in ("run.json", "run.copy.json"):
        (run / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")
    if not layout.has_copy:
        (run / "run.copy.json").unlink()


def age_tables(run: Path, layout: Layout) -> None:
    """Trials, verdicts and distances in a file each, in the order of the plan."""
    plan = json.loads((run / "run.json").read_text())["plan"]
    names = [t["trial_id"] + s for cell in plan for t in cell["trials"] for s in ("", ".again")]
    names += [cell["cell_id"] for cell in plan]
    for path in [*run.glob("steps/*.parquet"), *run.glob("telemetry/*.parquet")]:
        write(pq.read_table(path).drop_columns(list(LATER[path.parent.name])), path)
    for name, key in KEYS.items():
        parts = sorted(
            (pq.read_table(path) for path in (run / name).glob("*.parquet")),
            key=lambda table, key=key: names.index(table[key][0].as_py()) if len(table) else -1,
        )
        if parts:
            table = pa.concat_tables(parts)
            lacks = layout.parity_columns if name == "parity" else LATER.get(name, ())
            write(table.drop_columns(list(lacks)), run / f"{name}.parquet")
        for path in (run / name).glob("*"):
            path.unlink()
        if (run / name).is_dir():
            (run / name).rmdir()


def write(table: pa.Table, path: Path) -> None:
    """Write a table as one of schema 2."""
    pq.write_table(table.replace_schema_metadata(VERSION), path, write_page_checksum=True)


def entry_of(run: Path, name: str) -> str:
    """Digest that the manifest has of a file."""
    entries = map(json.loads, (run / "MANIFEST.jsonl").read_text().splitlines()[1:])
    return next(entry["sha256"] for entry in entries if entry["path"] == name)


def write_manifest(run: Path, pruned: dict[str, str]) -> None:
    """Each file once, sorted."""
    folders = ("steps", "telemetry", "logs", "captures")
    paths = [*run.glob("*.parquet"), run / "run.json", *run.glob("run.copy.json")]
    paths += [path for name in folders for path in (run / name).rglob("*") if path.is_file()]
    entries = {str(path.relative_to(run)): {"sha256": sha256_file(path)} for path in paths}
    entries |= {name: {"sha256": digest, "pruned": True} for name, digest in pruned.items()}
    lines = [{"path": name, **entries[name]} for name in sorted(entries)]
    text = "".join(json.dumps(line) + "\n" for line in ({"schema": 2}, *lines))
    (run / "MANIFEST.jsonl").write_text(text)
