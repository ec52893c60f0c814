"""What fits a terminal of 60, 80 or 120 columns, what a pipe gets, and colours."""

import json

import pytest
from rich.console import Console

from harness.cli.summary import print_summary
from harness.cli.tables import make_table
from harness.environments.declared import load_environments
from harness.errors import ExitCode
from harness.plan import suites
from harness.records import Verdict
from tests.command import fdbench as fdbench_in_a_pipe
from tests.fakes.command import fdbench
from tests.fakes.terminal import COLOURS, Screen, look_like_terminal, on_terminal
from tests.test_report import (
    make_run,
    pair_row,
    parity_rows,
    passing_run,
    rendered,
    run_record,
    words,
)

pytestmark = pytest.mark.unit

WIDTHS = (60, 80, 100, 120)
KINDS = ("recipes", "suites", "devices", "envs")
MEANS_NOTHING = "Tiny models and a CPU: these times mean nothing."


@pytest.fixture(autouse=True)
def no_wish_for_colours(monkeypatch):
    """As in a plain shell."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def summary(monkeypatch):
    """Prints the summary of a run on a terminal of so many columns."""

    def printed(folder, columns, code=ExitCode.PASS) -> Screen:
        screen = look_like_terminal(monkeypatch, columns)
        monkeypatch.setattr("sys.stdout", screen)
        print_summary(folder, code)
        return screen

    return printed


def too_wide(text: str, columns: int) -> list[str]:
    """Lines that a terminal would break, but for those that are one word."""
    return [
        line for line in text.splitlines() if len(line.rstrip()) > columns and " " in line.strip()
    ]


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_lists_fit_and_no_word_is_broken(monkeypatch, kind, columns):
    """Every word of every row is there whole, on lines that the terminal leaves alone."""
    text = on_terminal(monkeypatch, columns, "list", kind).plain
    rows = json.loads(fdbench("list", kind, "--json").out)

    assert not too_wide(text, columns)
    for row in rows:
        shown = [value for key, value in row.items() if isinstance(value, str)]
        if kind == "envs":
            shown.remove(row["description"])  # stands in `fdbench env list`
        missing = [word for value in shown for word in value.split() if word not in text]
        assert not missing


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("env", "list"), id="env-list"),
        pytest.param(("doctor", "--suite", "smoke"), id="doctor"),
        pytest.param(("doctor", "--suite", "per-step", "--gpu", "gb200"), id="doctor-reasons"),
    ],
)
def test_prose_is_wrapped_between_words(monkeypatch, tmp_path, command, columns):
    """As many lines as it takes; the same words as in a pipe."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path))
    text = on_terminal(monkeypatch, columns, *command).plain

    assert not too_wide(text, columns)
    for declared in load_environments().values() if command[0] == "env" else ():
        assert declared.description in " ".join(text.split())


@pytest.mark.parametrize("columns", WIDTHS)
def test_recipes_stand_in_columns_or_blocks(monkeypatch, columns):
    """Columns from 100 on; below, a block a recipe with a blank line between."""
    text = on_terminal(monkeypatch, columns, "list", "recipes").plain
    known = suites.load_recipes().recipes
    slug = next(iter(known))

    if columns >= 100:
        assert text.split("\n")[0].split() == ["slug", "GPUs", "runner", "baselines"]
        assert text.split("\n")[1].rstrip() == "Self-Forcing, streaming"
        assert "\n\n" not in text.partition("\n* nothing drives")[0].rstrip()
    else:
        blocks = text.partition("\n* nothing drives")[0].split("\n\n")
        assert [block.split()[0] for block in blocks] == list(known)
        assert blocks[0].splitlines()[0] == slug
        for item in ("model: Self-Forcing", "GPUs: 1", "runner: yes", "baselines: official, fastv"):
            assert item in blocks[0]
    reason = known["lingbot-world-fast"].no_runner
    assert f"no runner, because {reason}: lingbot-world-fast" in " ".join(text.split())


def test_recipes_in_a_pipe_are_a_line_each():
    """Whatever the reader's terminal; the reasons follow behind an empty line."""
    table, _, reasons = fdbench_in_a_pipe("list", "recipes", COLUMNS="60").text.partition("\n\n")
    heading, *lines = table.splitlines()

    assert "no runner, because" in reasons
    assert heading.split() == ["slug", "model", "flavour", "GPUs", "runner", "baselines"]
    assert [line.split()[0] for line in lines] == list(suites.load_recipes().recipes)


def test_table_that_fits_stays_one(monkeypatch):
    """Blocks are for want of room, not for narrow terminals as such."""
    text = on_terminal(monkeypatch, 80, "list", "devices").plain
    blocks = on_terminal(monkeypatch, 60, "list", "devices").plain

    assert len(text.splitlines()) == 1 + len(suites.load_devices())
    assert blocks.startswith("cpu\n  name: CPU · host: any · attention: sdpa\n\nh100\n")


def test_block_of_a_figure_says_what_it_is(capsys):
    """A row that begins with a number begins with its heading."""
    console = Console(width=20, force_terminal=True, no_color=True)
    console.print(make_table(["AR", "phase", "milliseconds"], [["3", "steady", "344.1"]]))

    assert "AR 3" in capsys.readouterr().out


def test_lists_have_numbers_and_booleans_for_scripts():
    """Keys in snake_case, values of the type that they are."""
    listed = {kind: json.loads(fdbench("list", kind, "--json").out) for kind in KINDS}

    for row in (row for rows in listed.values() for row in rows):
        assert all(key == key.lower() and key.isidentifier() for key in row)
    for row in listed["recipes"]:
        assert type(row["gpus"]) is int
        assert row["runner"] is not bool(row["no_runner"])
        assert all(type(one["driven"]) is bool and one["key"] for one in row["baselines"])
    assert {type(row["cells"]) for row in listed["suites"]} == {int}
    assert {type(row["memory_gb"]) for row in listed["devices"]} == {float, type(None)}
    assert {type(row["built"]) for row in listed["envs"]} == {bool}
    assert all(
        slug in suites.load_recipes().recipes for r in listed["envs"] for slug in r["recipes"]
    )

    by_slug = {row["slug"]: row for row in listed["recipes"]}
    assert by_slug["lingbot-world-fast"]["baselines"] == [
        {"key": "official", "driven": False},
        {"key": "lightx2v", "driven": False},
    ]
    assert by_slug["wan21-t2v-1.3b-480p"]["baselines"][0] == {"key": "official", "driven": True}


@pytest.mark.parametrize("columns", WIDTHS)
def test_summary_fits(tmp_path, summary, columns):
    """Verdicts, reason and figures, none of them broken."""
    text = summary(passing_run(tmp_path / "run").folder, columns).plain

    assert not too_wide(text, columns)
    for word in ("official", "FlashDreams", "+26%", "self-forcing-wan2.1-t2v-1.3b-taehv/h100/"):
        assert word in text
    assert ("Baseline: official" in text) == (columns < 100)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 120, None])
def test_tiny_says_that_its_times_mean_nothing(tmp_path, summary, capsys, columns):
    """In the page's own words, and without a speed-up that could be read as one."""
    tiny = run_record(size="tiny", device="cpu", weights="synthetic")
    run = passing_run(tmp_path / "run", run=tiny)
    if columns:
        text = summary(run.folder, columns).plain
    else:
        print_summary(run.folder, ExitCode.PASS)
        text = capsys.readouterr().out

    assert MEANS_NOTHING in " ".join(text.split())
    assert MEANS_NOTHING in words(rendered(run)[0])
    assert text.index("mean nothing") < text.index("Upstream (ms)")
    assert "Speedup" not in text
    assert "%" not in text


def test_full_size_run_on_a_gpu_has_its_speedup(tmp_path, capsys):
    """And no such sentence."""
    print_summary(passing_run(tmp_path / "run").folder, ExitCode.PASS)
    text = capsys.readouterr().out

    assert "Speedup" in text
    assert "+26%" in text
    assert "mean nothing" not in text


@pytest.mark.parametrize(
    ("verdict", "code", "colour"),
    [
        pytest.param(Verdict.FAIL, ExitCode.PARITY, COLOURS[0], id="red"),
        pytest.param(Verdict.PASS, ExitCode.PASS, COLOURS[1], id="green"),
        pytest.param(Verdict.INCOMPLETE, ExitCode.INCOMPLETE, COLOURS[2], id="yellow"),
    ],
)
def test_verdict_has_its_colour_where_one_is_wanted(
    tmp_path, summary, monkeypatch, capsys, verdict, code, colour
):
    """The word alone, and neither with NO_COLOR nor in a pipe."""
    pair = pair_row(verdict=verdict, exit_code=code)
    folder = make_run(tmp_path / "run", pair=pair, parity=parity_rows([0.012])).folder
    coloured = summary(folder, 80, code).getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = summary(folder, 80, code).getvalue()
    monkeypatch.undo()
    print_summary(folder, code)
    piped = capsys.readouterr().out

    assert f"{colour}{verdict}\x1b[0m" in coloured
    assert f"exit code {int(code)}: {colour}" in coloured
    assert not [one for one in COLOURS if one in coloured and one != colour]
    assert not [one for one in COLOURS if one in plain]
    assert "\x1b" not in piped


@pytest.mark.slow
@pytest.mark.parametrize("words", [("list", "recipes"), ("list", "suites"), ("env", "list")])
def test_pipe_gets_no_escapes(tmp_path, words):
    """Whatever the shell says of its terminal."""
    shell = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "FDBENCH_CACHE": str(tmp_path)}
    text = fdbench_in_a_pipe(*words, **shell).text

    assert "\x1b" not in text
