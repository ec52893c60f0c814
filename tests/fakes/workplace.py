"""A cache with environments that are there at once, whose sides take milliseconds."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import workflow
from harness.environments import requirement_locks
from harness.environments.built import _MARKER, cache_dir, folder_of
from harness.environments.declared import load_environments
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from harness.store.run import open_run
from harness.trials.launch import Limits
from harness.worker import RunWatcher

RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
SIDE = Path(__file__).with_name("matched_side.py")
PYTHON = """#!/bin/sh
# A real interpreter for the side; shared inputs are a few bytes each.
case "$*" in *synthetic*) for word in $(tr -d '",{}' < "$3"); do
  case "$word" in /*.safetensors) echo "$word" > "$word";; esac; done;;
*) exec PYTHON -I -S "$@";; esac
"""
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
USER root
COPY contents.py /opt/fdbench/
RUN mkdir -p /opt/env/bin && printf '%b' 'SCRIPT' > /opt/env/bin/python && \\
    chmod 755 /opt/env/bin/python && \\
    python3 /opt/fdbench/contents.py /opt/env > /opt/fdbench/contents.json
USER 65532
"""
CELL = """
[[cells]]
recipe = "{recipe}"
baseline = "{baseline}"
settings = {{ ar_steps = 2, decoder = "none" }}
floor = ["flashdreams", "flashdreams{{dtype=float32}}"]
limit = 2.0
limit_origin = "a test"
"""
OFFSETS = {"flashdreams": 0.0, "left": 0.001, "right": 0.0015}
TIMES = {
    *("wall_s", "first_step_s", "began_s", "ended_s", "told_s", "arrival_s"),
    *("cpu_waited_percent", "memory_waited_percent", "io_waited_percent"),
}
"""Columns in which two runs of the same differ."""


@dataclass(frozen=True)
class Workplace:
    """Suite, environments and where runs go."""

    folder: Path
    sandbox: str = "process"
    base: str = ""

    @property
    def suite(self) -> Path:
        """The suite file: one cell per baseline."""
        return self.folder / "fake.toml"

    @property
    def environments_dir(self) -> Path:
        """Where the environments are declared."""
        return self.folder / "envs"

    def request(self, out, only="", suite=None):
        """A request to run it."""
        return workflow.RunRequest(
            suite=str(suite or self.suite),
            device="cpu",
            out=Path(out),
            environments_dir=self.environments_dir,
            only=only,
            sandbox=self.sandbox,
            base=self.base,
        )

    def run(self, out, only="", watcher=None):
        """Run it into a new folder."""
        return workflow.run_suite(self.request(out, only), watcher or Silent(), Limits())

    def resume(self, out):
        """Run the rest."""
        place = (Path(out), self.environments_dir)
        return workflow.resume_run(*place, Silent(), Limits(), self.base)

    def add(self, out, only):
        """Run more cells into a run."""
        return workflow.add_to_run(self.request(out, only), Silent(), Limits())


class Silent(RunWatcher):
    """A watcher that says nothing."""


def make(folder: Path) -> Workplace:
    """Lay out suite, declarations and built environments; FDBENCH_CACHE must be in ``folder``."""
    assert folder in cache_dir().parents
    made = Workplace(folder)
    cells = [CELL.format(recipe=RECIPE, baseline=name) for name in ("left", "right")]
    made.suite.write_text('description = "fake"\nsize = "tiny"\n' + "".join(cells))
    for name, offset in OFFSETS.items():
        declare(made, name, offset)
    return made


def contain(made: Workplace, base: str) -> Workplace:
    """The same with each side in a container: locks of nothing, images of a script and ``base``."""
    script = PYTHON.replace("PYTHON", "/usr/bin/python3").replace("'", "'\\''")
    text = DOCKERFILE.replace("SCRIPT", script.replace("\n", "\\n"))
    (made.environments_dir / requirement_locks.COMMON_LOCK).write_text("")
    for name in OFFSETS:
        (made.environments_dir / name / requirement_locks.OWN_LOCK).write_text("")
        (made.environments_dir / name / "Dockerfile").write_text(text)
    return Workplace(made.folder, "docker", base)


def declare(made: Workplace, name: str, offset: float, packages: tuple[str, ...] = ()) -> None:
    """Declare an environment and put it where a built one stands."""
    home = made.environments_dir / name
    home.mkdir(parents=True, exist_ok=True)
    full, disturbed = made.folder / "full", made.folder / "disturbed"
    (home / "env.toml").write_text(
        f'role = "{"candidate" if name == "flashdreams" else "reference"}"\n'
        f'description = "fake"\npackages = {json.dumps(packages)}\nrecipes = ["{RECIPE}"]\n'
        'command = ["python", "adapter.py", "{job}"]\n'
        f'[variables]\nSIDE_OFFSET = "{offset}"\nSIDE_FULL = "{full}"\n'
        f'SIDE_DISTURBED = "{disturbed}"\n'
    )
    (home / "adapter.py").write_bytes(SIDE.read_bytes())
    declared = load_environments(made.environments_dir)[name]
    target = folder_of(name, declared)
    (target / "bin").mkdir(parents=True, exist_ok=True)
    (target / "bin" / "python").write_text(PYTHON.replace("PYTHON", sys.executable))
    (target / "bin" / "python").chmod(0o755)
    (target / _MARKER).write_text(json.dumps({"name": name, "digest": ""}))


def tables(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of a run but for times and nonces."""
    run = open_run(Path(folder))
    return {
        row_type.__name__: [
            {name: value for name, value in vars(row).items() if name not in TIMES}
            for row in run.read_rows(row_type)
        ]
        for row_type in (StepRow, TrialRow, PairRow, ParityRow)
    }
