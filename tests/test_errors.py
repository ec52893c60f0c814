"""Exit codes, and what a user sees instead of a traceback."""

import itertools
import subprocess
import sys

import click
import pytest

from harness import cli
from harness.errors import (
    WORST_FIRST,
    EnvironmentFault,
    ExitCode,
    FdbenchError,
    IntegrityFault,
    Interrupted,
    LogFormatError,
    UsageFault,
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
        (("plan", "--suite", "per-step", "--gpu", "gb200"), {"pyarrow", "numpy", "rich"}),
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
