"""FlashDreams' own commands and the parts of the runners, in the candidate's environment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.logs import PARSERS

CHECKS = Path(__file__).parent / "in_flashdreams"
SLUGS = (
    "self-forcing-wan2.1-t2v-1.3b",
    "self-forcing-wan2.1-t2v-1.3b-taehv",
    "self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope",
    "wan21-t2v-1.3b-480p",
)


def run_in(environment, program, *words, **variables) -> subprocess.CompletedProcess:
    """Run a program of the environment with the staged runners."""
    return subprocess.run(
        [str(environment.folder / "bin" / program), *map(str, words)],
        env={**os.environ, "COLUMNS": "200", **environment.variables(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_parts(flashdreams_env):
    """RoPE, attention, exact timesteps, checkpoint unwrapping and published configurations hold."""
    done = run_in(flashdreams_env, "python", CHECKS / "check_parts.py")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": ok") == 6


def test_help_lists_every_runner(flashdreams_env):
    """``flashdreams-run --help`` shows the four slugs with a description each."""
    done = run_in(flashdreams_env, "flashdreams-run", "--help")

    assert done.returncode == 0, done.stderr
    for slug in SLUGS:
        assert slug in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("self-forcing-wan2.1-t2v-1.3b-taehv", "--total-blocks", "7"), id="streaming"),
        pytest.param(("wan21-t2v-1.3b-480p", "--prompt", "a cat"), id="bidirectional"),
        pytest.param(
            ("self-forcing-wan2.1-t2v-1.3b", "--timesteps", "as-shipped"), id="library-as-shipped"
        ),
    ],
)
def test_the_seed_lines_are_understood(flashdreams_env, words):
    """The published command lines resolve to a configuration, word for word."""
    done = run_in(flashdreams_env, "flashdreams-run", "--no-instantiate", *words)

    assert done.returncode == 0, done.stderr
    assert f"Resolved config for '{words[0]}'" in done.stdout


def test_own_command_writes_video_and_stats(flashdreams_env, tmp_path):
    """Without a job, a runner is FlashDreams' own command: step lines, an MP4 and a stats file."""
    done = run_in(
        flashdreams_env,
        *("flashdreams-run", "tiny-self-forcing", "--total-blocks", "3"),
        *("--output-dir", tmp_path / "out"),
        PYTHONPATH=f"{flashdreams_env.code}:{CHECKS}",
        FLASHDREAMS_RUNNER_CONFIGS="tiny=tiny_runner:RUNNER",
        TINY_WEIGHTS=str(tmp_path / "vae.pth"),
    )

    assert done.returncode == 0, done.stderr
    steps = PARSERS["flashdreams"](done.stderr.encode(), "stderr")
    stats = json.loads((tmp_path / "out" / "stats_tiny-self-forcing.json").read_text())
    assert (
        [row["autoregressive_index"] for row in stats] == [step.ar for step in steps] == [0, 1, 2]
    )
    assert stats[1]["diffuse_ms"] == pytest.approx(steps[1].stages_ms["diffuse"], abs=0.001)
    video = tmp_path / "out" / "tiny-self-forcing.mp4"
    look = "import sys, imageio.v3 as i; v = i.imread(sys.argv[1]); print(v.shape, v.std() > 1)"
    assert run_in(flashdreams_env, "python", "-c", look, video).stdout == "(33, 64, 64, 3) True\n"
