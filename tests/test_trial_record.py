"""``trial.json`` proves itself, whatever fields a later fdbench knows."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import IntegrityFault
from harness.trials.trial_record import (
    TRIAL_FILE,
    Arrival,
    TrialRecord,
    read_record,
    write_record,
)

pytestmark = pytest.mark.unit

COMMITTED = sorted((Path(__file__).parent.parent / "docs" / "results").glob("*/logs/*/trial.json"))
RECORD = TrialRecord(
    schema=3,
    trial_id="a.candidate.flashdreams.0",
    cell_id="a/cpu/b",
    role="candidate",
    side="flashdreams",
    process=0,
    outcome="completed",
    reason="",
    exit_status=0,
    wall_s=5.0,
    first_step_s=1e-7,
    started="2026-01-01T00:00:00+00:00",
    ended="2026-01-01T00:00:05+00:00",
    environment_digest="e",
    code_digest="c",
    files={},
    captures={},
    launched_at_s=12345.678901234567,
    arrivals=(Arrival(at_s=12346.1, energy_j=1e9), Arrival(at_s=12347.0, energy_j=None)),
    waited_us={"cpu": 12, "io": 0},
)


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, waited_us=None)])
def test_record_is_read_as_written(tmp_path, record):
    """What is null, empty or nested comes back, and the digest holds."""
    (tmp_path / "log.txt").write_text("a log")
    written = write_record(tmp_path, record)

    assert read_record(tmp_path) == written
    assert written.files == {"log.txt": hashlib.sha256(b"a log").hexdigest()}


def test_committed_records_are_read():
    """They were written before arrivals were, and their digests are of what they have."""
    assert len(COMMITTED) > 50
    records = [read_record(path.parent) for path in COMMITTED]

    assert {record.arrivals for record in records} == {()}
    assert {record.launched_at_s for record in records} == {None}
    assert not [path for path in COMMITTED if "arrivals" in path.read_text()]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"wall_s": 1.0}, id="altered"),
        pytest.param({"launched_at_s": 1.0}, id="field-that-came-later"),
        pytest.param({"arrivals": [{"at_s": 1.0, "energy_j": None}]}, id="arrivals-added"),
        pytest.param({"digest": "0" * 64}, id="another-digest"),
        pytest.param({"digest": ""}, id="no-digest"),
    ],
)
def test_altered_record_is_found(tmp_path, change):
    """A field that an older record does not have cannot be slipped into it."""
    shutil.copyfile(COMMITTED[0], tmp_path / TRIAL_FILE)
    values = json.loads(COMMITTED[0].read_text()) | change
    (tmp_path / TRIAL_FILE).write_text(json.dumps(values))

    with pytest.raises(IntegrityFault, match="was altered"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"schema": 3}', id="nothing-in-it"),
        pytest.param('{"schema": 3, "wall_s": NaN}', id="nan"),
    ],
)
def test_what_is_no_record_is_a_fault(tmp_path, text):
    """Never a traceback, and never a shorter record."""
    (tmp_path / TRIAL_FILE).write_text(text)

    with pytest.raises(IntegrityFault, match="cannot be read"):
        read_record(tmp_path)
