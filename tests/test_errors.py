"""Exit codes, and what a user sees instead of a traceback."""

import ast
import itertools
import subprocess
import sys

import click
import pytest

from harness import cli
from harness.environments.declared import PROJECT_DIR
from harness.errors import (
    WORST_FIRST,
    EnvironmentFault,
    ExitCode,
    FdbenchError,
    IntegrityFault,
    Interrupted,
    LogFormatError,
    UsageFault,
    in_words,
    worst,
)
from harness.machine.fingerprint import Machine, require_device
from harness.plan.suites import load_devices
from tests.fakes.command import fdbench

pytestmark = pytest.mark.unit

ORDER = (7, 5, 3, 4, 1, 6, 0)
GPUS = sorted(key for key, device in load_devices().items() if device.torch_device == "cuda")


def command_named(name):
    """The command itself, imported as its use would."""
    return cli.fdbench.get_command(click.Context(cli.fdbench), name)


def commands():
    """Every command line that has a help page, groups opened."""
    for name in cli.COMMANDS:
        command = command_named(name)
        inner = command.commands if isinstance(command, click.Group) else {}
        yield (name,)
        yield from ((name, below) for below in inner)


def machine(*gpus):
    """A machine with these GPUs."""
    return Machine(
        cpu="a CPU",
        cores=2,
        memory_gib=8.0,
        system="Linux",
        python="3.11",
        fdbench="0.1.0",
        gpus=gpus,
        driver="",
    )


@pytest.mark.parametrize("pair", list(itertools.product(ORDER, repeat=2)), ids=str)
def test_worst_of_two(pair):
    """Of two codes the one earlier in 7 5 3 4 1 6 0 wins, whatever their order."""
    assert worst(map(ExitCode, pair)) == min(pair, key=ORDER.index)


def test_worst_of_nothing_is_incomplete():
    """No result is no pass."""
    assert worst([]) == ExitCode.INCOMPLETE


def test_every_result_has_a_rank():
    """Each code but usage, which ends a command before there is a result, is ranked once."""
    assert sorted(WORST_FIRST) == sorted(set(ExitCode) - {ExitCode.USAGE})
    assert tuple(map(int, WORST_FIRST)) == ORDER


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(UsageFault, 2, id="usage"),
        pytest.param(EnvironmentFault, 5, id="environment"),
        pytest.param(IntegrityFault, 7, id="integrity"),
        pytest.param(LogFormatError, 7, id="log"),
        pytest.param(Interrupted, 4, id="interrupted"),
    ],
)
def test_error_has_its_exit_code(error, code):
    """What a script sees of each error is frozen."""
    assert issubclass(error, FdbenchError)
    assert error("why").exit_code == code


@pytest.mark.parametrize("name", GPUS)
def test_run_without_the_gpu_exits_5(tmp_path, name):
    """A run for a GPU that is not here says what is here and what to type, and leaves nothing."""
    done = fdbench("run", "--suite", "smoke", "--gpu", name, "--out", tmp_path / "out")

    assert done.code == 5
    assert "this machine has no NVIDIA GPU" in done.err
    assert "fdbench run --suite smoke --gpu cpu" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", GPUS)
def test_device_is_known_by_its_nvml_names(name):
    """Each GPU is accepted under every name that NVML has for it, and no other GPU is."""
    device = load_devices()[name]
    for nvml in device.nvml:
        require_device(machine("NVIDIA A10", nvml), name, device, 1)

    with pytest.raises(EnvironmentFault, match="NVIDIA A10"):
        require_device(machine("NVIDIA A10"), name, device, 1)


@pytest.mark.parametrize("command", ["report", "check"])
@pytest.mark.parametrize("kind", ["missing", "empty-folder", "file"])
def test_folder_that_is_no_run_exits_2(tmp_path, command, kind):
    """What is no run is refused with the command that makes one."""
    path = tmp_path / "run"
    if kind == "empty-folder":
        path.mkdir()
    if kind == "file":
        path.write_text("")

    done = fdbench(command, path)

    assert (done.code, done.out) == (2, "")
    assert str(path) in done.err
    assert "fdbench run" in done.err


@pytest.mark.parametrize(("num_runs", "more"), [(1, ""), (3, ""), (5, ", and 2 more")])
def test_folder_of_runs_names_them(tmp_path, num_runs, more):
    """One level above a run: at most three of those in it, and how many more there are."""
    for number in range(num_runs):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "run.json").touch()
    done = fdbench("check", tmp_path)

    named = ", ".join(str(tmp_path / f"run{number}") for number in range(min(num_runs, 3)))
    assert done.code == 2
    assert done.err == (
        f"fdbench: {tmp_path} is not a run: no run.json in it, but in {named}{more}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["chek"], "Did you mean 'check'?", id="command"),
        pytest.param(["CHECK"], "Did you mean 'check'?", id="case"),
        pytest.param(["env", "biuld"], "Did you mean 'build'?", id="env"),
        pytest.param(["weights", "verfy"], "Did you mean 'verify'?", id="weights"),
        pytest.param(["run", "--sute", "smoke"], "'--suite'", id="flag"),
    ],
)
def test_unknown_command_is_told_the_nearest(arguments, said):
    """So is a flag; the usage is shown as for everything that click refuses."""
    done = fdbench(*arguments)

    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param([], "Missing --suite and --gpu.", id="both"),
        pytest.param(["--suite", "smoke"], "Missing --gpu.", id="device"),
        pytest.param(["--gpu", "cpu"], "Missing --suite.", id="suite"),
    ],
)
def test_all_that_is_missing_is_named_at_once(command, given, said):
    """With a line that works."""
    done = fdbench(command, *given)

    assert done.code == 2
    assert f"{said} Example: fdbench {command} --suite smoke --gpu cpu" in done.err


def test_no_message_has_the_number_of_a_system_error():
    """Nothing prints an ``OSError`` as Python does: ``[Errno 2] No such file or directory``."""
    found = [
        f"{path.name}:{value.lineno}"
        for top in ("harness", "reports")
        for path in (PROJECT_DIR / top).rglob("*.py")
        for handler in ast.walk(ast.parse(path.read_text()))
        if isinstance(handler, ast.ExceptHandler) and "OSError" in ast.unparse(handler.type)
        for value in ast.walk(handler)
        if isinstance(value, ast.FormattedValue) and ast.unparse(value.value) == handler.name
    ]

    assert found == []


def test_system_error_is_told_in_words(tmp_path):
    """What is wrong, and never an empty text."""
    with pytest.raises(OSError, match="Errno") as missing:
        (tmp_path / "x").read_bytes()

    assert in_words(missing.value) == "No such file or directory"
    assert in_words(OSError("odd")) == "odd"
    assert in_words(OSError()) == "OSError"
    assert in_words(KeyError("schema")) == "it has no 'schema'"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("run",), ("parse",), ("list", "x")])
def test_wrong_usage_exits_2(arguments):
    """A command that is not complete shows its usage."""
    done = fdbench(*arguments)

    assert done.code == 2
    assert "Usage: fdbench" in done.out + done.err


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_help_has_an_example(arguments):
    """Every command's help shows a line to type that is that very command."""
    done = fdbench(*arguments, "--help")
    is_group = isinstance(command_named(arguments[0]), click.Group) and len(arguments) == 1

    assert done.code == 0
    assert is_group or f"Example: fdbench {' '.join(arguments)}" in done.out


def test_help_lists_the_exit_codes():
    """The order in which codes win is in the help, as it is in the code."""
    assert " ".join(map(str, ORDER)) in " ".join(fdbench("--help").out.split())


@pytest.mark.contract
def test_command_line_loads_no_gpu_code():
    """Importing the command loads neither torch nor anything that takes long."""
    heavy = "{'torch', 'flashdreams', 'pyarrow', 'pandas', 'numpy', 'matplotlib', 'jinja2'}"
    program = f"import harness.cli, sys; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.contract
@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (("plan", "--suite", "per-step", "--gpu", "gb200"), {"pyarrow", "numpy", "matplotlib"}),
        (("check", "docs/results/h100"), {"pyarrow.dataset", "pyarrow.compute", "matplotlib"}),
    ],
    ids=["plan", "check"],
)
def test_command_loads_only_what_it_needs(words, unneeded):
    """What takes a second to import is imported by who uses it: no engine, no dataframe here."""
    program = (
        "import sys\nfrom harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print({unneeded | {'docker', 'requests', 'pandas', 'torch'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert "h100" in done.stdout or "gb200" in done.stdout, "the command did its work"
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_listed_line_is_that_of_the_command(name):
    """The line in ``fdbench --help`` stands for a command that exists under that name."""
    command = command_named(name)

    assert command.name == name
    assert command.help
    assert cli.COMMANDS[name][1] in fdbench("--help").out
