"""A harness to be killed, in a process of its own: one fork a command line on its input.

It prints the fork's process id, and ``over`` with its status once the fork is gone.
"""

import json
import os
import sys
from pathlib import Path

from harness.environments.declared import load_environments
from harness.sandboxes import engine
from tests.fakes import workplace


def main():
    """Serve until the input ends."""
    folder, sandbox, base = Path(sys.argv[1]), *sys.argv[2:4]
    place = workplace.Workplace(folder, sandbox, base)
    load_environments(place.environments_dir)
    for line in sys.stdin:
        out, only = json.loads(line)
        child = os.fork()
        if not child:
            engine.forget()  # no connection is shared between processes
            os._exit(int(place.run(out, only)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("over", status, flush=True)


if __name__ == "__main__":
    main()
