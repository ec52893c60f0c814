"""Display of quantities, and the one ratio of this project; one unit a quantity everywhere else."""

from collections import Counter
from collections.abc import Sequence


def speedup_percent(upstream_ms: float, flashdreams_ms: float) -> float:
    """(upstream - FlashDreams) / FlashDreams in percent: 432 against 344 is +26."""
    return 100 * (upstream_ms - flashdreams_ms) / flashdreams_ms


def format_ms(value: float | None) -> str:
    """Milliseconds with about three significant digits; a dash where there is no value."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def format_percent(value: float | None) -> str:
    """A speed-up as the seed prints it, signed and in whole percent; below one in tenths."""
    if value is None:
        return "–"
    return f"{value:+z.1f}%" if abs(value) < 0.95 else f"{value:+.0f}%"


def format_counted(names: Sequence[str]) -> str:
    """Names in their order, alike ones counted: ``2 × NVIDIA H100``."""
    counted = Counter(names).items()
    return ", ".join(name if number == 1 else f"{number} × {name}" for name, number in counted)


def format_number_of(number: int, what: str) -> str:
    """How many there are: ``1 cell``, ``2 cells``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def format_words(words: Sequence[str]) -> str:
    """Words as a sentence has them: ``one, two and three``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def format_interval(bounds: tuple[float, float] | None) -> str:
    """Bounds of a speed-up in percent; empty where there are none."""
    return "" if bounds is None else f"{bounds[0]:+z.1f} to {bounds[1]:+z.1f}%"


def format_error(value: float | None) -> str:
    """A parity error in scientific notation with three digits."""
    return "–" if value is None else f"{value:.2e}"


def format_duration(seconds: float) -> str:
    """Seconds below two minutes, minutes and seconds above."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
