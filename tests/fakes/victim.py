"""A process to be killed: replays trials into a run, one fork a command line on its input.

It prints the fork's process id, and ``over`` with its status once the fork is gone.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from harness import worker
from harness.trials import evidence, trial_record
from tests.fakes import workplace


class Replay:
    """Launches no process: a trial's files come from a finished run."""

    def __init__(self, finished):
        self._logs = Path(finished) / "logs"

    def __call__(self, trial, environment, work, watcher, limits, grant=None):
        """Lay out the job folder as the trial left it, and read it."""
        work.mkdir(parents=True)
        for path in (self._logs / trial.trial_id).iterdir():
            shutil.copyfile(path, work / path.name)
        record = trial_record.read_record(work)
        (work / trial_record.TRIAL_FILE).unlink()
        captures = self._logs.parent / "captures" / trial.trial_id
        for path in captures.iterdir():
            shutil.copyfile(path, work / path.name)
        return evidence.read_trial(work, trial_record.write_record(work, record))


def main():
    """Serve until the input ends."""
    place = workplace.Workplace(Path(sys.argv[1]))
    worker.launch = Replay(sys.argv[2])
    place.run(f"{sys.argv[2]}-warm-{os.getpid()}")  # what is slow once is slow before the forks
    for line in sys.stdin:
        how, out, only = json.loads(line)
        child = os.fork()
        if not child:
            os._exit(run(place, how, out, only))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("over", status, flush=True)


def run(place, how, out, only):
    """One worker; its exit code."""
    return int(place.run(out, only) if how == "run" else place.add(out, only))


if __name__ == "__main__":
    main()
