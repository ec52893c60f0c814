"""The library's decoders under a job: published configuration, the job's weights and switches."""

import dataclasses
from pathlib import Path
from typing import Any

from flashdreams.infra.decoder import DecoderConfig, StreamingVideoDecoder
from flashdreams.recipes.taehv import TeahvVAEDecoder, TeahvVAEDecoderConfig
from flashdreams.recipes.wan import WanVAEDecoder, WanVAEDecoderConfig
from safetensors import safe_open

from runners.protocol import decoder_shapes, drive, wire
from runners.protocol.seeded_inputs import InputMismatchError

CONFIGS: dict[str, type[WanVAEDecoderConfig] | type[TeahvVAEDecoderConfig]] = {
    "wan_vae": WanVAEDecoderConfig,
    "taehv": TeahvVAEDecoderConfig,
}
"""Decoder of a job to the library's."""


def configured(shipped: DecoderConfig | None, job: wire.Job) -> DecoderConfig | None:
    """The decoder that a job asks for; None where it asks for latents only.

    Compilation and CUDA graph are on where the job has them on and the published configuration of
    the decoder, ``shipped`` if it is of that kind, does too.

    Raises:
        drive.UnsupportedJobError: The job names no weights for its decoder.
    """
    if job.decoder == "none":
        return None
    if job.decoder_weights is None:
        raise drive.UnsupportedJobError(f"job.decoder is {job.decoder} without decoder_weights")
    kind = CONFIGS[job.decoder]
    config = shipped if isinstance(shipped, kind) else kind()
    changes: dict[str, Any] = {
        "checkpoint_path": job.decoder_weights.path,
        "dtype": drive.torch_dtype(job.dtype),
        "use_compile": config.use_compile and job.compile,
        "use_cuda_graph": config.use_cuda_graph and job.cuda_graph,
    }
    if job.decoder == "wan_vae":
        changes["base_dim"] = decoder_shapes.NARROWEST[job.size]
    return dataclasses.replace(config, **changes)


def name_in_force(decoder: StreamingVideoDecoder | None) -> str:
    """A built decoder as a job spells it; another name where it is not quite that one."""
    if decoder is None:
        return "none"
    if isinstance(decoder, WanVAEDecoder):
        return "wan_vae"
    # The library scales the latents of one checkpoint, which it knows by its path.
    is_plain = isinstance(decoder, TeahvVAEDecoder) and not decoder.need_scaled
    return "taehv" if is_plain else f"{type(decoder).__name__} with scaled latents"


def weights_in_force(decoder: StreamingVideoDecoder | None) -> str:
    """Digest of the file a decoder was loaded from; ``none`` without a decoder.

    Raises:
        InputMismatchError: It is not exactly the decoder's parameters, which the library accepts.
    """
    if decoder is None:
        return "none"
    path = Path(decoder.config.checkpoint_path)
    with safe_open(path, "pt") as file:
        given = len(list(file.keys()))
    has = len(list(decoder.parameters()))
    if given != has:
        raise InputMismatchError(f"{path} has {given} parameters, the decoder has {has}")
    return wire.sha256_once(path)


def facts(decoder: StreamingVideoDecoder | None) -> dict[str, str]:
    """How a decoder runs, to keep with the trial."""
    if decoder is None:
        return {}
    config = decoder.config
    how = f"compile {config.use_compile}, CUDA graph {config.use_cuda_graph}, {config.dtype}"
    return {"decoder": f"{type(decoder).__name__}, a chunk at a time: {how}"}
