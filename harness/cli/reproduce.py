"""``fdbench reproduce``."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from harness.environments.built import code_digest
from harness.environments.declared import ENVIRONMENTS_DIR, command_words, load_environments
from harness.errors import UsageFault
from harness.plan.known_names import nearest
from harness.plan.overrides import parse_side
from harness.plan.suites import pick
from harness.records import PlannedCell, TrialRow
from harness.store.run import open_run, pointing_to_fsck
from harness.store.run_record import RunRecord

SHORT = 8
"""Characters of a digest."""


@click.command("reproduce")
@click.argument("cell")
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="The run that measured it.",
)
def reproduce_command(cell: str, folder: Path) -> None:
    """Print the command that measures CELL of a run again, and what each of its trials started.

    \b
    Example: fdbench reproduce wan21-t2v-1.3b-480p/h200/official --run docs/results/h200
    """
    run_store = open_run(folder)
    with pointing_to_fsck(folder):
        record = run_store.read_record()
    cells = {planned.cell_id: planned for planned in record.plan}
    if cell not in cells:
        known = "\n".join(cells)
        raise UsageFault(
            f"{folder} has no cell {cell!r}; {nearest(cell, cells, 'none is like it')}\n"
            f"It has:\n{known}"
        )
    trials = [row for row in run_store.read_rows(TrialRow) if row.cell_id == cell]
    lines = _lines(record, cells[cell]) + _measured_with(trials)
    for line in lines:
        click.echo(line)


def _lines(record: RunRecord, cell: PlannedCell) -> list[str]:
    words = ["fdbench", "run", "--suite", record.suite_file, "--gpu", record.device]
    declared = load_environments()
    lines = [
        "# builds missing environments, makes weights and noise, measures and judges; on a machine",
        "# without a package index, set FDBENCH_WHEELS and FDBENCH_SOURCES first",
        shlex.join([*words, "--only", cell.cell_id]),
        "",
        f"# its {len(cell.trials)} trials in order, one process each; JOB is logs/TRIAL/job.json",
    ]
    for trial in cell.trials:
        environment = declared[pick("environment", trial.side.environment, declared)]
        command = [
            word.format(slug=cell.recipe, job="JOB")
            for word in command_words(environment, trial.job.ranks)
        ]
        lines.append(f"{trial.role:<10} {trial.side}: {' '.join(command)}")
    return lines


def _measured_with(trials: Sequence[TrialRow]) -> list[str]:
    """What decided the numbers and may be other here: PyTorch, adapters and runners."""
    lines = ["", "# measured with this; another PyTorch or other code may give different figures"]
    seen: dict[str, None] = {}
    names = {parse_side(row.side, row.trial_id).environment for row in trials}
    now = {name: code_digest(ENVIRONMENTS_DIR / name) for name in names}
    for row in trials:
        name = parse_side(row.side, row.trial_id).environment
        settings = json.loads(row.settings or "{}")
        here = now[name]
        same = "as here" if here == row.code_digest else f"here {here[:SHORT]}"
        seen[
            f"{name:<14} torch {settings.get('torch', 'unknown')}, "
            f"cuDNN {settings.get('cudnn', 'unknown')}, code {row.code_digest[:SHORT]} ({same})"
        ] = None
    return lines + list(seen)
