"""Starts something in the sandbox that fits it."""

import tempfile
from pathlib import Path

from harness.sandboxes.contract import LOG_FILE, Launch, Sandbox
from harness.sandboxes.process import ProcessSandbox


def start_sandbox(launch: Launch) -> Sandbox:
    """Start in a container where there is an image, else in a process.

    Raises:
        OSError: The process cannot be started.
        EnvironmentFault: The container cannot be.
    """
    if not launch.image:
        return ProcessSandbox(launch)
    from harness.sandboxes.docker import DockerSandbox  # noqa: PLC0415  a slow import, not for all

    return DockerSandbox(launch)


def run_launch(launch: Launch, limit_s: float) -> tuple[int, str]:
    """Run something to its end; returns exit status and output."""
    sandbox = start_sandbox(launch)
    try:
        sandbox.wait(limit_s)
    finally:
        status = sandbox.stop()
    return status, (launch.folder / LOG_FILE).read_text("utf-8", "replace")


def run_to_end(command: list[str], limit_s: float, image: str) -> tuple[int, str]:
    """Run a command in a container of its own and drop what it wrote but for its output."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        return run_launch(Launch(command=command, folder=folder, image=image), limit_s)
