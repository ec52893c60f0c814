"""``fdbench docs``."""

from pathlib import Path

import click

from harness.store.durable import write_text


@click.command("docs")
@click.argument("checkout", type=click.Path(path_type=Path), default=Path())
def docs_command(checkout: Path) -> None:
    """Write the tables and charts of the documents again, from the runs in docs/results.

    CHECKOUT is a clone of this repository, by default the current folder. Only what stands between
    the marks of a document changes.

    \b
    Example: fdbench docs
    """
    from reports.documents import render_documents  # noqa: PLC0415  matplotlib slows --help down

    for path, text in render_documents(checkout).items():
        is_new = not path.is_file() or path.read_text("utf-8") != text
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        click.echo(f"{'written  ' if is_new else 'unchanged'}  {path}")
