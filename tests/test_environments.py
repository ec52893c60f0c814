"""Environments as far as they need no package index: declarations, names, staged code."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from harness.environments.built import (
    _MARKER,
    BuiltEnvironment,
    _digest,
    build_environment,
    built_copies,
    cache_dir,
    folder_of,
    remove_environment,
    stage_code,
)
from harness.environments.declared import ENVIRONMENTS_DIR, Environment, load_environments
from harness.errors import UsageFault
from harness.records import Source
from tests.fakes.command import fdbench

pytestmark = pytest.mark.unit

DECLARED = Environment(description="a test", packages=[], command=["python", "adapter.py", "{job}"])
TOML = 'description = "a test"\npackages = []\ncommand = ["python", "adapter.py", "{job}"]\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def declared_dir(tmp_path):
    """A folder that declares the environment ``fake``."""
    folder = tmp_path / "envs"
    (folder / "fake").mkdir(parents=True)
    (folder / "fake" / "env.toml").write_text(TOML)
    (folder / "fake" / "adapter.py").write_text("print('one')\n")
    return folder


def pretend_built(cache, name, digest="0123456789ab" + "0" * 52):
    """Leave on disk what a finished build leaves."""
    folder = cache / "envs" / f"{name}-{digest[:12]}"
    folder.mkdir(parents=True)
    marker = {"name": name, "digest": digest, "packages": []}
    (folder / _MARKER).write_text(json.dumps(marker))
    return folder


def test_every_folder_with_a_declaration_loads():
    """What ships are the candidate and its references, each with a command."""
    declared = load_environments()
    folders = {path.parent.name for path in ENVIRONMENTS_DIR.glob("*/env.toml")}

    assert set(declared) == folders >= {"flashdreams", "diffusers", "fastvideo"}
    assert all("{job}" in environment.command for environment in declared.values())


@pytest.mark.parametrize("name", sorted(load_environments()))
def test_shipped_packages_are_pinned(name):
    """Every package has one version, and both sides run the same torch."""
    declared = load_environments()[name]
    packages = [*declared.packages, *declared.no_deps]

    assert [package for package in packages if package.count("==") != 1] == []
    assert "torch==2.13.0" in packages
    assert bool(declared.no_deps) == bool(declared.reason_no_deps)


@pytest.mark.parametrize("name", sorted(load_environments()))
def test_adapter_is_where_the_command_expects_it(name):
    """An environment that starts an adapter has one."""
    has_adapter = (ENVIRONMENTS_DIR / name / "adapter.py").exists()

    assert ("adapter.py" in load_environments()[name].command) == has_adapter


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        pytest.param("packages = []", "", "packages", id="missing"),
        pytest.param("packages = []", 'packages = "torch"', "packages", id="wrong-type"),
        pytest.param("packages = []", "packages = []\nimage = 1", "image", id="unknown"),
        pytest.param(
            "packages = []",
            'role = "candidat"\npackages = []',
            "role: unknown role 'candidat'; nearest: candidate",
            id="role",
        ),
        pytest.param(
            "packages = []",
            'slugs = { a = "b:C" }\npackages = []',
            "slugs: only an environment with role candidate",
            id="slugs-of-a-reference",
        ),
        pytest.param(
            "packages = []",
            'role = "candidate"\nslugs = { a = "b.C" }\npackages = []',
            "slugs: a is at 'b.C', expected module:ATTRIBUTE",
            id="slug-at-no-attribute",
        ),
    ],
)
def test_mistyped_declaration_is_refused(declared_dir, old, new, key):
    """A declaration is read as strictly as a suite."""
    path = declared_dir / "fake" / "env.toml"
    path.write_text(TOML.replace(old, new))

    with pytest.raises(UsageFault, match=rf"fake.env\.toml:\d+: {key}"):
        load_environments(declared_dir)


def test_unknown_environment_is_refused(cache, declared_dir):
    """An unknown name is answered with the nearest; of a folder of one's own, with what it has."""
    with pytest.raises(UsageFault, match="nearest: diffusers"):
        build_environment("difusers", print)
    with pytest.raises(UsageFault, match=r"\(no fak/env\.toml\); it has fake"):
        build_environment("fak", print, declared_dir)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        pytest.param({"packages": ["torch==2.13.0"]}, False, id="packages"),
        pytest.param({"no_deps": ["fastvideo==0.2.1"]}, False, id="no-deps"),
        pytest.param({"description": "another"}, True, id="description"),
        pytest.param({"variables": {"A": "1"}}, True, id="variables"),
        pytest.param({"command": ["python"]}, True, id="command"),
    ],
)
def test_digest_is_of_what_is_installed(changes, is_same):
    """Only what decides the files of an environment makes a new one."""
    changed = dataclasses.replace(DECLARED, **changes)

    assert (_digest(changed) == _digest(DECLARED)) is is_same


def test_digest_depends_on_the_constraints(tmp_path, monkeypatch):
    """Constraints decide versions, so they decide the name."""
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\n")
    before = _digest(DECLARED)
    monkeypatch.setattr("harness.environments.built.ENVIRONMENTS_DIR", tmp_path)

    assert _digest(DECLARED) != before


def test_built_environment_is_used_again(cache, declared_dir):
    """What was built stays, without a word to the user, and is named by its digest."""
    digest = _digest(load_environments(declared_dir)["fake"])
    folder = pretend_built(cache, "fake", digest)
    said = []
    built = build_environment("fake", said.append, declared_dir)

    assert (built.folder, built.digest, said) == (folder, digest, [])


def test_staged_code_is_a_copy_under_its_digest(cache, declared_dir):
    """Editing an adapter makes new staged code and leaves the old, which a run may still use."""
    first_digest, first = stage_code(declared_dir / "fake")
    (declared_dir / "fake" / "adapter.py").write_text("print('two')\n")
    second_digest, second = stage_code(declared_dir / "fake")

    assert first_digest != second_digest
    assert (first / "adapter.py").read_text() == "print('one')\n"
    assert (second / "adapter.py").read_text() == "print('two')\n"
    assert (first / "runners" / "protocol" / "wire.py").is_file()
    assert stage_code(declared_dir / "fake") == (second_digest, second)
    assert {path.name for path in (cache / "code").iterdir()} == {first.name, second.name}


def test_staged_code_that_was_edited_is_not_used(cache, declared_dir):
    """The digest of a run is that of the bytes that ran, whatever happened in the cache."""
    _, code = stage_code(declared_dir / "fake")
    (code / "adapter.py").write_text("print('edited')\n")
    _, again = stage_code(declared_dir / "fake")

    assert (again / "adapter.py").read_text() == "print('one')\n"


def test_command_fills_in_slug_and_job():
    """The program is the environment's, the adapter the staged one, the rest is filled in."""
    command = ["python", "adapter.py", "{slug}", "--job", "{job}"]
    built = BuiltEnvironment(
        name="fake",
        declared=dataclasses.replace(DECLARED, command=command, variables={"A": "1"}),
        digest="",
        folder=Path("/envs/fake"),
        code_digest="",
        code=Path("/code"),
    )

    assert built.command("wan", Path("/work/{x}/job.json")) == [
        "/envs/fake/bin/python",
        "/code/adapter.py",
        "wan",
        "--job",
        "/work/{x}/job.json",
    ]
    assert built.variables() == {"A": "1", "PYTHONPATH": "/code"}


def test_slugs_and_roots_reach_the_process():
    """The library finds a candidate's runners by its own variable, and modules by their roots."""
    source = Source(url="", commit="c" * 40, paths=("a",), tree_sha256="", roots=("a/b", "a/c"))
    slugs = {"one": "runners.one:ONE", "two": "two.config:TWO"}
    built = BuiltEnvironment(
        name="fake",
        declared=dataclasses.replace(DECLARED, role="candidate", slugs=slugs, source=source),
        digest="",
        folder=Path("/envs/fake"),
        code_digest="",
        code=Path("/code"),
        source=Path("/source"),
    )
    variables = built.variables()

    assert variables["FLASHDREAMS_RUNNER_CONFIGS"] == "one=runners.one:ONE,two=two.config:TWO"
    assert variables["PYTHONPATH"] == "/code:/source/a/b:/source/a/c"


@pytest.mark.parametrize("name", sorted(load_environments()))
def test_shipped_environment_says_what_it_is(name):
    """A title of its own, and slugs exactly where it is a candidate."""
    known = load_environments()
    declared = known[name]
    titles = [one.title for one in known.values()]

    assert declared.title
    assert titles.count(declared.title) == 1
    assert (declared.role == "candidate") == bool(declared.slugs)
    assert known["flashdreams"].role == "candidate"


def test_roots_are_in_the_source():
    """What is imported from is among what is staged."""
    for name, declared in load_environments().items():
        source = declared.source
        for root in source.roots if source else ():
            assert any(path.startswith(f"{root}/") for path in source.paths), (name, root)


def test_installed_lists_finished_builds_only(cache):
    """A half-made environment is not shown as one."""
    folder = pretend_built(cache, "fake")
    (cache / "envs" / "fake-111111111111").mkdir()

    assert [path for _, path, _ in built_copies("fake")] == [folder]
    assert built_copies("other") == []


def test_list_says_what_is_on_disk_as_json(cache):
    """A script learns which copy is current and where the others are."""
    name, declared = next(iter(load_environments().items()))
    old = pretend_built(cache, name)
    current = folder_of(name, declared)
    current.mkdir(parents=True)
    (current / _MARKER).write_text(json.dumps({"digest": "f" * 64}))
    rows = json.loads(fdbench("env", "list", "--json").out)
    found = {one["folder"]: one["current"] for one in rows[0]["on_disk"]}

    assert [row["name"] for row in rows] == list(load_environments())
    assert found == {str(old): False, str(current): True}
    assert [row["built"] for row in rows] == [True] + [False] * (len(rows) - 1)


def test_remove_takes_half_made_ones_too(cache):
    """Removing an environment leaves nothing of it, not even its lock."""
    folder = pretend_built(cache, "fake")
    half = cache / "envs" / "fake-111111111111"
    half.mkdir()
    Path(f"{folder}.lock").touch()

    assert sorted(remove_environment("fake")) == sorted([folder, half])
    assert list((cache / "envs").iterdir()) == []


def test_remove_spares_a_longer_name(cache):
    """``wan`` is not ``wan-vace``."""
    spared = pretend_built(cache, "wan-vace")
    pretend_built(cache, "wan")
    remove_environment("wan")

    assert spared.exists()
    assert built_copies("wan") == []
    assert [path for _, path, _ in built_copies("wan-vace")] == [spared]


def test_cache_is_where_the_variable_says(cache, monkeypatch):
    """``FDBENCH_CACHE`` decides; empty is as if it were not set."""
    assert cache_dir() == cache
    monkeypatch.setenv("FDBENCH_CACHE", "")
    assert cache_dir() == (Path.home() / ".cache" / "fdbench").resolve()


def test_relative_cache_is_made_absolute(tmp_path, monkeypatch):
    """Trials run in another folder, so a path relative to this one would be lost."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FDBENCH_CACHE", "cache")

    assert cache_dir() == tmp_path / "cache"


def test_declaration_without_an_adapter_stages_the_runners(cache, declared_dir):
    """The candidate has no adapter; its runners are staged."""
    shutil.copytree(declared_dir / "fake", declared_dir / "bare")
    (declared_dir / "bare" / "adapter.py").unlink()
    _, code = stage_code(declared_dir / "bare")

    assert not (code / "adapter.py").exists()
    assert (code / "runners" / "self_forcing.py").is_file()
