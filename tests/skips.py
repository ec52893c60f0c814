"""What was skipped, at the end of a run: one line a reason, with how many tests it took away."""

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """Sum up by what stands before the colon of each reason; behind it is what to do about it."""
    counts, advice = Counter(), {}
    for report in terminalreporter.stats.get("skipped", []):
        _, _, text = report.longrepr
        reason, _, what_to_do = text.removeprefix("Skipped: ").partition(": ")
        counts[reason] += 1
        advice.setdefault(reason, what_to_do)
    if counts:
        terminalreporter.section("skipped tests by reason", sep="-")
    for reason, count in counts.most_common():
        terminalreporter.line(f"{reason}: {count}" + f" ({advice[reason]})" * bool(advice[reason]))
