"""How long fdbench itself takes: run by ``make bench``, writes ``docs/benchmarks.md``.

Nothing here is a test: figures depend on the machine, which the page names.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.environments.declared import PROJECT_DIR
from harness.errors import Interrupted
from harness.imported_records import ImportedStep, Origin
from harness.integrity import imports
from harness.judging import gates
from harness.logs.detection import read_log
from harness.machine.fingerprint import read_machine
from harness.plan import suites
from harness.plan.cells import plan_suite
from harness.records import StepRow, TrialRow
from harness.store.run import Store, create_run, open_run
from reports.render import render_run
from tests.fakes import samples, workplace
from tests.fakes.stored import record

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
STEP = (
    "2026-11-23 06:46:44.090 | INFO     | flashdreams.infra.pipeline.base:finalize:334 - AR {ar} "
    "encode 0.021 ms diffuse 327.753 ms decode 0.001 ms finalize 81.554 ms | "
    "total(w/o finalize) 327.775 ms total 409.329 ms | GPU mem alloc 8.449 GiB reserved 8.832 GiB "
    "peak 8.684 GiB\n"
)
ORIGIN = Origin(recipe="self-forcing-wan2.1-t2v-1.3b-taehv", device="h200", side="flashdreams")
NOISE = (
    "2026-11-23 06:46:43.000 | INFO     | some.module:run:12 - loading shard 3 of 17 took a while\n"
)


def seconds_of(work: Callable[[], object], times: int = 5) -> float:
    """Median wall seconds of a piece of work."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def write_log(path: Path, megabytes: int, one_in: int) -> None:
    """A log of about that size in which one line in ``one_in`` is a step."""
    with path.open("w") as file:
        ar = 0
        while file.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                file.write(STEP.format(ar=ar))
                file.writelines([NOISE] * (one_in - 1))
                ar += 1


def seconds_of_command(*words: str) -> float:
    """Median wall seconds of ``fdbench`` with these words, each time in a fresh process."""
    command = [str(Path(sys.executable).with_name("fdbench")), *words]
    return seconds_of(
        lambda: subprocess.run(command, capture_output=True, check=False, cwd=PROJECT_DIR), times=9
    )


def parse_speed(folder: Path, one_in: int) -> float:
    """Megabytes a second from log to Parquet, byte ranges included."""
    log = folder / f"one_in_{one_in}.log"
    write_log(log, 20, one_in)
    run = Store(folder / f"run_{one_in}")
    run.folder.mkdir()
    (candidate,) = imports.read_candidates([log], ORIGIN, "flashdreams")

    def to_parquet() -> None:
        with log.open("rb") as file:
            parsed = read_log(file, log.name, "flashdreams")
        run.write_part(imports.table_of(parsed, candidate.record), ImportedStep, "bench")

    return log.stat().st_size / 1e6 / seconds_of(to_parquet)


def parse_memory(folder: Path, megabytes: int) -> float:
    """Peak memory in MiB of a process that reads a log with 1000 steps in it."""
    log = folder / f"{megabytes}.log"
    with log.open("w") as file:
        file.writelines(STEP.format(ar=ar) for ar in range(1000))
        while file.tell() < megabytes * 1_000_000:
            file.writelines([NOISE] * 10_000)
    program = (
        "import sys; from harness.logs import PARSERS\n"
        "with open(sys.argv[1], 'rb') as f: assert len(PARSERS['flashdreams'](f, 'x')) == 1000\n"
        "print(next(x.split()[1] for x in open('/proc/self/status') if 'VmHWM' in x))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(log)], capture_output=True, text=True, check=True
    )
    log.unlink()
    return int(done.stdout) / 1024


def plan_and_gate_speed() -> float:
    """Seconds to plan and to judge ten thousand cells."""
    _, suite = suites.load_suite("smoke")
    cells = [dataclasses.replace(suite.cells[0], scene=f"{n}x1") for n in range(10_000)]
    large = dataclasses.replace(suite, cells=cells)
    recipes, device = suites.load_recipes(), suites.load_devices()["cpu"]
    cell, parity = samples.cell(), samples.parity_rows()
    rows = [samples.trial_row(trial) for trial in cell.trials]

    def work() -> None:
        plan_suite("bench", large, recipes, "cpu", device)
        for _ in range(10_000):
            gates.judge(cell, rows, (), parity)

    return seconds_of(work, times=3)


def overhead_and_report(folder: Path) -> tuple[float, float]:
    """Harness seconds a trial beside the side's own, and seconds of a report over 1e5 steps."""
    os.environ["FDBENCH_CACHE"] = str(folder / "cache")
    place = workplace.make(folder)
    start = time.perf_counter()
    place.run(folder / "run")
    whole = time.perf_counter() - start
    run = open_run(folder / "run")
    trials = run.read_rows(TrialRow)
    overhead = (whole - sum(trial.wall_s for trial in trials)) / len(trials)
    for part in (trial for trial in trials if trial.role != "floor"):
        (first, *_) = [s for s in run.read_rows(StepRow) if s.trial_id == part.trial_id]
        many = [dataclasses.replace(first, ar=ar) for ar in range(100_000 // len(trials))]
        run.write_rows(many, StepRow, part=part.trial_id)
    return overhead, seconds_of(lambda: render_run(run.folder), times=3)


def add_seconds(folder: Path, stored: tuple[int, ...], times: int = 25) -> dict[int, float]:
    """Median seconds of adding one trial to a run with so many, by how many there were.

    Runs take turns, so that what the disk does meanwhile meets them alike.
    """
    runs = {number: create_run(folder / str(number)) for number in stored}
    for number, run in runs.items():
        run.write_record(record())
        for name in range(number):
            _add_trial(run, f"stored.{name}")
    taken: dict[int, list[float]] = {number: [] for number in stored}
    for name in range(times):
        for number, run in runs.items():
            taken[number].append(_add_trial(run, f"more.{name}"))
    return {number: statistics.median(found) for number, found in taken.items()}


def _add_trial(run: Store, name: str) -> float:
    """Seconds of adding a trial of what seven AR steps leave: twenty files of 300 bytes each."""
    work = run.folder / "work" / name
    work.mkdir(parents=True)
    for n in range(20):
        kind = "latents_{:03}.safetensors" if n < 7 else "file_{:03}.txt"
        (work / kind.format(n)).write_bytes(b"x" * 300)
    digests = {
        f"{'captures' if path.suffix == '.safetensors' else 'logs'}/{name}/{path.name}": "0" * 64
        for path in work.iterdir()
    }
    row = dataclasses.replace(samples.trial_row(), trial_id=name)
    steps = [samples.step_row(trial_id=name, ar=ar) for ar in range(7)]
    start = time.perf_counter()
    run.add_trial(work, row, {StepRow: steps}, digests)
    return time.perf_counter() - start


class _StopsAt(workplace.Silent):
    """A user who stops the run when its n-th trial starts."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.stopped = 0.0
        """When, by the performance counter."""

    def trial_started(self, trial: object) -> None:
        """Stop when it is time."""
        self._left -= 1
        if not self._left:
            self.stopped = time.perf_counter()
            raise KeyboardInterrupt


def resume_seconds(folder: Path, trials: int) -> float:
    """Seconds from resuming a run of that many finished trials to the start of its next one."""
    folder.mkdir()
    os.environ["FDBENCH_CACHE"] = str(folder / "cache")
    place = workplace.make(folder)
    cell = workplace.CELL.format(recipe=workplace.RECIPE, baseline="left")
    head = f'description = "long"\nsize = "tiny"\nprocesses = {trials // 2}\n'
    place.suite.write_text(head + cell)
    with suppress(Interrupted):
        request, limits = place.request(folder / "run"), workplace.Limits()
        workplace.workflow.run_suite(request, _StopsAt(trials + 1), limits)
    start, user = time.perf_counter(), _StopsAt(1)
    with suppress(Interrupted):
        workplace.workflow.resume_run(
            folder / "run", place.environments_dir, user, workplace.Limits()
        )
    return user.stopped - start


def commands() -> list[tuple[str, str, str]]:
    """Rows of whole commands, each in a fresh process."""
    timed = (
        ("`fdbench --help`", "0.15 s", ("--help",)),
        ("`fdbench plan` of per-step", "0.3 s", ("plan", "--suite", "per-step", "--gpu", "gb200")),
        ("`fdbench check` of the H100's run", "0.7 s", ("check", "docs/results/h100")),
    )
    return [(what, f"{seconds_of_command(*words):.2f} s", most) for what, most, words in timed]


def additions(folder: Path) -> list[tuple[str, str, str]]:
    """Rows of what adding a trial takes, by how many there are."""
    taken = add_seconds(folder, (1, 100, 1000))
    first = taken[1]
    return [
        (
            f"adding a trial to {size:,} stored",
            f"{1e3 * spent:.0f} ms" + (f", {spent / first:.2f}x" if size > 1 else ""),
            "1.5x the first" if size > 1 else "-",
        )
        for size, spent in taken.items()
    ]


def main() -> None:
    """Measure everything and write the page."""
    here = read_machine()
    before = os.getloadavg()[0]
    others = PAGE.read_text().partition("\n## ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overhead, report = overhead_and_report(folder)
        rows = [
            *commands(),
            (
                "log to Parquet, every second line a step",
                f"{parse_speed(folder, 2):.0f} MB/s",
                "100 MB/s",
            ),
            (
                "log to Parquet, one line in a hundred",
                f"{parse_speed(folder, 100):.0f} MB/s",
                "500 MB/s",
            ),
            ("peak memory reading 10 MB", f"{parse_memory(folder, 10):.0f} MiB", "-"),
            ("peak memory reading 1 GB", f"{parse_memory(folder, 1000):.0f} MiB", "as for 10 MB"),
            ("report over 100,000 step rows", f"{report:.1f} s", "5 s"),
            ("harness time a trial, beside the side's own", f"{1e3 * overhead:.0f} ms", "300 ms"),
            *additions(folder / "additions"),
            (
                "resume of a run of 1,000 trials",
                f"{resume_seconds(folder / 'long', 1000):.1f} s",
                "2 s",
            ),
            ("plan and judge 10,000 cells", f"{plan_and_gate_speed():.1f} s", "2 s"),
        ]
    lines = [f"| {what} | {value} | {target} |" for what, value, target in rows]
    PAGE.write_text(
        "# How long fdbench itself takes\n\n"
        f"Written by `make bench` on {here.cpu}, {here.cores} cores, {here.memory_gib} GiB, Python "
        f"{here.python}, with a load of {before:.1f} from other work when it began. One core does "
        "the work; medians of a few repetitions.\n\n"
        "| what | measured | target |\n|---|---:|---:|\n"
        + "\n".join(lines)
        + "\n"
        + "".join(others[1:])
    )
    sys.stdout.write(PAGE.read_text())


if __name__ == "__main__":
    main()
