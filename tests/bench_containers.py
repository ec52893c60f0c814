"""What containers cost, and whether anything leaks: ``python -m tests.bench_containers [TRIALS]``.

Needs an engine and ``FDBENCH_BASE``. Writes its section of docs/benchmarks.md.
"""

import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from harness import engine, environments
from harness.environments import BuiltEnvironment, Environment
from harness.errors import EnvironmentFault
from harness.launch import Limits, launch
from harness.machine import read_machine
from harness.owners import OWNER, owner_label
from harness.records import Outcome
from harness.sandboxes import finish
from harness.sandboxes.contract import Launch
from runners.protocol.wire import Artifact
from tests.fakes import samples, workplace
from tests.fakes.listener import Listener

PAGE = environments.PROJECT_DIR / "docs" / "benchmarks.md"
HEADING = "## Containers\n"
FAKES = Path(__file__).parent / "fakes"
FAULTS = {
    "completes": Outcome.COMPLETED,
    "raises": Outcome.FAILED,
    "kills_itself": Outcome.KILLED,
    "loses_an_event": Outcome.FAILED,
    "leaves_a_link": Outcome.FAILED,
    "forges_steps": Outcome.COMPLETED,
    "reports_a_full_gpu": Outcome.OOM,
    "hangs": Outcome.TIMED_OUT,
}
"""What a side does in the soak, and how it must end; a forged one must be invalid besides."""
GOOD = "completes"


def bare(image):
    """Create, start, wait, inspect, remove, through the SDK and nothing else."""
    api = engine.connect().api
    made = api.create_container(image, ["/bin/true"])["Id"]
    api.start(made)
    api.wait(made)
    api.inspect_container(made)
    api.remove_container(made)


def hardened(image, folder):
    """The same through the sandbox, with everything it asks for."""
    finish(Launch(command=["/bin/true"], folder=folder, image=image), 60)


def medians_ms(actions, times):
    """Median of each action, taken in turn so that the machine's mood is the same for all."""
    taken = [[] for _ in actions]
    for _ in range(times):
        for action, found in zip(actions, taken, strict=True):
            begun = time.perf_counter()
            action()
            found.append(1e3 * (time.perf_counter() - begun))
    return [statistics.median(found) for found in taken]


def after_adapter_change(folder, image):
    """Seconds from an edited adapter to environments that are ready, images verified."""
    place = workplace.contain(workplace.make(folder), image)
    place.run(folder / "first", only="left")
    with (place.environments_dir / "left" / "adapter.py").open("a") as adapter:
        adapter.write("# edited\n")
    started = []

    class First(workplace.Silent):
        def trial_started(self, trial):
            """Keep when."""
            started.append(time.perf_counter())

    begun = time.perf_counter()
    place.run(folder / "second", only="left", watcher=First())
    return started[0] - begun


def soak(folder, image, trials):
    """Trials with random faults in containers; what went wrong or was left."""
    code = folder / "code"
    shutil.copytree(environments.PROJECT_DIR / "runners", code / "runners")
    for name in ("steps.py", "faults.py"):
        shutil.copyfile(FAKES / name, code / name)
    shutil.copyfile(FAKES / "faults.py", code / "adapter.py")
    inputs = {}
    for name in ("weights", "noise", "text"):
        (folder / name).touch()
        inputs[name] = Artifact(path=str(folder / name), sha256="aa" * 32)
    chosen, me = random.Random(20261124), psutil.Process()
    wrong_passes, wrong_ends, before = 0, 0, None
    for number in range(trials):
        # Hangs cost their limit, so there are fewer of them.
        weights = [8 if way == GOOD else 0.2 if way == "hangs" else 1 for way in FAULTS]
        (way,) = chosen.choices(list(FAULTS), weights)
        row = one_trial(folder, image, code, way, inputs)
        passed = row.outcome == Outcome.COMPLETED and not row.invalid
        wrong_passes += passed and way != GOOD
        wrong_ends += row.outcome != FAULTS[way] or (way == GOOD) != passed
        if number == min(50, trials // 4):
            before = taken(me)
    api = engine.connect().api
    left = api.containers(all=True, filters={"label": f"{OWNER}={owner_label()}"})
    return wrong_passes, wrong_ends, len(left), before, taken(me)


def one_trial(folder, image, code, way, inputs):
    """Run one and drop its folder."""
    declared = Environment(
        description="",
        packages=[],
        command=["python3", "adapter.py", "{job}"],
        variables={"FAKE_SIDE": way},
    )
    made = BuiltEnvironment(
        name="fake",
        declared=declared,
        digest="d",
        folder=Path("/usr"),
        code_digest="c",
        code=code,
        image=image,
    )
    limits = Limits(wall_s=30, stall_s=2)
    try:
        return launch(samples.trial(**inputs), made, folder / "work", Listener(), limits).row
    finally:
        shutil.rmtree(folder / "work")


def taken(process):
    """Descriptors, threads and resident MiB of this process."""
    return process.num_fds(), threading.active_count(), process.memory_info().rss / 2**20


def main():
    """Measure and write the section."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    name = os.environ.get("FDBENCH_BASE")
    if not name:
        raise EnvironmentFault("FDBENCH_BASE names no base image; .ci/engine makes one")
    image = str(engine.connect().images.get(name).id)
    here, version = read_machine(), engine.connect().version()["Version"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        os.environ["FDBENCH_CACHE"] = str(folder / "cache")
        scratch = folder / "scratch"
        scratch.mkdir()
        bare_ms, hard_ms = medians_ms([lambda: bare(image), lambda: hardened(image, scratch)], 40)
        adapter_s = after_adapter_change(folder, image)
        begun = time.perf_counter()
        passes, ends, left, before, after = soak(folder, image, trials)
        soak_s = time.perf_counter() - begun
    growth = 100 * (after[2] - before[2]) / before[2]
    rows = [
        (
            "container through the SDK alone: create, start, wait, inspect, remove",
            f"{bare_ms:.0f} ms",
            "-",
        ),
        ("hardened container through the sandbox", f"{hard_ms:.0f} ms", "-"),
        ("the difference, per trial", f"{hard_ms - bare_ms:.0f} ms", "60 ms"),
        (
            "from an edited adapter to the first trial, nothing rebuilt, images verified",
            f"{adapter_s:.1f} s",
            "-",
        ),
        (f"soak of {trials} trials with random faults", f"{soak_s:.0f} s", "-"),
        ("soak: faults that passed", str(passes), "0"),
        ("soak: trials that ended as something else", str(ends), "0"),
        ("soak: containers left", str(left), "0"),
        ("soak: threads more than after the first trials", str(after[1] - before[1]), "0"),
        ("soak: descriptors more than after the first trials", str(after[0] - before[0]), "0"),
        ("soak: growth of memory", f"{growth:.1f} %", "5 %"),
    ]
    lines = [f"| {what} | {value} | {target} |" for what, value, target in rows]
    text = (
        f"{HEADING}\nWritten by `python -m tests.bench_containers` on {here.cpu}, {here.cores} "
        f"cores, Docker {version}, others at work on the machine; medians of 40 in turn.\n\n"
        "| what | measured | target |\n|---|---:|---:|\n" + "\n".join(lines) + "\n"
    )
    PAGE.write_text(PAGE.read_text().partition(HEADING)[0].rstrip() + "\n\n" + text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
