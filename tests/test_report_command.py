"""``fdbench report``: where the pages go, where their links lead, and what is told meanwhile."""

import os
import pty
import re
import shutil
import subprocess
from urllib.parse import unquote

import pytest

from reports.render import render_run
from tests.command import FDBENCH
from tests.fakes.command import fdbench

pytestmark = pytest.mark.contract

PAGES = ("index.html", "published.html", "report.md")
ADDRESS = re.compile(r'href="([^"#]+)"|\]\(([^)#]+)\)')


def addresses(folder):
    """What the pages in a folder link to, by page."""
    for name in PAGES:
        for found in ADDRESS.finditer((folder / name).read_text("utf-8")):
            address = found[1] or found[2].replace("\\", "")
            if not address.startswith("https:"):
                yield unquote(address)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["pages", "a b/c (d)", "run/elsewhere", "run/report"])
def test_links_lead_to_the_run_from_anywhere(fake_run, tmp_path, place):
    """Logs and manifest, relative to where the pages are."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    shutil.rmtree(run / "report", ignore_errors=True)
    out = tmp_path / place
    done = fdbench("report", run, "--out", out)
    found = list(addresses(out))

    assert (done.code, done.out) == (0, f"report: {out / 'index.html'}\n")
    assert sum(address.endswith("/log.txt") for address in found) >= 2
    assert any(address.endswith("/MANIFEST.jsonl") for address in found)
    assert [address for address in found if not (out / address).exists()] == []
    assert (run / "report").exists() == (place == "run/report")


@pytest.mark.slow
def test_relative_paths_are_those_of_the_shell(fake_run, tmp_path, monkeypatch):
    """Neither of them has to be absolute."""
    shutil.copytree(fake_run, tmp_path / "runs" / "run")
    monkeypatch.chdir(tmp_path / "runs")
    assert fdbench("report", "run", "--out", "../pages").code == 0

    assert [address for address in addresses(tmp_path / "pages") if "../runs/run/" in address]
    assert [a for a in addresses(tmp_path / "pages") if not (tmp_path / "pages" / a).exists()] == []


@pytest.mark.slow
def test_default_place_gives_the_same_bytes(fake_run, tmp_path):
    """Whether or not it is named."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    render_run(run)
    before = {name: (run / "report" / name).read_bytes() for name in PAGES}
    render_run(run, run / "report")

    assert {name: (run / "report" / name).read_bytes() for name in PAGES} == before


@pytest.mark.slow
def test_place_that_cannot_be_written_is_told_with_another(fake_run, tmp_path):
    """The same again, or --out."""
    run = shutil.copytree(fake_run, tmp_path / "run")
    (tmp_path / "file").touch()
    said = fdbench("report", run, "--out", tmp_path / "file" / "pages")

    assert said.code == 5
    assert f"Clear that place, then: fdbench report {run} --out {tmp_path / 'file'}" in said.err
    assert f"Or name another: fdbench report {run} --out DIR" in said.err


@pytest.mark.slow
def test_terminal_is_told_what_takes_time(fake_run, tmp_path):
    """On standard error; a pipe at standard output gets the one line."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [str(FDBENCH), "report", str(fake_run), "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as started:
        os.close(theirs)
        said = b""
        try:
            while block := os.read(ours, 4096):
                said += block
        except OSError:  # what Linux says when the other end is gone
            os.close(ours)
        printed = started.stdout.read()

    assert started.returncode == 0
    assert printed == f"report: {tmp_path / 'index.html'}\n"
    assert b"reading " in said
    assert b"drawing cell 1 of 1: " in said


@pytest.mark.slow
def test_pipe_is_told_nothing_else(fake_run, tmp_path):
    """No line, no escape sequence."""
    done = subprocess.run(
        [str(FDBENCH), "report", str(fake_run), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (done.stdout, done.stderr) == (f"report: {tmp_path / 'index.html'}\n", "")
