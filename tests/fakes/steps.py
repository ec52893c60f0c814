"""A side without a model: prints, writes and ends as ``FAKE_SIDE`` says. Standard library only.

Each function below is one way to go; the harness starts this file as ``adapter.py``.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runners.protocol import wire

STAGES_MS = {"encode": 0.016, "diffuse": 343.706, "decode": 6.646, "finalize": 74.226}


class Side:
    """What a well-behaved side does, piece by piece."""

    def __init__(self, job, folder):
        self.job, self.folder = job, folder
        self._events = (folder / wire.EVENTS_FILE).open("w")
        self._began_at_s = time.monotonic()

    def settings(self):
        """Write the settings that the job asks for."""
        asked, shared = self.job, {f.name for f in dataclasses.fields(wire.Settings)}
        values = {k: v for k, v in dataclasses.asdict(asked).items() if k in shared}
        made = wire.Settings(
            **values,
            num_parameters=1,
            weights_sha256=asked.weights.sha256,
            noise_sha256=asked.noise.sha256,
            text_sha256=asked.text.sha256,
            latent_shape=(
                asked.len_t,
                asked.network.out_dim,
                asked.latent_height,
                asked.latent_width,
            ),
            torch="none",
            cudnn="none",
        )
        wire.write_json(self.folder / wire.SETTINGS_FILE, made)

    def line(self, ar, prefix="", **changed_ms):
        """Print the step line, which begins the step of a side without a model."""
        self._began_at_s = time.monotonic()
        stages_ms = STAGES_MS | changed_ms
        stages = " ".join(f"{stage} {ms:.3f} ms" for stage, ms in stages_ms.items())
        total = sum(stages_ms.values())
        without = total - stages_ms["finalize"]
        print(
            f"{prefix}AR {ar} {stages} | total(w/o finalize) {without:.3f} ms total {total:.3f} ms",
            flush=True,
        )

    def event(self, ar, nonce=None, kernels_ms=None):
        """Write the event of a step."""
        self.raw(
            wire.event_line(
                wire.StepEvent(
                    nonce=nonce or self.job.nonce,
                    ar=ar,
                    stages_ms=STAGES_MS,
                    denoise_ms=(171.0,) * self.job.denoising_steps,
                    wall_ms=sum(STAGES_MS.values()),
                    kernels_ms=kernels_ms or {},
                    captures=(),
                    began_at_s=self._began_at_s,
                    ended_at_s=time.monotonic(),
                    told_at_s=time.monotonic(),
                    memory_peak_gib=1.5,
                    preempted=2,
                )
            )
        )

    def raw(self, text):
        """Write text into the event file."""
        self._events.write(text)
        self._events.flush()

    def close(self):
        """Write no more events."""
        self._events.close()

    def rewrite(self, old, new):
        """Replace text in the event file."""
        path = self.folder / wire.EVENTS_FILE
        path.write_text(path.read_text().replace(old, new))

    def step(self, ar):
        """Line and event of one step."""
        self.line(ar)
        self.event(ar)

    def steps(self):
        """Every step of the job."""
        for ar in range(self.job.ar_steps):
            self.step(ar)

    def end(self, ar_steps=None):
        """Write the end event."""
        steps = self.job.ar_steps if ar_steps is None else ar_steps
        self.raw(
            wire.event_line(
                wire.EndEvent(
                    nonce=self.job.nonce, ar_steps=steps, noise_draws=2 * steps, facts={"fake": "1"}
                )
            )
        )


def completes(side):
    """Do the whole job."""
    side.settings()
    side.steps()
    side.end()


def captures_no_graph(side):
    """Do the whole job, and say that the CUDA graph it asks for never came."""
    completes(side)
    side.rewrite('{"fake": "1"}', f'{{"{wire.CAPTURED_AT}": "{wire.NEVER}"}}')


def sleeps_after_its_first_step(side):
    """Do the whole job, the second step half a second after the first."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.step(ar)
        time.sleep(0.0 if ar else 0.6)
    side.end()


def pauses(side):
    """Do the whole job, with a pause after each step that no regular look falls into."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.step(ar)
        time.sleep(0.15)
    side.end()


def rewrites_its_events(side):
    """Write the events again, each where it was, once they have arrived."""
    completes(side)
    time.sleep(0.2)
    side.rewrite("343.706", "343.707")


def draws_too_little(side):
    """Take a noise tensor less than the recipe does."""
    completes(side)
    side.rewrite('"noise_draws": 6', '"noise_draws": 5')


def loses_a_denoising_step(side):
    """Time one denoising step of two."""
    completes(side)
    side.rewrite("[171.0, 171.0]", "[171.0]")


def denoises_too_long(side):
    """Claim denoising steps that do not fit into the stage around them."""
    completes(side)
    side.rewrite("[171.0, 171.0]", "[171.0, 1171.0]")


def writes_no_settings(side):
    """Do the work without saying under which settings."""
    side.steps()
    side.end()


def writes_no_end(side):
    """Exit 0 without the end event."""
    side.settings()
    side.steps()


def loses_a_line(side):
    """Do every step, print all lines but that of AR 1."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.event(ar)
        if ar != 1:
            side.line(ar)
    side.end()


def loses_the_last_line(side):
    """Do every step, print all lines but the last."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.event(ar)
        if ar < side.job.ar_steps - 1:
            side.line(ar)
    side.end()


def loses_an_event(side):
    """Do every step, write all events but that of AR 1."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar)
        if ar != 1:
            side.event(ar)
    side.end()


def skips_a_step(side):
    """Leave AR 1 out altogether."""
    side.settings()
    for ar in range(side.job.ar_steps):
        if ar != 1:
            side.step(ar)
    side.end()


def repeats_an_event(side):
    """Write the event of AR 1 twice."""
    side.settings()
    side.steps()
    side.event(1)
    side.end()


def runs_too_long(side):
    """Do one step more than the job has."""
    side.settings()
    side.steps()
    side.step(side.job.ar_steps)
    side.end(side.job.ar_steps + 1)


def miscounts(side):
    """Say in the end that there was one step more."""
    side.settings()
    side.steps()
    side.end(side.job.ar_steps + 1)


def prints_other_times(side):
    """Print AR 1 two per cent faster than its event says."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar, **({"diffuse": 336.832} if ar == 1 else {}))
        side.event(ar)
    side.end()


def prints_rounded_times(side):
    """Print AR 1 with a difference that two clocks may have."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar, diffuse=344.706, encode=0.060)
        side.event(ar)
    side.end()


def prints_another_rank(side):
    """Print the lines of a second, slower rank that did one step more."""
    side.settings()
    for ar in range(side.job.ar_steps):
        side.line(ar, prefix="[default0]:")
        side.line(ar, prefix="[default1]:", diffuse=360.0)
        side.event(ar)
    side.line(side.job.ar_steps, prefix="[default1]:")
    side.end()


def echoes_its_prompt(side):
    """Print configuration that contains a step line."""
    side.settings()
    print(
        "prompt: 'AR 3 diffuse 1.000 ms | total(w/o finalize) 1.000 ms total 1.000 ms'", flush=True
    )
    side.steps()
    side.end()


def steals_a_nonce(side):
    """Write an event of another trial."""
    side.settings()
    side.step(0)
    side.event(1, nonce="f" * 32)
    side.end()


def writes_infinity(side):
    """Write a time that JSON reads as infinity, from which every number is infinitely far."""
    side.settings()
    side.steps()
    side.end()
    side.rewrite("343.706", "1e309")


def writes_deep_json(side):
    """Write an event nested deeper than a parser recurses."""
    side.settings()
    side.raw('{"step": ' + "[" * 100_000 + "\n")


def writes_binary_settings(side):
    """Write settings that are no text."""
    (side.folder / wire.SETTINGS_FILE).write_bytes(b"\xff\xfe\x00")
    side.steps()
    side.end()


def removes_its_log(side):
    """Delete the log that the harness keeps."""
    completes(side)
    (side.folder / "log.txt").unlink()


def runs_out_of_memory(side):
    """Fail as PyTorch does when the GPU is full."""
    side.settings()
    side.step(0)
    print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", flush=True)
    sys.exit(1)


def raises(side):
    """Fail in a way that only the log explains."""
    side.settings()
    raise ValueError("no such checkpoint")


def kills_itself(side):
    """Die of a signal after one step."""
    side.settings()
    side.step(0)
    os.kill(os.getpid(), signal.SIGKILL)


def prints_an_endless_line(side):
    """Print megabytes without a line end, then do the job."""
    side.settings()
    sys.stdout.write("x" * 5_000_000 + "\n")
    sys.stdout.flush()
    side.steps()
    side.end()


def fails_with_an_endless_line(side):
    """End a long line with a failure."""
    side.settings()
    sys.stdout.write("x" * 200_000)
    sys.stdout.flush()
    sys.exit(1)


def hangs(side):
    """Do one step, then nothing; a child hangs as well."""
    side.settings()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (side.folder / "pids.json").write_text(json.dumps([os.getpid(), child.pid]))
    side.step(0)  # last: it may be the sign to stop the trial
    time.sleep(60)


def hangs_deaf(side):
    """Hang, and ignore the polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs(side)


def hangs_and_tidies_up(side):
    """Hang, and write a note when asked to stop."""
    note = side.folder / "tidied"
    signal.signal(signal.SIGTERM, lambda *_: (note.touch(), os._exit(0)))
    hangs(side)


def leaves_a_child(side):
    """Do the job and leave a child behind that ignores the polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the child inherits it
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (side.folder / "pids.json").write_text(json.dumps([os.getpid(), child.pid]))
    completes(side)


def chatters(side):
    """Print for ever and do no step."""
    side.settings()
    while True:
        print("still loading", flush=True)
        time.sleep(0.02)


def shows_its_environment(side):
    """Write down the variables it was started with."""
    (side.folder / "environment.json").write_text(json.dumps(dict(os.environ)))


def leaves_compiled_code(side):
    """Say what is in the temporary folder, and leave something there as a compiler does."""
    temporary = Path(tempfile.gettempdir())
    places = {temporary, Path.home()}
    kernels = [path.name for place in places for path in place.glob("kernel*")]
    found = {"folder": str(temporary), "kernels": kernels}
    (side.folder / "temporary.json").write_text(json.dumps(found))
    for place in places:
        (place / "kernel.cubin").write_text("compiled")
    completes(side)


def main():
    """Go the way that the environment variable names."""
    job_path = Path(sys.argv[1])
    job = wire.read_json(wire.Job, job_path)
    globals()[os.environ["FAKE_SIDE"]](Side(job, job_path.parent))


if __name__ == "__main__":
    main()
