"""What containers cost, and whether anything leaks.

``python -m tests.bench_containers cost`` and ``... soak [TRIALS]`` each write a section of
docs/benchmarks.md. Both need an engine and ``FDBENCH_BASE``.
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

from harness.environments.built import BuiltEnvironment
from harness.environments.declared import PROJECT_DIR, Environment
from harness.errors import EnvironmentFault
from harness.machine.fingerprint import read_machine
from harness.machine.owners import OWNER, owner_label
from harness.records import Outcome
from harness.sandboxes import engine
from harness.sandboxes.contract import Launch
from harness.sandboxes.start import run_launch
from harness.trials.launch import Limits, launch
from runners.protocol.wire import Artifact
from tests.fakes import samples, workplace
from tests.fakes.listener import Listener

PAGE = PROJECT_DIR / "docs" / "benchmarks.md"
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


def bare(image, network):
    """Create, start, wait, inspect, remove, through the SDK and nothing else."""
    api = engine.connect().api
    host = api.create_host_config(network_mode=network)
    made = api.create_container(
        image, ["/bin/true"], host_config=host, network_disabled=network == "none"
    )["Id"]
    api.start(made)
    api.wait(made)
    api.inspect_container(made)
    api.remove_container(made)


def hardened(image, folder):
    """The same through the sandbox, with everything it asks for."""
    run_launch(Launch(command=["/bin/true"], folder=folder, image=image), 60)


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
    shutil.copytree(PROJECT_DIR / "runners", code / "runners")
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


def cost_rows(folder, image):
    """What a container costs."""
    scratch = folder / "scratch"
    scratch.mkdir()
    actions = [
        lambda: bare(image, "bridge"),
        lambda: bare(image, "none"),
        lambda: hardened(image, scratch),
    ]
    bridge_ms, none_ms, hard_ms = medians_ms(actions, 40)
    yield (
        "bare container, median of 40: create, start, wait, inspect, remove",
        f"{bridge_ms:.0f} ms",
        "-",
    )
    yield "the same, networking off", f"{none_ms:.0f} ms", "-"
    yield "hardened, through the sandbox, networking off", f"{hard_ms:.0f} ms", "-"
    yield "hardening and sandbox, per trial", f"{hard_ms - none_ms:+.0f} ms", "60 ms"
    adapter_s = after_adapter_change(folder, image)
    yield "edited adapter to first trial, small images verified", f"{adapter_s:.1f} s", "-"


def soak_rows(folder, image, trials):
    """What goes wrong or leaks in a long run with random faults."""
    begun = time.perf_counter()
    passes, ends, left, before, after = soak(folder, image, trials)
    yield f"{trials} trials with random faults", f"{time.perf_counter() - begun:.0f} s", "-"
    yield "faults that passed", str(passes), "0"
    yield "trials that ended as something else", str(ends), "0"
    yield "containers left", str(left), "0"
    yield "threads more than after the first trials", str(after[1] - before[1]), "0"
    yield "descriptors more than after the first trials", str(after[0] - before[0]), "0"
    yield "growth of memory", f"{100 * (after[2] - before[2]) / before[2]:.1f} %", "5 %"


def main():
    """Measure one of both and write its section in place of the former."""
    what, trials = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    name = os.environ.get("FDBENCH_BASE")
    if not name:
        raise EnvironmentFault("FDBENCH_BASE names no base image; .ci/engine makes one")
    image = str(engine.connect().images.get(name).id)
    here, version = read_machine(), engine.connect().version()["Version"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        os.environ["FDBENCH_CACHE"] = str(folder / "cache")
        rows = cost_rows(folder, image) if what == "cost" else soak_rows(folder, image, trials)
        lines = [f"| {label} | {value} | {target} |" for label, value, target in rows]
    heading = f"## Containers: {what}\n"
    text = (
        f"{heading}\nWritten by `python -m tests.bench_containers {what}` on {here.cpu}, "
        f"{here.cores} cores shared with others, Docker {version}.\n\n"
        "| what | measured | target |\n|---|---:|---:|\n" + "\n".join(lines) + "\n"
    )
    before, _, rest = PAGE.read_text().partition(heading)
    later = rest[rest.index("\n## ") :] if "\n## " in rest else ""
    PAGE.write_text(before.rstrip() + "\n\n" + text + later)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
