"""Fixtures of several test modules: the finished smoke run and environments."""

import shutil
from pathlib import Path

import pytest

from harness import environments
from tests.command import Finished, fdbench


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Finished:
    """The whole smoke suite, run once."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    return fdbench("run", "--suite", "smoke", "--gpu", "cpu", "--out", folder, folder=folder)


@pytest.fixture
def environments_dir(tmp_path) -> Path:
    """A copy of the declared environments, for a test to spoil an adapter in."""
    copy = tmp_path / "upstream_envs"
    shutil.copytree(environments.ENVIRONMENTS_DIR, copy)
    return copy


@pytest.fixture(scope="session")
def flashdreams_env() -> environments.BuiltEnvironment:
    """The candidate's environment, built if need be."""
    return environments.build("flashdreams", print)
