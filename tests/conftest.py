"""Fixtures of several test modules: the finished smoke run and environments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import environments, sources
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
def official_run(tmp_path_factory) -> Finished:
    """The whole suite of official upstream runners, run once."""
    folder = tmp_path_factory.mktemp("official") / "run"
    for name, declared in environments.load_environments().items():
        if declared.source:
            require_source(name)
    return fdbench("run", "--suite", "official", "--gpu", "cpu", "--out", folder, folder=folder)


def require_source(name: str) -> Path:
    """The staged source of an environment; skips where upstream cannot be reached from here."""
    source = environments.load_environments()[name].source
    if "FDBENCH_SOURCES" not in os.environ:
        words = ["git", "ls-remote", "--exit-code", source.url, "HEAD"]
        if subprocess.run(words, capture_output=True, check=False, timeout=60).returncode:
            pytest.skip(f"{source.url} cannot be reached and FDBENCH_SOURCES is not set")
    return sources.stage(name, source, environments.cache_dir() / "sources", print)


@pytest.fixture(scope="session")
def flashdreams_env() -> environments.BuiltEnvironment:
    """The candidate's environment, built if need be."""
    return environments.build("flashdreams", print)
