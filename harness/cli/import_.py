"""``fdbench import``."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from harness.errors import fdbench_command
from harness.imported_records import Basis, Origin
from harness.integrity import imports
from harness.integrity.import_record import ImportRecord
from harness.logs.detection import FORMATS


@click.command("import")
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    required=True,
    metavar="RUN",
    help="Folder of a run, measured or not; created if missing.",
)
@click.option(
    "--recipe", default="", metavar="SLUG", help="Recipe that was run (see: fdbench list recipes)."
)
@click.option("--gpu", "device", default="", metavar="KEY", help="Device the logs were made on.")
@click.option(
    "--num-gpus",
    "gpus",
    type=click.IntRange(min=1),
    default=None,
    help="Number of GPUs that ran together.",
)
@click.option(
    "--side", default="", help="Side that was run: flashdreams, or a baseline of the recipe."
)
@click.option(
    "--scene", default="", metavar="WxH", help="Input size, of a super-resolution recipe."
)
@click.option(
    "--format", "name", type=click.Choice(FORMATS), help="Format of the logs.  [default: detected]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_command(
    logs: tuple[Path, ...],
    into: Path,
    recipe: str,
    device: str,
    gpus: int | None,
    side: str,
    scene: str,
    name: str | None,
    as_json: bool,
) -> None:
    """Import LOGS that were made elsewhere into the folder of a run.

    Several logs in one call are several processes of the same side. Imported rows are marked as
    parsed from a log, shown in tables of their own, and never decide a verdict. If one log cannot
    be read, none is imported. Files of published figures (benchmark_results, perf_table) say
    themselves what was measured: they need only --into.

    \b
    Example: fdbench import bench.log --into runs/collected --gpu h200 --side flashdreams \\
               --recipe self-forcing-wan2.1-t2v-1.3b-taehv
    """
    origin = Origin(recipe=recipe, device=device, side=side, scene=scene, gpus=gpus or 0)
    candidates = imports.read_candidates(logs, origin, name)
    added, old = imports.import_logs(into, candidates)
    if as_json:
        answer = {"run": str(into), "imported": _plain(added), "known": _plain(old)}
        click.echo(json.dumps(answer, indent=1))
        return
    for record in added:
        click.echo(f"imported  {record.import_id}: {_describe(record)}")
    for record in old:
        click.echo(f"already there  {record.import_id}: {record.source}, of {record.imported}")
    click.echo(f"Show them with the rest: {fdbench_command('report', into)}")


def _plain(records: list[ImportRecord]) -> list[dict[str, object]]:
    return [asdict(record) for record in records]


def _describe(record: ImportRecord) -> str:
    what = "steps" if record.basis == Basis.PARSED else "published figures"
    return f"{record.rows} {what} of {record.source}, read as {record.format}"
