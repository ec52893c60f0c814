"""What a command is about, as its options name it."""

import click

from harness.plan import suites
from harness.units import format_words


def suite_and_device(suite: str | None, device: str | None, command: str) -> tuple[str, str]:
    """Suite and device as they are known, of a command that needs both.

    Raises:
        UsageError: One is not given; the message names all that is missing.
        UsageFault: One is unknown.
    """
    named = {"--suite": suite, "--gpu": device}
    missing = [flag for flag, value in named.items() if not value]
    if not suite or not device:
        raise click.UsageError(
            f"Missing {format_words(missing)}. "
            f"Example: fdbench {command} --suite smoke --gpu cpu\n"
            "What there is: fdbench list suites, fdbench list devices"
        )
    path = suites.find_suite(suite)
    is_own = suite.endswith(".toml")
    return suite if is_own else path.stem, suites.pick("device", device, suites.load_devices())
