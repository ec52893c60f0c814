"""docs/FORMAT.md names every field, column and key there is, and none that is gone."""

import dataclasses
import re

import pytest

from harness import records
from harness.environments.declared import PROJECT_DIR, Environment
from harness.integrity.import_record import ImportRecord
from harness.plan import suites
from harness.store import schema
from harness.store.run_record import RunRecord
from harness.store.version import SCHEMA_VERSION
from harness.trials.trial_record import Arrival, TrialRecord
from runners.protocol import requests, wire

pytestmark = pytest.mark.unit

TEXT = (PROJECT_DIR / "docs" / "FORMAT.md").read_text()
LONGEST = 320


def own_records(module):
    """Dataclasses that a module declares."""
    return [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    ]


RECORDS = [
    *own_records(wire),
    *own_records(requests),
    *own_records(suites),
    records.ExpectedDifference,
    Environment,
    records.Source,
    TrialRecord,
    Arrival,
    ImportRecord,
]


def section(heading, level="###"):
    """Text under a heading."""
    found = re.search(
        rf"^{level} {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/FORMAT.md has no section {heading}"
    return found[1]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_record_is_documented(record):
    """Its section lists exactly the fields of a record, in order."""
    listed = re.findall(r"`(\w+)`", section(record.__name__).partition("Fields: ")[2])

    assert listed == [item.name for item in dataclasses.fields(record)]


@pytest.mark.parametrize("row_type", schema.TABLES, ids=schema.TABLES.get)
def test_table_is_documented(row_type):
    """Every column stands there with type and unit, in order."""
    columns = re.findall(
        r"`(\w+)` `?([^\s`]+?)`?,?(?:\s\[([^\]]+)\])?(?=,?\s)", section(schema.TABLES[row_type])
    )

    assert columns == [
        (column.name, str(column.type).replace(" ", ""), column.metadata[b"unit"].decode())
        for column in schema.schema_of(row_type)
    ]


def test_no_section_is_of_something_gone():
    """Each section is of a record or a table that exists."""
    known = {record.__name__ for record in RECORDS} | set(schema.TABLES.values()) | {"Step line"}

    assert set(re.findall(r"^### (.+)$", TEXT, re.MULTILINE)) == known


def test_run_file_is_documented():
    """Every key that a run writes stands there, and no other."""
    listed = re.findall(r"^- `(\w+)`", section("run.json", "##"), re.MULTILINE)

    assert {*listed} == {item.name for item in dataclasses.fields(RunRecord)} | {"schema"}
    assert len(listed) == len({*listed})


def test_versions_are_those_of_the_code():
    """The page names the versions that the code reads."""
    assert f"schema version {SCHEMA_VERSION}," in TEXT
    assert f"protocol version {wire.PROTOCOL_VERSION}." in TEXT


def test_page_is_short():
    """A reader finds what they look for."""
    assert TEXT.count("\n") <= LONGEST
