"""``fdbench ... | head -1``: what is printed into a closed pipe is lost, and the code is not."""

import shutil
import subprocess

import pytest

from tests.command import FDBENCH, fdbench
from tests.fakes.command import fdbench as fdbench_here

pytestmark = pytest.mark.contract


def unread(*words):
    """Code and standard error of a command whose standard output nobody reads any more."""
    with subprocess.Popen(
        [str(FDBENCH), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        started.stdout.close()
        said = started.stderr.read()
    return started.returncode, said


def head(*words):
    """The same of both streams through ``head``, as people type it."""
    line = '"$@" 2>&1 | head -n 1; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", line, "bash", str(FDBENCH), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.count("\n")


@pytest.mark.slow
@pytest.mark.parametrize("flag", [[], ["--json"]], ids=["text", "json"])
def test_verdict_stands(fake_run, tmp_path, flag):
    """A pass stays 0 and an altered run stays 7: neither becomes "slower than allowed"."""
    altered = shutil.copytree(fake_run, tmp_path / "run")
    next((altered / "logs").glob("*/log.txt")).write_text("other")

    assert unread("check", fake_run, *flag) == (0, "")
    assert unread("fsck", fake_run, *flag) == (0, "")
    assert unread("fsck", altered, *flag) == (7, "")


@pytest.mark.slow
def test_head_reads_one_line(fake_run):
    """No traceback and no complaint after it."""
    code = fdbench("check", fake_run).code

    assert head("check", fake_run) == (code, 1)


@pytest.mark.parametrize(
    "words", [["plan", "--suite", "per-step", "--gpu", "h200"], ["list", "recipes"]]
)
def test_command_without_a_verdict_ends_as_by_the_signal(words):
    """As other programs do that a closed pipe ends."""
    assert unread(*words) == (141, "")


def test_message_that_nobody_reads_is_no_verdict():
    """Standard error may be closed as well."""
    with subprocess.Popen(
        [str(FDBENCH), "check", "no-such-run"], stderr=subprocess.PIPE, text=True
    ) as started:
        started.stderr.close()

    assert started.returncode == 141


def test_other_broken_pipe_is_told(monkeypatch):
    """One that is not of standard output, such as that of a container engine."""

    def breaks(*_):
        raise BrokenPipeError(32, "Broken pipe", "engine")

    monkeypatch.setattr("harness.cli.check.open_run", breaks)
    done = fdbench_here("check", "run")

    assert done.code == 5
    assert "engine: Broken pipe" in done.err
