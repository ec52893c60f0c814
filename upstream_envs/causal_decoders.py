"""Decodes latents block by block with the decoder classes of the causal repositories, unpatched.

Their ``inference.py`` decodes a whole clip at its end and has no time per block; ``demo.py``
decodes each block when it is there, which is what is timed here.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from runners.protocol import decoder_shapes, drive, wire
from runners.protocol.seeded_inputs import load_artifact
from upstream_envs import wan_network

Z_DIM = 16
"""Latent channels."""
FRAMES_PER_LATENT = 4
DEMO_CONTEXT = 3
"""Latent frames that ``demo.py`` decodes again before each block with TAEHV."""
WHOLE_CONTEXT = 8
"""Latent frames after which what came before no longer reaches a block.

Each of TAEHV's blocks looks one frame back, six at the latents' rate and three at twice that: 7.5.
"""


def _filled(model: nn.Module, job: wire.Job) -> nn.Module:
    """A decoder on the meta device, filled with the job's weights; its encoder is never reached."""
    if job.decoder_weights is None:
        raise drive.UnsupportedJobError(f"job.decoder is {job.decoder} without decoder_weights")
    weights = load_artifact(job.decoder_weights, job.device)
    dtype = drive.torch_dtype(job.dtype)
    return wan_network.fill(model, weights, dtype, job.decoder_weights.path)


class WanVae:
    """Upstream's Wan VAE with its cache, which makes a block's frames those of the whole clip."""

    def __init__(self, upstream: Any, job: wire.Job) -> None:
        """Build upstream's wrapper around the job's weights."""
        self._attention = job.attention
        upstream.wrapper._video_vae = lambda **_: _wan_vae(job)
        self._vae = upstream.wrapper.WanVAEWrapper()
        self._frames_TCHW: Tensor

    def decode(self, latents_TCHW: Tensor) -> None:
        """Decode the next block."""
        # Its one attention head is wider than cuDNN takes; that kernel is asked of the network.
        drive.choose_kernels("sdpa")
        self._frames_TCHW = self._vae.decode_to_pixel(latents_TCHW[None], use_cache=True)[0]
        drive.choose_kernels(self._attention)

    def frames(self) -> Tensor:
        """The frames that were timed."""
        return self._frames_TCHW

    @property
    def facts(self) -> dict[str, str]:
        """How it is decoded."""
        return {"decoder": "WanVAEWrapper.decode_to_pixel, a block at a time with its cache"}


def _wan_vae(job: wire.Job) -> nn.Module:
    """Upstream's VAE in the job's width, as its ``_video_vae`` builds it."""
    vae = importlib.import_module("wan.modules.vae")
    with torch.device("meta"):
        model = vae.WanVAE_(
            dim=decoder_shapes.NARROWEST[job.size],
            z_dim=Z_DIM,
            temperal_downsample=[False, True, True],
        )
    model.encoder, model.conv1 = nn.Identity(), nn.Identity()
    model.clear_cache()
    return _filled(model, job)


class Taehv:
    """Upstream's TAEHV as ``demo.py`` uses it.

    It keeps no state, so ``demo.py`` decodes three latent frames again before each block and drops
    theirs. That forgets what lies further back. What is compared must not depend on how much a demo
    chose to forget: captured frames come from the same class with all the latent frames that reach
    them, decoded outside every timed span, and the facts have the distance between the two.
    """

    def __init__(self, _upstream: Any, job: wire.Job) -> None:
        """Build upstream's class around the job's weights."""
        code = importlib.import_module("demo_utils.taehv")
        with torch.device("meta"):
            model = code.TAEHV(checkpoint_path=None)
        model.encoder = nn.Identity()
        self._taehv = _filled(model, job)
        self._seen_TCHW: Tensor | None = None
        self._timed_TCHW: Tensor
        self._block = 0
        self._forgotten = 0.0

    def decode(self, latents_TCHW: Tensor) -> None:
        """Decode the next block."""
        blocks = [latents_TCHW] if self._seen_TCHW is None else [self._seen_TCHW, latents_TCHW]
        self._block = len(latents_TCHW)
        self._seen_TCHW = torch.cat(blocks)[-(WHOLE_CONTEXT + self._block) :]
        self._timed_TCHW = self._decoded(self._seen_TCHW[-(DEMO_CONTEXT + self._block) :])

    def _decoded(self, window_TCHW: Tensor) -> Tensor:
        """Frames [T, C, H, W] of the last block, which ends this window of latents."""
        pixels = self._taehv.decode_video(window_TCHW[None], parallel=False).mul_(2).sub_(1)[0]
        context = len(window_TCHW) - self._block
        # The first latent frame of a clip is one frame and not four.
        return pixels[FRAMES_PER_LATENT * context if context else FRAMES_PER_LATENT - 1 :]

    def frames(self) -> Tensor:
        """The frames of the last block as of the whole clip."""
        whole = self._decoded(self._seen_TCHW).clamp(-1, 1)
        timed = self._timed_TCHW.clamp(-1, 1).double()
        distance = (timed - whole.double()).norm() / whole.double().norm()
        self._forgotten = max(self._forgotten, float(distance))
        return whole

    @property
    def facts(self) -> dict[str, str]:
        """How it is decoded, and what that costs in accuracy."""
        return {
            "decoder": f"TAEHV.decode_video as demo.py: {DEMO_CONTEXT} latent frames again before "
            f"each block; captured frames from {WHOLE_CONTEXT}, outside the timed span",
            "decoder_forgets": f"relative L2 of at most {self._forgotten:.2e} between the two",
        }


DECODERS: dict[str, type[WanVae] | type[Taehv]] = {"wan_vae": WanVae, "taehv": Taehv}
"""Decoder of a job to upstream's, called with the imported modules and the job."""


def name_in_force(decoder: object) -> str:
    """A built decoder as a job spells it; ``none`` for none."""
    return next((name for name, kind in DECODERS.items() if isinstance(decoder, kind)), "none")
