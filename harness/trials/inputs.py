"""Shared inputs of a plan: weights, noise bank and prompt embeddings, made once by content."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.environments.built import BuiltEnvironment, cache_dir
from harness.errors import EnvironmentFault
from harness.machine.owners import making
from harness.records import PlannedTrial
from harness.sandboxes.contract import Launch
from harness.sandboxes.start import run_launch
from runners.protocol import solvers
from runners.protocol.decoder_shapes import NARROWEST
from runners.protocol.requests import PrepareRequest
from runners.protocol.weight_rules import FROM_FILE
from runners.protocol.wire import (
    Artifact,
    Job,
    sha256_file,
    sha256_once,
    write_json,
)

_REQUEST_FILE = "request.json"
_PREPARE_S = 3600.0
PROMPT = "synthetic prompt"
"""Seeds the stand-in prompt embeddings."""


def prepare(trial: PlannedTrial, environment: BuiltEnvironment) -> PlannedTrial:
    """Return the trial with its shared inputs in place, made first where they are missing.

    Raises:
        EnvironmentFault: The candidate's environment could not make them, or one was altered since.
    """
    request = _request(trial.job, environment.code_digest)
    paths = _paths(request)
    if not all(map(_is_made, paths.values())):
        with FileLock(cache_dir() / "inputs.lock"):
            _make(request, environment)
    made: dict[str, Any] = {_JOB_FIELDS[name]: _verified(path) for name, path in paths.items()}
    return replace(trial, job=replace(trial.job, **made))


_JOB_FIELDS = {
    "weights_path": "weights",
    "noise_path": "noise",
    "text_path": "text",
    "decoder_path": "decoder_weights",
    "inputs_path": "inputs",
}
"""Field of a request that says where an input goes, to the job's field for it."""


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_made(path: Path) -> bool:
    return path.exists() and _digest_file(path).exists()


def _verified(path: Path) -> Artifact:
    """An input whose bytes are those that were made: its name alone would not show a change."""
    sha256 = sha256_once(path)
    if sha256 != _digest_file(path).read_text("utf-8"):
        raise EnvironmentFault(
            f"{path} is not what was made there: it was altered or is damaged\n"
            f"Have it made anew: rm {path}, then run again"
        )
    return Artifact(path=str(path), sha256=sha256)


def _paths(request: PrepareRequest) -> dict[str, Path]:
    """Where each input goes, by field of the request; those that the job needs."""
    paths = {name: getattr(request, name) for name in _JOB_FIELDS}
    return {name: Path(path) for name, path in paths.items() if path}


def _request(job: Job, code_digest: str) -> PrepareRequest:
    """What to make and where; each path is named by everything its bytes depend on."""
    latent_shape = (job.len_t, job.network.out_dim, job.latent_height, job.latent_width)
    draws = max(solvers.draws(job, ar) for ar in range(job.ar_steps))
    network, width = asdict(job.network), NARROWEST[job.size]
    drawn = (job.weights_seed, job.weights_rule, job.weights_gains, job.networks)
    named = (latent_shape, job.seed, job.ar_steps, job.input_names)
    decoder = ("decoder", code_digest, job.decoder, width, job.weights_seed)
    return PrepareRequest(
        network=job.network,
        weights_seed=job.weights_seed,
        noise_seed=job.seed,
        prompt=PROMPT,
        ar_steps=job.ar_steps,
        draws_per_step=draws,
        latent_shape=latent_shape,
        weights_path=(
            _path("weights", code_digest, network, *drawn) if job.weights_from == FROM_FILE else ""
        ),
        noise_path=_path("noise", code_digest, latent_shape, job.seed, job.ar_steps, draws),
        text_path=_path("text", code_digest, network, latent_shape, PROMPT),
        decoder=job.decoder,
        decoder_width=width,
        decoder_path="" if job.decoder == "none" else _path(*decoder),
        networks=job.networks,
        weights_rule=job.weights_rule,
        weights_gains=job.weights_gains,
        input_names=job.input_names,
        inputs_path=_path("inputs", code_digest, *named) if job.input_names else "",
    )


def _path(kind: str, *content: object) -> str:
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]
    folder = cache_dir() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{key}.safetensors")


def _make(request: PrepareRequest, environment: BuiltEnvironment) -> None:
    """Write missing inputs beside their places, then rename them there: whole, or not there."""
    places = {name: path for name, path in _paths(request).items() if not _is_made(path)}
    if not places:  # another harness was faster
        return
    with making(cache_dir()) as folder:
        beside = {name: folder / f"{at.parent.name}-{at.name}" for name, at in places.items()}
        changes: dict[str, Any] = {name: str(beside.get(name, "")) for name in _JOB_FIELDS}
        asked = replace(request, **changes)
        write_json(folder / _REQUEST_FILE, asked)
        launch = Launch(
            command=[
                str(environment.folder / "bin" / "python"),
                "-m",
                "runners.protocol.synthetic",
                str(folder / _REQUEST_FILE),
            ],
            folder=folder,
            variables=environment.variables(),
            readable=(environment.code,),
            image=environment.image,
        )
        status, said = run_launch(launch, _PREPARE_S)
        if status:
            tail = "\n".join(said.splitlines()[-3:])
            raise EnvironmentFault(
                f"weights and noise cannot be made in environment {environment.name}:\n{tail}\n"
                f"Make it anew: fdbench env rm {environment.name}, then run again"
            )
        for name, path in beside.items():
            path.chmod(0o644)  # a container reads it as another user
            _digest_file(places[name]).write_text(sha256_file(path), encoding="utf-8")
            path.replace(places[name])
