"""What a test puts into a run's folder by hand, and takes out of it again."""

import json

from harness.machine.fingerprint import Machine
from harness.store.run_record import EnvironmentRecord, RunRecord, RunState
from harness.store.tables import KEYS, part_of
from tests.fakes import samples

MACHINE = Machine(
    cpu="EPYC",
    cores=2,
    memory_gib=23.5,
    system="Linux",
    python="3.11",
    fdbench="0.1.0",
    gpus=("NVIDIA H100",),
    driver="580",
)


def environment(**changes):
    """An environment as a run keeps it."""
    values = {
        "description": "FlashDreams",
        "packages": ("torch==2.13.0",),
        "reason_no_deps": "",
        "digest": "e1" * 32,
        "code_digest": "5b" * 32,
    }
    return EnvironmentRecord(**(values | changes))


def record(**changes):
    """``run.json`` of a finished run of one cell."""
    values = {
        "suite": "smoke",
        "suite_file": "smoke",
        "sources": {},
        "description": "One recipe",
        "device": "cpu",
        "size": "tiny",
        "weights": "synthetic",
        "weights_seed": 0,
        "started": "2026-11-23T15:17:52+00:00",
        "finished": "2026-11-23T15:19:05+00:00",
        "state": RunState.FINISHED,
        "machine": MACHINE,
        "sandbox": "process",
        "cells": (samples.CELL,),
        "plan": (),
        "unsupported": (),
        "environments": {"flashdreams": environment()},
    }
    return RunRecord(**(values | changes))


def write_rows(store, rows, row_type):
    """Write rows of trials, verdicts or distances, each to the part that it belongs to."""
    parts = {}
    for row in rows:
        parts.setdefault(part_of(getattr(row, KEYS[row_type])), []).append(row)
    for part, own in parts.items():
        store.write_rows(own, row_type, part)


def forget(run, name):
    """Take a file out of a run, and every line about it out of the manifest."""
    (run / name).unlink()
    drop_lines(run, f'"{name}"')


def drop_lines(run, text):
    """Take the lines with a text in them out of the manifest."""
    manifest = run / "MANIFEST.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if text not in line))


def manifest_of(run):
    """Path to the last entry about it, as the manifest has it."""
    _, *lines = (run / "MANIFEST.jsonl").read_text().splitlines()
    return {entry["path"]: entry for entry in map(json.loads, lines)}
