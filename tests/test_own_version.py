"""``fdbench --version`` and ``run.json`` name the code that judged, not only its version."""

import json
import re
import subprocess
from importlib.metadata import Distribution, version

import pytest

from harness.machine import own_version
from harness.machine.fingerprint import read_machine
from harness.store.run import open_run
from tests.fakes.command import fdbench

pytestmark = pytest.mark.contract

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder, *words):
    """Run git as somebody; returns what it prints."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    words = ["git", *who, "-C", str(folder), *words]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """A repository with code in it."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "a.py").write_text("x = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


class Installed(Distribution):
    """A distribution whose files are in a folder, with what pip recorded of its origin."""

    def __init__(self, folder, recorded):
        self._folder, self._recorded = folder, recorded

    def read_text(self, filename):
        """The record of PEP 610."""
        return self._recorded if filename == "direct_url.json" else None

    def locate_file(self, path):
        """Where it is installed."""
        return self._folder / path


def test_version_names_the_code():
    """Version, and a commit or a digest; the same for people and in a run."""
    done = fdbench("--version")

    said = (
        rf"fdbench {re.escape(version('fdbench'))} \((commit|code) [0-9a-f]{{7}}( \+ changes)?\)\n"
    )
    assert re.fullmatch(said, done.out)
    assert done.out == f"fdbench {read_machine().fdbench}\n"


def test_run_keeps_the_code_of_each_worker(fake_run):
    """Of the first, and of every one that added to it."""
    record = open_run(fake_run).read_record()

    assert record.machine.fdbench == own_version.own_version()
    assert [worker.machine.fdbench for worker in record.workers] == [own_version.own_version()]


def test_clone_is_named_by_its_commit(clone):
    """With a mark where the code differs from it, be it by a file that git does not know yet."""
    clean = own_version._of_clone(clone)
    (clone / "notes.txt").write_text("nothing that judges")
    beside = own_version._of_clone(clone)
    (clone / "harness" / "b.py").write_text("y = 2\n")

    assert clean == beside == f"commit {git(clone, 'rev-parse', 'HEAD')[:7]}"
    assert own_version._of_clone(clone) == f"{clean} + changes"


def test_folder_inside_another_clone_is_none(clone):
    """An environment that stands in somebody's repository is not of its commit."""
    assert own_version._of_clone(clone / "harness") == ""


def test_clone_without_git_falls_back(clone, monkeypatch):
    """No git, no commit; the digest stands for it."""
    monkeypatch.setenv("PATH", "")

    assert own_version._of_clone(clone) == ""


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        pytest.param(
            json.dumps({"url": "x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}),
            "commit 0123456",
            id="fetched-by-pip",
        ),
        pytest.param(json.dumps({"url": "x", "dir_info": {}}), "", id="from-a-folder"),
        pytest.param(None, "", id="from-an-index"),
    ],
)
def test_fetched_commit_is_that_of_pip(tmp_path, monkeypatch, recorded, said):
    """As PEP 610 records it, and only of the code that runs."""
    monkeypatch.setattr(own_version, "_ROOT", tmp_path)

    assert own_version._of_fetched(Installed(tmp_path, recorded)) == said
    assert own_version._of_fetched(Installed(tmp_path / "elsewhere", recorded)) == ""


def test_digest_is_of_the_code_alone(clone):
    """Names and content count; what Python compiled does not."""
    before = own_version.code_digest(clone)
    (clone / "harness" / "__pycache__").mkdir()
    (clone / "harness" / "__pycache__" / "a.pyc").write_text("compiled")
    (clone / "runs").mkdir()
    (clone / "runs" / "x").write_text("a run")
    assert own_version.code_digest(clone) == before

    (clone / "harness" / "a.py").rename(clone / "harness" / "c.py")
    assert own_version.code_digest(clone) != before
