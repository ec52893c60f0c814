"""The one video runner: FlashDreams' own command, and a matched trial when it is given a job."""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import imageio.v3 as iio
import torch
from flashdreams.infra.config import derive_config
from flashdreams.infra.pipeline import StreamInferencePipeline
from flashdreams.infra.runner import Runner, RunnerConfig
from loguru import logger
from torch import Tensor

from runners import families, first_frame, matched, tiny
from runners.protocol import drive

DEFAULT_PROMPT = (
    "A red fox trots along a snowy ridge at sunrise, its breath visible in the cold air. Low "
    "golden light rakes across the drifts behind it, pine forest fills the valley below, and the "
    "camera follows at shoulder height with a slow, steady pan."
)


@dataclass(kw_only=True)
class VideoRunnerConfig(RunnerConfig):
    """Options of a text-to-video runner."""

    _target: type["VideoRunner"] = field(default_factory=lambda: VideoRunner)

    prompt: str | Path = DEFAULT_PROMPT
    """The prompt, or a .txt file whose first non-empty line is the prompt."""

    pixel_height: int = 480
    """Height of the video in pixels."""

    pixel_width: int = 832
    """Width of the video in pixels."""

    fps: int = 16
    """Frames per second of the MP4."""

    size: Literal["full", "tiny"] = "full"
    """``tiny`` shrinks the model to seconds on a CPU, with synthetic weights and no download."""

    timesteps: Literal["exact", "as-shipped"] = "exact"
    """``as-shipped`` keeps flashdreams 0.1.0's rounding of timesteps to the latents' dtype."""

    job: Path | None = None
    """A job file of the benchmark harness; everything else then comes from the job."""


@dataclass(kw_only=True)
class StreamingRunnerConfig(VideoRunnerConfig):
    """Options of a runner that builds its video in autoregressive steps."""

    total_blocks: int = 60
    """Autoregressive steps to run."""


@dataclass(kw_only=True)
class ImageRunnerConfig(VideoRunnerConfig):
    """Options of a runner whose video starts from an image."""

    image_path: str | Path
    """The first frame: an image file, or the http(s) address of one."""


@dataclass(kw_only=True)
class StreamingImageRunnerConfig(StreamingRunnerConfig, ImageRunnerConfig):
    """Options of a runner that continues an image in autoregressive steps."""


class VideoRunner(Runner[VideoRunnerConfig, StreamInferencePipeline[Any, Any, Any]]):
    """Drives one rollout of a Wan or Cosmos pipeline."""

    def __init__(self, config: VideoRunnerConfig) -> None:
        """Build the pipeline, in the shape the job asks for if there is one."""
        if config.job is not None:
            job = drive.read_job(config.job)
            with matched.building(config, job):
                super().__init__(matched.configure(config, job))
            return
        is_exact = config.timesteps == "exact"
        if is_exact:
            mended = families.mended(config.pipeline.diffusion_model)
            config = derive_config(config, pipeline={"diffusion_model": mended})
        with tiny.shrunk(config) if config.size == "tiny" else nullcontext(config) as sized:
            # Before the weights, so that a wrong path fails before gigabytes are loaded.
            self._image_TCHW = _read_image(sized)
            super().__init__(sized)
        if is_exact:
            families.mend(self.pipeline.diffusion_model)

    def run(self) -> None:
        """Run the job, or write the video and its per-step stats."""
        if self.config.job is not None:
            matched.run(self.pipeline, self.config.job)
            return
        frames, stats = self._rollout()
        if self.is_rank_zero:
            self._write(frames, stats)

    @property
    def _ar_steps(self) -> int:
        config = self.config
        return config.total_blocks if isinstance(config, StreamingRunnerConfig) else 1

    def _rollout(self) -> tuple[Tensor, list[dict[str, float]]]:
        """Generate all AR steps; frames are [T, C, H, W] in [-1, 1]."""
        height, width = self._latent_size()
        prompt, image_TCHW = _read_prompt(self.config.prompt), self._image_TCHW
        if image_TCHW is not None:
            image_TCHW = image_TCHW.to(self.pipeline.device, self.pipeline.diffusion_model.dtype)
        cache = self.pipeline.initialize_cache(
            text=[prompt], image=image_TCHW, height=height, width=width
        )
        chunks, stats = [], []
        for ar in range(self._ar_steps):
            chunks.append(self.pipeline.generate(ar, cache).cpu())
            timings = self.pipeline.finalize(ar, cache)
            if timings is not None:
                stats.append({"autoregressive_index": ar, **timings})
        return torch.cat(chunks), stats

    def _latent_size(self) -> tuple[int, int]:
        """Latent height and width.

        Raises:
            ValueError: The video's size is not a multiple of the decoder's compression.
        """
        ratio = cast("int", self.pipeline.decoder.spatial_compression_ratio)
        height, width = self.config.pixel_height, self.config.pixel_width
        if height % ratio or width % ratio:
            raise ValueError(
                f"--pixel-height {height} and --pixel-width {width}: not multiples of {ratio}"
            )
        return height // ratio, width // ratio

    def _write(self, frames: Tensor, stats: list[dict[str, float]]) -> None:
        folder, name = self.config.output_dir, self.config.runner_name
        folder.mkdir(parents=True, exist_ok=True)
        video = folder / f"{name}.mp4"
        pixels = frames.float().add(1).mul(127.5).clamp(0, 255).to(torch.uint8)
        iio.imwrite(video, pixels.permute(0, 2, 3, 1).numpy(), fps=self.config.fps, codec="libx264")
        logger.info(f"[{name}] wrote video {tuple(frames.shape)} -> {video.resolve()}")
        if stats:
            table = folder / f"stats_{name}.json"
            table.write_text(json.dumps(stats, indent=2))
            logger.info(f"[{name}] wrote per-AR-step stats -> {table.resolve()}")


def _read_image(config: VideoRunnerConfig) -> Tensor | None:
    if not isinstance(config, ImageRunnerConfig):
        return None
    return first_frame.read(str(config.image_path), config.pixel_height, config.pixel_width)


def _read_prompt(prompt: str | Path) -> str:
    """The prompt itself, or the first non-empty line of the text file it names.

    The command line makes every ``str | Path`` a ``str``: the published integrations, which ask for
    a ``Path``, take ``--prompt prompt.txt`` for the prompt.

    Raises:
        ValueError: There is no text.
    """
    is_file = isinstance(prompt, Path) or prompt.endswith(".txt")
    lines = (Path(prompt).read_text() if is_file else str(prompt)).strip().splitlines()
    if not lines:
        raise ValueError(f"--prompt {prompt}: no text in it")
    return lines[0].strip() if is_file else str(prompt)
