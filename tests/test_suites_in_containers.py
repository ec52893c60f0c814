"""Whole suites with each side in a container: real images, and the figures of the processes."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.environments import images
from harness.records import PairRow, ParityRow, TrialRow
from harness.store.run import open_run
from tests.command import fdbench

pytestmark = pytest.mark.containers

SIDES = ("flashdreams", "diffusers", "fastvideo")


def run_contained(suite, folder):
    """A whole suite in containers; images are built if need be."""
    words = ["run", "--suite", suite, "--gpu", "cpu", "--sandbox", "docker", "--out", folder]
    return fdbench(*words, folder=folder)


@pytest.fixture(scope="module")
def contained_run(base_image, tmp_path_factory):
    """The smoke suite."""
    return run_contained("smoke", tmp_path_factory.mktemp("contained") / "run")


@pytest.fixture(scope="module")
def contained_official_run(base_image, official_run, tmp_path_factory):
    """The suite of official upstream runners."""
    return run_contained("official", tmp_path_factory.mktemp("contained") / "run")


def test_contained_run_passes(contained_run):
    """Exit code 0, and the record says where the trials ran and in which images."""
    assert contained_run.code == 0, contained_run.text
    run = json.loads((contained_run.folder / "run.json").read_text())
    rows = open_run(contained_run.folder).read_rows(TrialRow)

    assert run["sandbox"] == "docker"
    ids = {one["image"].removeprefix("sha256:") for one in run["environments"].values()}
    assert all(len(image) == 64 for image in ids)
    assert {row.environment_digest for row in rows} <= ids


@pytest.mark.parametrize(
    ("contained", "plain"),
    [("contained_run", "smoke_run"), ("contained_official_run", "official_run")],
    ids=["smoke", "official"],
)
def test_parity_is_that_of_processes_to_the_bit(contained, plain, request):
    """Every distance in containers equals the one in processes, and so does each verdict."""
    runs = [request.getfixturevalue(name) for name in (contained, plain)]
    assert [run.code for run in runs] == [0, 0], "\n".join(run.text for run in runs)
    ours, theirs = (open_run(run.folder) for run in runs)

    assert len(theirs.read_rows(ParityRow)) > 10
    assert ours.read_rows(ParityRow) == theirs.read_rows(ParityRow)
    assert ours.read_rows(PairRow) == theirs.read_rows(PairRow)


def test_images_share_the_layer_of_torch(contained_run):
    """All layers but the last few, which are an environment's own, are the same on disk."""
    assert contained_run.code == 0
    layers = [images.find(name).layers for name in SIDES]
    shared = set(layers[0]).intersection(*layers[1:])

    assert all(len(set(one) - shared) <= 4 for one in layers)
    assert len(shared) >= 4


def test_images_verify(contained_run):
    """Each image is what its lock and its record say, PyTorch included."""
    assert contained_run.code == 0
    for name in SIDES:
        image = images.find(name)
        contents = images.verify(image)
        assert contents.num_files > 10_000
        assert contents.packages["torch"].startswith("2.13.0")
        assert Path(images.HOME) == Path("/opt/env")


def test_what_lies_below_roots_home_can_be_read(contained_run, tmp_path):
    """Root's cache is mounted there, and base images close that folder to others."""
    assert contained_run.code == 0
    (tmp_path / "code").write_text("code")
    mount = f"{tmp_path / 'code'}:/root/.cache/code:ro"
    image = images.find("flashdreams").image_id
    words = ["docker", "run", "--rm", "--network=none", f"--volume={mount}", image]
    done = subprocess.run([*words, "cat", "/root/.cache/code"], capture_output=True, check=False)

    assert (done.stdout, done.stderr) == (b"code", b"")
