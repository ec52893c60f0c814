"""Upstream sources: only the pinned files ever reach an adapter."""

import dataclasses
import os
import shutil
import subprocess

import pytest

from harness.environments import sources
from harness.environments.built import remove_environment
from harness.environments.declared import load_environments
from harness.errors import EnvironmentFault
from harness.records import Source

pytestmark = pytest.mark.contract

FILES = {"model/net.py": "WIDTH = 8\n", "model/parts/rope.py": "BASE = 1e4\n", "README.md": "x\n"}


def git(folder, *words):
    """Run git as nobody in particular."""
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.example", *words]
    # Inside a hook git names another repository in its variables.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture(autouse=True)
def _no_given_sources(monkeypatch):
    monkeypatch.delenv("FDBENCH_SOURCES", raising=False)


@pytest.fixture
def upstream(tmp_path):
    """A repository with two commits; the first is the one to pin."""
    folder = tmp_path / "upstream"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "first")
    (folder / "model" / "net.py").write_text("WIDTH = 9\n")
    git(folder, "commit", "--quiet", "-am", "two")
    return folder


@pytest.fixture
def source(upstream):
    """The first commit's pin, its digest made by the shell line of docs/FORMAT.md."""
    git(upstream, "checkout", "--quiet", "first")
    line = "git ls-files -z model | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    digest = subprocess.run(
        line, shell=True, cwd=upstream, check=True, capture_output=True, text=True
    ).stdout.split()[0]
    commit = git(upstream, "rev-parse", "HEAD").strip()
    git(upstream, "checkout", "--quiet", "-")
    return Source(url=str(upstream), commit=commit, paths=["model"], tree_sha256=digest)


@pytest.fixture
def stage(tmp_path):
    """Stage into a cache of its own; what is said goes to ``stage.said``."""
    said = []

    def staged(source):
        return sources.stage("fake", source, tmp_path / "cache", said.append)

    staged.said = said
    return staged


@pytest.fixture
def given(tmp_path, monkeypatch, upstream):
    """A clone of the pinned commit where ``FDBENCH_SOURCES`` points."""
    folder = tmp_path / "given" / "fake"
    git(tmp_path, "clone", "--quiet", "--branch", "first", upstream, folder)
    monkeypatch.setenv("FDBENCH_SOURCES", str(folder.parent))
    return folder


def test_pinned_commit_is_fetched_and_staged(stage, source):
    """The pinned paths come from the pinned commit, not from the newest, and are read-only."""
    folder = stage(source)

    staged = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    assert set(staged) == {"model/net.py", "model/parts/rope.py"}
    assert staged["model/net.py"].read_text() == "WIDTH = 8\n"
    assert not any(path.stat().st_mode & 0o222 for path in (folder, *staged.values()))
    assert folder.name == f"fake-{source.tree_sha256[:12]}"


def test_staged_source_needs_no_network(stage, source, upstream):
    """A second use takes what is there, without a word."""
    folder = stage(source)
    shutil.rmtree(upstream)

    assert stage(source) == folder
    assert len(stage.said) == 1


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_staged_source_that_was_altered_is_staged_again(stage, source, change):
    """An adapter never sees an edited, additional or missing file."""
    folder = stage(source)
    folder.chmod(0o755)
    (folder / "model").chmod(0o755)
    victim = folder / "model" / "net.py"
    victim.unlink()
    if change != "remove":
        victim.write_text("WIDTH = 10\n" if change == "edit" else "WIDTH = 8\n")
    if change == "add":
        (folder / "model" / "extra.py").write_text("")

    again = stage(source)
    assert (again / "model" / "net.py").read_text() == "WIDTH = 8\n"
    assert not (again / "model" / "extra.py").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("commit", "main"), ("commit", "33593df"), ("tree_sha256", "")],
)
def test_unpinned_source_is_refused(stage, source, key, value):
    """A branch, a short commit or no digest is no pin."""
    with pytest.raises(EnvironmentFault, match=f"unpinned: {key} is '{value}'"):
        stage(dataclasses.replace(source, **{key: value}))


def test_commit_that_upstream_does_not_have_is_refused(stage, source):
    """Git's own words say so."""
    with pytest.raises(EnvironmentFault, match=r"git fetch .* failed"):
        stage(dataclasses.replace(source, commit="0" * 40))


def test_commit_with_other_content_is_refused(stage, source, upstream):
    """A commit that exists and has other files than the digest says."""
    newest = git(upstream, "rev-parse", "HEAD").strip()
    with pytest.raises(EnvironmentFault, match=r"altered source: the pinned paths"):
        stage(dataclasses.replace(source, commit=newest))


def test_path_that_upstream_does_not_have_is_refused(stage, source):
    """A misspelt path is named."""
    with pytest.raises(EnvironmentFault, match="has no modle"):
        stage(dataclasses.replace(source, paths=["model", "modle"]))


def test_unreachable_source_says_what_to_do(stage, source, tmp_path):
    """Without network the message names the way around."""
    with pytest.raises(EnvironmentFault, match="FDBENCH_SOURCES/fake/"):
        stage(dataclasses.replace(source, url=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("is_clone", [True, False])
def test_given_folder_is_used(stage, source, given, upstream, is_clone):
    """A clone or plain files at ``FDBENCH_SOURCES`` need no network."""
    shutil.rmtree(upstream)
    if not is_clone:
        shutil.rmtree(given / ".git")
        (given / "model" / "__pycache__").mkdir()
        (given / "model" / "__pycache__" / "net.cpython-311.pyc").touch()

    folder = stage(source)
    assert (folder / "model" / "net.py").read_text() == "WIDTH = 8\n"
    assert not (folder / "model" / "__pycache__").exists()
    assert stage.said == []


@pytest.mark.parametrize("was_staged", [True, False])
def test_altered_plain_file_is_refused(stage, source, given, was_staged):
    """One changed character, whether or not the true source is staged already."""
    shutil.rmtree(given / ".git")
    if was_staged:
        stage(source)
    (given / "model" / "net.py").write_text("WIDTH = 80\n")

    with pytest.raises(EnvironmentFault, match="altered source"):
        stage(source)


@pytest.mark.parametrize("name", ["model/net.py", "model/new.py"])
def test_dirty_clone_is_refused(stage, source, given, name):
    """An edited and an untracked file are named."""
    (given / name).write_text("WIDTH = 80\n")

    with pytest.raises(EnvironmentFault, match=f"dirty source: .*{name}"):
        stage(source)


def test_clone_at_another_commit_is_refused(stage, source, given):
    """Even where the files are the same."""
    git(given, "commit", "--quiet", "--allow-empty", "-m", "three")

    with pytest.raises(EnvironmentFault, match=r"wrong commit: .* expected"):
        stage(source)


def test_link_is_refused(stage, source, given, tmp_path):
    """A link may lead to anything."""
    shutil.rmtree(given / ".git")
    (given / "model" / "net.py").unlink()
    (tmp_path / "elsewhere.py").write_text("WIDTH = 8\n")
    (given / "model" / "net.py").symlink_to(tmp_path / "elsewhere.py")

    with pytest.raises(EnvironmentFault, match="is not a regular file"):
        stage(source)


def test_folder_that_is_not_given_is_named(stage, source, given):
    """A machine that keeps sources and lacks this one."""
    given.rename(given.with_name("other"))

    with pytest.raises(EnvironmentFault, match="but it has no folder fake"):
        stage(source)


def test_removing_an_environment_removes_its_source(tmp_path, monkeypatch, source):
    """Read-only folders too."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    folder = sources.stage("fake", source, tmp_path / "cache" / "sources", print)

    assert remove_environment("fake") == [folder]
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    "name", sorted(name for name, declared in load_environments().items() if declared.source)
)
def test_shipped_sources_are_pinned(name):
    """What ships names a whole commit and a digest."""
    source = load_environments()[name].source
    sources._require_pinned(name, source)
    assert source.url.startswith("https://github.com/")
