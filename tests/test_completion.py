"""Completion in a shell: names of what there is, as click asks for them."""

import json
import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from harness import cli
from harness.environments.declared import load_environments
from harness.plan import names, suites
from harness.plan.cells import cell_id_of
from harness.store.run import open_run
from tests.command import FDBENCH

pytestmark = pytest.mark.contract

ONE = "self-forcing-wan2.1-t2v-1.3b"


def completions(*words):
    """What the last word may become."""
    *before, incomplete = words
    shell = ShellComplete(cli.fdbench, {}, "fdbench", "_FDBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(map(str, before)), incomplete)]


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_suites_and_devices_of_every_command(command):
    """In any case, as they are taken."""
    assert completions(command, "--suite", "") == suites.suite_names()
    assert completions(command, "--suite", "Sm") == ["smoke"]
    assert completions(command, "--gpu", "H") == ["h100", "h200"]


@pytest.mark.parametrize(
    "words",
    [
        ["import", "x", "--recipe"],
        ["parse", "x", "--recipe"],
        ["weights", "pin"],
        ["weights", "verify"],
    ],
)
def test_recipes(words):
    """Every slug that begins so."""
    known = list(suites.load_recipes().recipes)

    assert completions(*words, "") == known
    assert completions(*words, ONE) == [slug for slug in known if slug.startswith(ONE)]


def test_environments():
    """With ``all``, where a command takes it."""
    known = list(load_environments())

    assert completions("env", "build", "") == [*known, "all"]
    assert completions("env", "export", "") == known
    assert completions("env", "build", "diff") == ["diffusers"]


@pytest.mark.parametrize("suite", suites.suite_names())
def test_cells_of_a_suite(suite):
    """Ids as the plan has them, once suite and device are typed."""
    cells = [cell_id_of(cell, "h100") for cell in suites.load_suite(suite)[1].cells]

    assert completions("run", "--suite", suite, "--gpu", "H100", "--only", "") == cells


def test_cells_of_a_suite_file(place):
    """Of one's own as well."""
    words = ["--suite", str(place.suite), "--gpu", "cpu"]

    assert [name.rpartition("/")[2] for name in completions("run", *words, "--only", "")] == [
        "left",
        "right",
    ]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["run", "--only"], id="no-suite"),
        pytest.param(["run", "--suite", "nothere.toml", "--gpu", "cpu", "--only"], id="no-file"),
        pytest.param(["reproduce", "--run", "nothere"], id="no-run"),
        pytest.param(["reproduce"], id="run-not-typed"),
    ],
)
def test_nothing_to_complete_is_no_error(words):
    """A shell shows no traceback between two keys."""
    assert completions(*words, "") == []


def test_cells_of_a_run(fake_run):
    """What can be reproduced."""
    cells = list(open_run(fake_run).read_record().cells)

    assert completions("reproduce", "--run", fake_run, "") == cells


def test_commands_and_options():
    """As click has them."""
    assert completions("re") == ["report", "reproduce"]
    assert completions("run", "--res") == ["--resume"]
    assert completions("env", "ver") == ["verify"]
    assert completions("") == [*cli.COMMANDS]
    assert completions("--ver") == ["--version"]


def test_quick_names_are_those_that_are_checked():
    """They are read without looking at what they stand for."""
    assert names.device_names() == list(suites.load_devices())
    assert names.recipe_names() == list(suites.load_recipes().recipes)
    assert names.environment_names() == list(load_environments())


def test_shell_gets_its_answer():
    """Through the variable that the line in ``fdbench --help`` sets."""
    asked = {
        "_FDBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "fdbench run --suite sm",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [str(FDBENCH)], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    source = subprocess.run(
        [str(FDBENCH)],
        env={**os.environ, "_FDBENCH_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "plain,smoke\n"
    assert "complete -o nosort -F _fdbench_completion fdbench" in source.stdout


def test_names_come_without_the_slow_libraries():
    """What a run needs is not imported to complete its suite."""
    script = (
        "import json, sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from harness import cli\n"
        "shell = ShellComplete(cli.fdbench, {}, 'fdbench', 'X')\n"
        "for words in ([], ['run', '--suite'], ['run', '--gpu'], ['run', '--suite', 'smoke',"
        " '--gpu', 'cpu', '--only']):\n"
        "    assert shell.get_completions(words, '')\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert not {"pyarrow", "numpy", "pydantic", "docker", "matplotlib"} & set(
        json.loads(done.stdout)
    )
