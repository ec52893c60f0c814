"""``fdbench check``."""

import json
from pathlib import Path

import click

from harness.cli.pipes import answering
from harness.cli.summary import MEANING, print_summary
from harness.errors import ExitCode
from harness.judging.run_verdict import check
from harness.records import PairRow
from harness.store.run import Store, open_run


@click.command("check")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_command(run: Path, as_json: bool) -> None:
    """Verify the files of RUN and exit with the code its verdicts add up to.

    \b
    Example: fdbench check runs/smoke-cpu-20261123-101500 && ./release.sh
    """
    opened = open_run(run)
    code = check(opened)
    with answering(code):
        if as_json:
            click.echo(json.dumps(_plain(opened, code), indent=1))
        else:
            print_summary(run, code)


def _plain(run: Store, code: ExitCode) -> dict[str, object]:
    judged = {
        pair.cell_id: {"verdict": pair.verdict, "reason": pair.reason}
        for pair in run.read_rows(PairRow)
    }
    unjudged = {"verdict": "incomplete", "reason": "not judged"}
    cells = {cell_id: judged.get(cell_id, unjudged) for cell_id in run.read_record().cells}
    return {"exit_code": int(code), "meaning": MEANING[code], "cells": cells}
