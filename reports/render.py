"""Renders a run."""

from pathlib import Path


def render_run(folder: Path) -> Path:
    """Placeholder."""
    return folder
