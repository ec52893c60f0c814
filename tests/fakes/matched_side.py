"""A side that obeys its job and writes captures; small imports, so that it takes milliseconds.

It reads ``job.json`` and prints, times and captures the same in every process: a run with it has
the same tables every time, but for times of the harness and nonces. ``SIDE_FULL`` names a file
whose existence makes it fill the disk; ``SIDE_DISTURBED`` one that names job folders, a line each,
whose times are disturbed, and in words after the name what else goes wrong there.
"""

import hashlib
import json
import os
import struct
import sys
import time

STAGES_MS = {"encode": 0.016, "diffuse": 343.706, "decode": 6.646, "finalize": 74.226}
SLOWED = 8
"""NVML's bit of a hardware slowdown."""
SETTINGS = [
    "slug",
    "size",
    "seed",
    "ar_steps",
    "sigmas",
    "timesteps",
    "timestep_rounding",
    "guidance",
    "len_t",
    "window_t",
    "sink_t",
    "dtype",
    "attention",
    "compile",
    "cuda_graph",
    "decoder",
    "device",
    "threads",
]


def settings(job):
    """What the job asks for, with the digests of its inputs."""
    shape = [job["len_t"], job["network"]["out_dim"], job["latent_height"], job["latent_width"]]
    inputs = {f"{name}_sha256": job[name]["sha256"] for name in ("weights", "noise", "text")}
    fixed = {"num_parameters": 1, "latent_shape": shape, "torch": "none", "cudnn": "none"}
    return {name: job[name] for name in SETTINGS} | inputs | fixed


def capture(job, ar, offset):
    """Write one captured tensor by hand as safetensors."""
    values = [float(ar + i) + offset for i in range(8)]
    head = json.dumps({"latents": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}})
    content = struct.pack("<Q", len(head)) + head.encode() + struct.pack("<8f", *values)
    name = f"latents_ar{ar:03d}.safetensors"
    with open(name, "wb") as file:  # noqa: PTH123  pathlib would take longer than the side
        file.write(content)
    digest = hashlib.sha256(content).hexdigest()
    named = {"name": "latents", "ar": ar, "path": name}
    return named | {"sha256": digest, "shape": [8], "std": 1.0}


def step(job, ar, offset, stages_ms):
    """Print the line and return the event of one AR step."""
    began_at_s = time.monotonic()
    stages = " ".join(f"{stage} {ms:.3f} ms" for stage, ms in stages_ms.items())
    total = sum(stages_ms.values())
    without = total - stages_ms["finalize"]
    print(f"AR {ar} {stages} | total(w/o finalize) {without:.3f} ms total {total:.3f} ms")
    return {
        "step": {
            "nonce": job["nonce"],
            "ar": ar,
            "stages_ms": stages_ms,
            "denoise_ms": [50.0] * job["denoising_steps"],
            "wall_ms": total,
            "kernels_ms": {},
            "captures": [capture(job, ar, offset)],
            "began_at_s": began_at_s,
            "ended_at_s": time.monotonic(),
            "preempted": 0,
            "told_at_s": time.monotonic(),
        }
    }


def fill_the_disk():
    """Fail as a side does whose disk is full, with the room free again when it is gone."""
    try:
        with open("ballast", "wb") as file:  # noqa: PTH123
            file.write(b"x" * (1 << 30))
    finally:
        os.remove("ballast")  # noqa: PTH107


def disturbance():
    """What goes wrong in this job folder, as words; empty where nothing does."""
    path = os.environ.get("SIDE_DISTURBED", "")
    if not os.path.exists(path):  # noqa: PTH110
        return []
    with open(path) as file:  # noqa: PTH123
        named = [line.split() for line in file]
    return next((words for words in named if words[0] == os.path.basename(os.getcwd())), [])  # noqa: PTH109, PTH119


def write_telemetry(foreign=""):
    """Leave what the harness samples on a GPU: one that is busy, and slowed half of the time."""
    with open("telemetry.jsonl", "w") as file:  # noqa: PTH123
        for number in range(4):
            sample = {"at_s": 3600.0 + number, "gpu": "GPU-1", "sm_mhz": 1000, "memory_mhz": 3201}
            sample |= {
                "power_w": 500.0,
                "temperature_c": 80,
                "busy_percent": 100,
                "foreign": foreign,
            }
            sample |= {"reasons": SLOWED * (number % 2), "energy_j": 100.0 * number}
            file.write(json.dumps(sample) + "\n")


def main():
    """Do the job; the references and the other precision are a little off."""
    with open(sys.argv[1]) as file:  # noqa: PTH123
        job = json.load(file)
    os.chdir(os.path.dirname(sys.argv[1]))  # noqa: PTH120
    if os.path.exists(os.environ.get("SIDE_FULL", "")):  # noqa: PTH110
        fill_the_disk()
    with open("settings.json", "w") as file:  # noqa: PTH123
        json.dump(settings(job), file)
    offset = float(os.environ["SIDE_OFFSET"]) + (0.002 if job["dtype"] == "float32" else 0.0)
    wrong, stages_ms = disturbance(), STAGES_MS
    if wrong:
        write_telemetry("4711" if "crowded" in wrong else "")
        stages_ms = STAGES_MS | {"diffuse": 2 * STAGES_MS["diffuse"]}
    if "crash" in wrong:
        sys.exit("the GPU fell off the bus")
    if "oom" in wrong:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.")
    offset += 1.0 if "differ" in wrong else 0.0
    draws = job["ar_steps"] * job["denoising_steps"]
    end = {"nonce": job["nonce"], "ar_steps": job["ar_steps"], "noise_draws": draws, "facts": {}}
    with open("events.jsonl", "w", buffering=1) as file:  # noqa: PTH123
        steps = (step(job, ar, offset, stages_ms) for ar in range(job["ar_steps"]))
        file.writelines(json.dumps(one) + "\n" for one in steps)
        file.write(json.dumps({"end": end}) + "\n")


main()
