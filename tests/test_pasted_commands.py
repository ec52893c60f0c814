"""What a message says to type can be pasted into a shell, whatever the folders are called."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from harness.environments.declared import PROJECT_DIR
from harness.errors import EnvironmentFault, Interrupted, UsageFault, fdbench_command
from harness.integrity import repair
from harness.store.durable import require_space
from harness.store.run import open_run, pointing_to_fsck
from tests.fakes.command import fdbench
from tests.test_workers import Stopping

pytestmark = pytest.mark.contract

ODD = "mein Lauf; rm 'x'"
PATH_IN_A_COMMAND = re.compile(
    r"fdbench [a-z][^\"\n:;]*\{[^}]*(folder|path|place|run\b|into|out\b)"
)


def pasted(said, *words):
    """Whether some line of a message ends with this command, as a shell would read it."""
    ends = (line.partition("fdbench ")[2] for line in str(said).splitlines())
    return list(map(str, words)) in [shlex.split(end) for end in ends if end]


@pytest.fixture
def odd_run(fake_run, tmp_path):
    """A run in a folder with a name that a shell would take apart."""
    return shutil.copytree(fake_run, tmp_path / ODD)


def test_command_is_quoted_where_it_must_be():
    """Plain names stay as they are."""
    assert fdbench_command("report", Path("runs/smoke")) == "fdbench report runs/smoke"
    assert fdbench_command("run", "--resume", "mein Lauf") == "fdbench run --resume 'mein Lauf'"


def test_stopped_run_says_how_to_go_on(place, tmp_path):
    """Ctrl-C, at which one copies a line."""
    run = tmp_path / ODD
    with pytest.raises(Interrupted) as stopped:
        place.run(run, watcher=Stopping("left"))

    assert pasted(stopped.value, "run", "--resume", run)
    assert pasted(stopped.value, "report", run)


@pytest.mark.slow
def test_damaged_run_points_to_fsck(odd_run):
    """From the command that met the damage, from fsck and from prune."""
    next((odd_run / "logs").glob("*/log.txt")).write_text("other")
    assert pasted(fdbench("report", odd_run).err, "fsck", odd_run)
    assert pasted(fdbench("fsck", "--prune", odd_run).err, "fsck", "--repair", odd_run)
    with pytest.raises(repair.IntegrityFault) as lost, pointing_to_fsck(odd_run):
        repair.settle(open_run(odd_run))
    assert pasted(lost.value, "fsck", odd_run)


def test_misplaced_file_points_to_repair(odd_run):
    """What stands in the way of a repair."""
    (odd_run / "trials.parquet").mkdir()

    assert pasted(fdbench("fsck", "--repair", odd_run).err, "fsck", "--repair", odd_run)


@pytest.mark.slow
def test_report_in_the_way_says_what_to_type(odd_run):
    """A folder where the page goes."""
    shutil.rmtree(odd_run / "report", ignore_errors=True)
    (odd_run / "report").touch()

    assert pasted(fdbench("report", odd_run).err, "report", odd_run)


def test_full_disk_says_how_to_go_on(tmp_path):
    """What a side said when it could not write."""
    (tmp_path / ODD).mkdir()
    with pytest.raises(EnvironmentFault) as full:
        require_space(tmp_path / ODD, "No space left on device")

    assert pasted(full.value, "run", "--resume", tmp_path / ODD)


def test_changed_suite_file_is_named_as_it_can_be_run(place, tmp_path):
    """A suite of one's own by its path, with its device: its bare name is no suite."""
    place.run(tmp_path / "run", only="left")
    text = place.suite.read_text()
    place.suite.write_text(text.replace("limit = 2.0", "limit = 3.0"))
    with pytest.raises(UsageFault) as changed:
        place.resume(tmp_path / "run")

    assert pasted(changed.value, "run", "--suite", place.suite, "--gpu", "cpu")


def test_imported_logs_are_shown_by_a_quoted_command(tmp_path):
    """The last line of an import."""
    log = PROJECT_DIR / "suites" / "published" / "h100_self_forcing_7_blocks.log"
    words = ["--recipe", "self-forcing-wan2.1-t2v-1.3b-taehv", "--gpu", "h200"]
    done = fdbench("import", log, "--into", tmp_path / ODD, *words, "--side", "flashdreams")

    assert pasted(done.out, "report", tmp_path / ODD)


def test_no_message_pastes_a_bare_path():
    """A path in a command goes through ``fdbench_command``."""
    found = [
        f"{path.name}: {match[0]}"
        for top in ("harness", "reports")
        for path in (PROJECT_DIR / top).rglob("*.py")
        for match in PATH_IN_A_COMMAND.finditer(path.read_text())
    ]

    assert found == []
