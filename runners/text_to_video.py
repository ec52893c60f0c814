"""Text-to-video runner: FlashDreams' own command, and a matched trial when it is given a job."""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import imageio.v3 as iio
import torch
from flashdreams.infra.config import derive_config
from flashdreams.infra.runner import Runner, RunnerConfig
from flashdreams.recipes.wan import WanInferencePipeline
from loguru import logger
from torch import Tensor

from runners import exact_timesteps, matched
from runners.protocol import wire

DEFAULT_PROMPT = (
    "A red fox trots along a snowy ridge at sunrise, its breath visible in the cold air. Low "
    "golden light rakes across the drifts behind it, pine forest fills the valley below, and the "
    "camera follows at shoulder height with a slow, steady pan."
)


@dataclass(kw_only=True)
class TextToVideoRunnerConfig(RunnerConfig):
    """Options of a text-to-video runner."""

    _target: type["TextToVideoRunner"] = field(default_factory=lambda: TextToVideoRunner)

    prompt: str | Path = DEFAULT_PROMPT
    """The prompt, or a text file whose first non-empty line is the prompt."""

    pixel_height: int = 480
    """Height of the video in pixels."""

    pixel_width: int = 832
    """Width of the video in pixels."""

    fps: int = 16
    """Frames per second of the MP4."""

    timesteps: Literal["exact", "as-shipped"] = "exact"
    """``as-shipped`` keeps flashdreams 0.1.0's rounding of timesteps to the latents' dtype."""

    job: Path | None = None
    """A job file of the benchmark harness; everything else then comes from the job."""


@dataclass(kw_only=True)
class StreamingRunnerConfig(TextToVideoRunnerConfig):
    """Options of a runner that builds its video in autoregressive steps."""

    total_blocks: int = 60
    """Autoregressive steps to run."""


class TextToVideoRunner(Runner[TextToVideoRunnerConfig, WanInferencePipeline]):
    """Drives one rollout of a Wan text-to-video pipeline."""

    def __init__(self, config: TextToVideoRunnerConfig) -> None:
        """Build the pipeline, in the shape the job asks for if there is one."""
        self.trial: matched.MatchedTrial | None = None
        if config.job is not None:
            job = wire.read_json(wire.Job, config.job)
            config = matched.configure(config, job)
        elif config.timesteps == "exact":
            exact = exact_timesteps.exact_targets(config.pipeline.diffusion_model)
            config = derive_config(config, pipeline={"diffusion_model": exact})
        super().__init__(config)

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
        prompt = _read_prompt(self.config.prompt)
        cache = self.pipeline.initialize_cache(text=[prompt], height=height, width=width)
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


def _read_prompt(prompt: str | Path) -> str:
    """The prompt itself, or the first non-empty line of the file it names.

    Raises:
        ValueError: There is no text.
    """
    text = prompt.read_text() if isinstance(prompt, Path) else prompt
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"--prompt {prompt}: no text in it")
    return lines[0] if isinstance(prompt, Path) else text
