"""What goes wrong in or around a side, and what a hostile one tries; started as ``adapter.py``."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import steps
from steps import completes

from runners.protocol import wire

EATER = "x = []\nwhile True: x.append(bytearray(1 << 24))"
"""Takes memory and touches all of it."""


SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock")


def eats_memory(side):
    """Take memory until somebody stops it."""
    side.settings()
    side.step(0)
    exec(EATER)


def lets_a_child_eat_memory(side):
    """Lose a child to the kernel, and carry on as if nothing was."""
    side.settings()
    child = subprocess.run([sys.executable, "-c", EATER], check=False)
    (side.folder / "child").write_text(str(child.returncode))
    side.steps()
    side.end()


def reports_a_full_gpu(side):
    """Say that the GPU is full, do less than the job, exit 0."""
    side.settings()
    side.step(0)
    print(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
        "capacity of 139.80 GiB of which 1.43 GiB is free. Process 7 has 138.36 GiB memory in use. "
        "Of the allocated memory 137.53 GiB is allocated by PyTorch, and 321.05 MiB is reserved by "
        "PyTorch but unallocated. If reserved but unallocated memory is large try a setting."
    )
    print("[rank0]: the process group was destroyed", flush=True)


def waits(side):
    """Do one step, then wait to be killed."""
    side.settings()
    side.step(0)
    time.sleep(60)


def floods(side):
    """Print a gigabyte."""
    side.settings()
    for _ in range(1000):
        sys.stdout.write("x" * 999_999 + "\n")
    side.steps()
    side.end()


def ends_in_half_a_character(side):
    """Do the job; the log ends in the first two bytes of a euro sign."""
    completes(side)
    sys.stdout.buffer.write(b"\xe2\x82")
    sys.stdout.flush()


def cuts_its_last_line(side):
    """The last step line ends in the middle."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.event(ar)
        if ar < side.job.ar_steps - 1:
            side.line(ar)
    side.end()
    sys.stdout.write(f"AR {side.job.ar_steps - 1} encode 0.016 ms diffuse 343.7")
    sys.stdout.flush()


def repeats_a_line(side):
    """Print AR 1 twice, with two times."""
    side.settings()
    side.steps()
    side.line(1, diffuse=200.0)
    side.end()


def mixes_up_lines(side):
    """Print AR 2 before AR 1."""
    side.settings()
    for ar in (0, 2, 1):
        side.line(ar)
    for ar in range(side.job.ar_steps):
        side.event(ar)
    side.end()


def forges_steps(side):
    """Print the lines of a job that is twice as fast, as a model's output might, then do it."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar, diffuse=171.0)
    side.steps()
    side.end()


def forges_events(side):
    """Write events without knowing the nonce."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar)
        side.event(ar, nonce="0" * 32)
    side.end()


def leaves_a_link(side):
    """Do the job and leave a link to a file of the machine's."""
    completes(side)
    (side.folder / "latents.safetensors").symlink_to("/etc/passwd")


def makes_its_log_a_link(side):
    """Have the harness quote a file of the machine's."""
    (side.folder / "log.txt").unlink()
    (side.folder / "log.txt").symlink_to("/etc/passwd")
    sys.exit(1)


def makes_its_events_a_pipe(side):
    """Have the harness wait for ever at a pipe that nobody writes to."""
    (side.folder / wire.EVENTS_FILE).unlink()
    os.mkfifo(side.folder / wire.EVENTS_FILE)
    time.sleep(1)
    sys.exit(1)


def makes_its_events_a_folder(side):
    """Have the harness read a folder."""
    (side.folder / wire.EVENTS_FILE).unlink()
    (side.folder / wire.EVENTS_FILE).mkdir()
    (side.folder / wire.EVENTS_FILE / "a").touch()
    time.sleep(1)
    sys.exit(1)


def writes_endless_settings(side):
    """Write settings that no memory holds."""
    completes(side)
    with (side.folder / wire.SETTINGS_FILE).open("wb") as file:
        file.truncate(1 << 40)


def steers_the_terminal(side):
    """Fail with a message that clears the screen and turns the writing direction."""
    print("\x1b[2J\x1b]0;owned\x07fault \u202eevil", flush=True)
    sys.exit(1)


def fails_with_indented_words(side):
    """Fail as torch does where weights do not fit: the last line begins with a tab."""
    print(
        "RuntimeError: Error(s) in loading state_dict:\n\tsize mismatch\tfor a.weight", flush=True
    )
    sys.exit(1)


def tells_its_secret(side):
    """Put a variable's value into log, settings, events and a file."""
    secret = os.environ["CANARY_TOKEN"]
    print(f"token is {secret}", flush=True)
    side.settings()
    side.steps()
    side.end()
    side.rewrite('"fake": "1"', f'"fake": "{secret}"')
    (side.folder / "notes").write_text(f"x{secret}{secret}")


def fails_with_its_secret(side):
    """End with the secret in the message."""
    side.settings()
    sys.exit(f"cannot log in with {os.environ['CANARY_TOKEN']}")


def fills_the_disk(side):
    """Write until the disk is full, and say so as Python does."""
    side.settings()
    side.step(0)
    with (side.folder / "ballast").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def looks_around(side):
    """Write down what this place lets a side see and do."""

    def may(act):
        try:
            act()
        except OSError as error:
            return error.strerror
        return "yes"

    job = Path(sys.argv[1])
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    seen = {
        "write above": may(lambda: (side.folder.parent / "escaped").write_text("x")),
        "write root": may(lambda: Path("/escaped").write_text("x")),
        "write home": may(lambda: (Path.home() / "x").write_text("x")),
        "write weights": may(lambda: Path(side.job.weights.path).write_text("x")),
        "write code": may(lambda: Path(steps.__file__).write_text("x")),
        "write job": may(lambda: job.write_text("x")),
        "remove job": may(job.unlink),
        "become root": may(lambda: os.setuid(0)),
        "user": os.getuid(),
        "capabilities": int(status["CapEff"], 16),
        "no new privileges": status["NoNewPrivs"].strip(),
        "seccomp": status["Seccomp"].strip(),
        "networks": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "sockets": [name for name in SOCKETS if Path(name).exists()],
        "devices": sorted(path.name for path in Path("/dev").iterdir()),
        "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
        "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
        "cores": Path("/proc/self/limits").read_text().split("Max core file size")[1].split()[:2],
        "variables": dict(os.environ),
    }
    (side.folder / "seen.json").write_text(json.dumps(seen))
    completes(side)


def main():
    """Go the way that the environment variable names, one of here or one of ``steps``."""
    job_path = Path(sys.argv[1])
    job = wire.read_json(wire.Job, job_path)
    name = os.environ["FAKE_SIDE"]
    ways = {**vars(steps), **globals()}
    ways[name](steps.Side(job, job_path.parent))


if __name__ == "__main__":
    main()
