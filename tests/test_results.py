"""Committed results stay sound and legible, whatever was added to the formats since."""

import filecmp
import shutil

import pytest

from harness.environments import PROJECT_DIR
from tests.command import fdbench

RESULTS = sorted(path.parent for path in (PROJECT_DIR / "docs" / "results").glob("*/run.json"))


@pytest.mark.parametrize("committed", RESULTS, ids=lambda path: path.name)
def test_committed_run_is_sound_and_renders_the_same(tmp_path, committed):
    """Every file is as the manifest says, and the report is made again byte for byte."""
    copy = tmp_path / committed.name
    shutil.copytree(committed, copy)
    shutil.rmtree(copy / "report")

    checked, rendered = fdbench("fsck", copy), fdbench("report", copy)

    assert (checked.code, rendered.code) == (0, 0), checked.text + rendered.text
    pages = [path.name for path in (committed / "report").iterdir()]
    assert filecmp.cmpfiles(committed / "report", copy / "report", pages, shallow=False)[0] == pages
