"""FlashDreams' own commands and the parts of the runners, in the candidate's environment."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import runners
from harness.logs import PARSERS

pytestmark = pytest.mark.real

CHECKS = Path(__file__).parent / "in_flashdreams"
LOOK = "import sys, imageio.v3 as i; v = i.imread(sys.argv[1]); print(v.shape, v.std() > 1)"


def run_in(environment, program, *words) -> subprocess.CompletedProcess:
    """Run a program of the environment with the staged runners, one thread and no network."""
    # On a busy machine, threads of a tiny model wait for one another far longer than they work.
    quiet = {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(environment.folder / "bin" / program), *map(str, words)],
        env={**os.environ, **quiet, **environment.variables()},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def every_slug(flashdreams_env, tmp_path_factory) -> Path:
    """Log, video and stats of every slug at tiny size."""
    folder = tmp_path_factory.mktemp("tiny")
    done = run_in(flashdreams_env, "python", CHECKS / "run_every_slug.py", folder)
    assert done.returncode == 0, done.stderr
    return folder


def read_rollout(folder, slug, log) -> list[dict]:
    """The stats of a finished command, checked against its log."""
    steps = PARSERS["flashdreams"](log, slug)
    stats = json.loads((folder / f"stats_{slug}.json").read_text())
    assert [row["autoregressive_index"] for row in stats] == [step.ar for step in steps]
    for row, step in zip(stats, steps, strict=True):
        assert row["diffuse_ms"] == pytest.approx(step.stages_ms["diffuse"], abs=0.001)
    return stats


def expected_frames(slug) -> tuple[int, int]:
    """AR steps and video frames of a slug in ``run_every_slug.py``."""
    if not slug.startswith(("self-", "causal-", "fastvideo-")):
        return 1, 9
    latent_frames = 2 if "framewise" in slug else 6
    return 2, 1 + 4 * (latent_frames - 1)


def test_parts(flashdreams_env):
    """RoPE, attention, timesteps, images, remaps and published configurations hold."""
    checks = sum(path.read_text().count("\ndef check_") for path in CHECKS.glob("check_*.py"))

    done = run_in(flashdreams_env, "python", CHECKS / "check_parts.py")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": ok") == checks


def test_help_lists_every_runner(flashdreams_env):
    """``flashdreams-run --help`` shows every slug."""
    done = run_in(flashdreams_env, "flashdreams-run", "--help")

    assert done.returncode == 0, done.stderr
    for slug in runners.RUNNERS:
        assert slug in done.stdout


def test_entry_points_are_the_slugs_that_load():
    """The installed package registers what ``runners.load`` knows."""
    project = tomllib.loads((CHECKS.parent.parent / "pyproject.toml").read_text())

    assert project["project"]["entry-points"]["flashdreams.runner_configs"] == (
        runners.RUNNERS | runners.PINNED
    )


def test_importing_the_package_imports_no_torch():
    """Adapters import ``runners.protocol`` in environments that decide their own torch."""
    code = "import sys, runners.protocol.wire; print({'torch', 'flashdreams'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


@pytest.mark.parametrize("slug", runners.RUNNERS)
def test_every_slug_runs_tiny(every_slug, slug):
    """Step lines, stats and a video of the right number of frames, and a word on the weights."""
    ar_steps, frames = expected_frames(slug)
    log = (every_slug / f"{slug}.log").read_text()

    stats = read_rollout(every_slug, slug, log.encode())

    assert len(stats) == ar_steps
    assert f"wrote video ({frames}, 3, 32, 48)" in log
    assert "synthetic weights (seed 0)" in log


def test_seed_command_writes_video_and_stats(flashdreams_env, tmp_path):
    """The published streaming command, word for word but for its size."""
    slug = "self-forcing-wan2.1-t2v-1.3b-taehv"

    done = run_in(
        flashdreams_env,
        *("flashdreams-run", slug, "--total-blocks", "7"),
        *("--size", "tiny", "--output-dir", tmp_path),
    )

    assert done.returncode == 0, done.stderr
    assert len(read_rollout(tmp_path, slug, done.stderr.encode())) == 7
    video = run_in(flashdreams_env, "python", "-c", LOOK, tmp_path / f"{slug}.mp4")
    assert video.stdout == "(81, 64, 64, 3) True\n"


def test_image_command_as_the_library_ships(flashdreams_env, tmp_path):
    """An image, a prompt file and the library's own timesteps, on the command line."""
    slug, prompt = "wan21-i2v-14b-480p", tmp_path / "prompt.txt"
    prompt.write_text("a cat\n")
    picture = "import sys, numpy, imageio.v3 as i; i.imwrite(sys.argv[1], numpy.eye(8)[..., None]"
    picture += ".repeat(3, 2).astype('uint8') * 255)"
    run_in(flashdreams_env, "python", "-c", picture, tmp_path / "cat.png")

    done = run_in(
        flashdreams_env,
        *("flashdreams-run", slug, "--size", "tiny", "--timesteps", "as-shipped"),
        *("--image-path", tmp_path / "cat.png", "--prompt", prompt, "--output-dir", tmp_path),
    )

    assert done.returncode == 0, done.stderr
    assert f"Resolved config for '{slug}'" in done.stdout
    assert len(read_rollout(tmp_path, slug, done.stderr.encode())) == 1
    assert (tmp_path / f"{slug}.mp4").is_file()
