"""``fdbench fsck``."""

import json
from collections.abc import Iterable
from pathlib import Path

import click

from harness.cli.pipes import answering
from harness.errors import ExitCode, fdbench_command
from harness.integrity import repair
from harness.integrity.findings import Finding, Kind
from harness.store.durable import files_in
from harness.store.run import CAPTURES, Store, open_run
from harness.units import format_number_of


@click.command("fsck")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--repair",
    "mode",
    flag_value="repair",
    help="Repair what can be derived from the raw evidence.",
)
@click.option(
    "--prune", "mode", flag_value="prune", help="Delete captured tensors; keep their digests."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fsck_command(run: Path, mode: str | None, as_json: bool) -> None:
    """Verify everything in RUN: manifest, schema, and each row against its raw evidence.

    Exits 0 if all is well and 7 if anything is wrong or lost.

    \b
    Example: fdbench fsck runs/smoke-cpu-20261123-101500
             fdbench fsck --repair runs/smoke-cpu-20261123-101500
             fdbench fsck --prune runs/smoke-cpu-20261123-101500
    """
    run_store = open_run(run)
    if mode == "prune":
        freed = repair.prune(run_store)
        kept = len(files_in(run / CAPTURES))
        said = {"run": str(run), "freed_bytes": freed, "captures_kept": kept}
        why = f"; {kept} captures are kept for cells without a verdict" if kept else ""
        click.echo(json.dumps(said) if as_json else f"{run}: {freed / 2**20:.1f} MiB freed{why}")
        return
    mended, left = _look(run_store, repairs=mode == "repair")
    code = ExitCode.INTEGRITY if left else ExitCode.PASS
    with answering(code):
        if as_json:
            listed = {"run": str(run), "mended": _plain(mended), "findings": _plain(left)}
            click.echo(json.dumps(listed | {"exit_code": int(code)}))
        else:
            _print(run, mended, left)


def _look(run_store: Store, *, repairs: bool) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """What was mended, and what is wrong."""
    if not repairs:
        return (), repair.examine(run_store)
    done = repair.repair(run_store)
    return done.mended, done.left


def _plain(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [
        {"path": f.path, "problem": f.problem, "kind": f.kind, "advice": f.advice} for f in findings
    ]


def _print(run: Path, mended: tuple[Finding, ...], left: tuple[Finding, ...]) -> None:
    for finding in mended:
        click.echo(f"repaired  {finding.path}: {finding.problem}")
    for finding in left:
        click.echo(f"{finding.kind}  {finding.path}: {finding.problem}\n  {finding.advice}")
    found = format_number_of(len(left), "finding")
    click.echo(f"{run}: {found if left else 'every file and every row matches its evidence'}")
    if any(finding.kind in (Kind.LEFTOVER, Kind.DERIVABLE) for finding in left):
        click.echo(f"Repair it with: {fdbench_command('fsck', '--repair', run)}")
