"""Commands that the documents show work as they are written."""

import re
import shlex
import shutil
import subprocess

import pytest
from markdown_it import MarkdownIt

from harness.environments.declared import PROJECT_DIR
from harness.errors import ExitCode
from tests.fakes.command import fdbench

pytestmark = pytest.mark.contract

DOCUMENTS = ("README.md", "docs/GPU.md")
NOT_TYPED_HERE = {
    ("doctor",): "tells what this machine lacks, by its exit code too",
    ("env", "bundle"): "downloads gigabytes",
    ("env", "build"): "the same",
}
"""Commands of which only the help is asked for, and why."""


def shown(program) -> list[list[str]]:
    """Commands of one program, as words, in the order of the documents."""
    lines = []
    for name in DOCUMENTS:
        text = (PROJECT_DIR / name).read_text()
        blocks = [t.content for t in MarkdownIt().parse(text) if t.type == "fence"]
        code = re.sub(r"\\\n", " ", "\n".join(blocks))
        lines += [shlex.split(line, comments=True) for line in code.splitlines()]
    return [words[1:] for words in lines if words and words[0] == program]


def test_documents_show_commands():
    """Or the tests below would try nothing."""
    assert len(shown("fdbench")) > 15
    assert len(shown("make")) > 4


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what the commands read, as the current folder, with a cache of its own."""
    for name in ("docs/results/h200", "suites"):
        shutil.copytree(PROJECT_DIR / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("words", shown("fdbench"), ids=" ".join)
def test_fdbench_command_works_as_written(checkout, words):
    """A run is planned instead: its suites have tests of their own, and some need a GPU."""
    if words[0] == "run":
        flags = [word for word in words if word.startswith("--")]
        kept = [words[words.index(flag) + 1] for flag in ("--suite", "--gpu")]
        assert all(flag in fdbench("run", "--help").out for flag in flags)
        words = ["plan", "--suite", kept[0], "--gpu", kept[1]]
    elif any(tuple(words[: len(kind)]) == kind for kind in NOT_TYPED_HERE):
        flags = {word for word in words if word.startswith("--")}
        command = [word for word in words[:2] if not word.startswith("--")]
        told = fdbench(*command, "--help").out
        assert flags <= set(re.findall(r"--[\w-]+", told))
        words = [*command, "--help"]
    done = fdbench(*words)

    assert (done.code, done.err) == (ExitCode.PASS, ""), done.out
    assert done.out.strip()


@pytest.mark.parametrize("words", shown("make"), ids=" ".join)
def test_make_target_is_there(words):
    """``make`` knows how to do it."""
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=PROJECT_DIR, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", shown("uv"), ids=" ".join)
def test_flashdreams_run_knows_recipe_and_flags(flashdreams_env, words):
    """The published lines need a GPU; the same command without one tells its flags."""
    run, program, slug, *rest = words
    assert (run, program) == ("run", "flashdreams-run")
    done = subprocess.run(
        [str(flashdreams_env.folder / "bin" / program), slug, "--help"],
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **flashdreams_env.variables()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [flag for flag in rest if flag.startswith("--") and flag not in done.stdout] == []
