"""Environments as images: what their names depend on, what verifying finds, how they move."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.environments import images, requirement_locks
from harness.environments.declared import ENVIRONMENTS_DIR, load_environments
from harness.errors import EnvironmentFault, UsageFault
from harness.sandboxes import engine
from tests.fakes import workplace

pytestmark = pytest.mark.unit

SECRET = "canary-0123456789abcdef"


@pytest.fixture
def place(tmp_path, monkeypatch, base_image):
    """Declared environments whose images are small; their images are removed afterwards."""
    monkeypatch.setenv("FDBENCH_CACHE", str(tmp_path / "cache"))
    made = workplace.contain(workplace.make(tmp_path), base_image)
    home = made.environments_dir / "small"
    shutil.copytree(made.environments_dir / "left", home)
    yield made
    for image in images.images_of("small"):
        engine.connect().images.remove(image.image_id, force=True)


def build(place, said=None, base=None, **how):
    """The image of ``small``; what is said meanwhile goes into ``said``."""
    say = (lambda text: None) if said is None else said.append
    base = place.base if base is None else base
    return images.build("small", say, place.environments_dir, base, **how)


def test_image_is_built_once(place):
    """What is there is used; the record has the id of the image's content."""
    said = []
    first, second = build(place, said), build(place, said)

    assert [text.split()[0] for text in said] == ["building", "verifying", "verifying"]
    assert first.image == second.image == f"sha256:{first.digest}"
    assert first.folder == images.HOME


def test_adapter_change_rebuilds_nothing(place):
    """An edited adapter is mounted under a digest of its own beside the same image."""
    before, said = build(place), []
    with (place.environments_dir / "small" / "adapter.py").open("a") as adapter:
        adapter.write("# edited\n")
    after = build(place, said)

    assert [text.split()[0] for text in said] == ["verifying"]
    assert after.image == before.image
    assert after.code_digest != before.code_digest


@pytest.mark.parametrize("what", ["Dockerfile", "requirements.lock", "base"])
def test_name_depends_on_everything_that_goes_in(place, base_image, what):
    """Another Dockerfile, lock or base makes another image, and the former is kept."""
    before = build(place)
    changes = {}
    if what == "base":
        text = f"FROM {base_image}\nLABEL other=1\n"
        packed = images._pack({"Dockerfile": text})
        other, _ = engine.connect().images.build(fileobj=packed, custom_context=True, rm=True)
        changes = {"base": other.id}
    else:
        with (place.environments_dir / "small" / what).open("a") as file:
            file.write("# changed\n" if what == "Dockerfile" else "six==1.17.0 --hash=sha256:00\n")
    if what == "requirements.lock":
        found = images.images_of("small")[0]
        assert not images.is_current(found, place.environments_dir)
        return
    after = build(place, **changes)

    assert after.image != before.image
    assert len(images.images_of("small")) == 2
    if what == "base":
        with pytest.raises(UsageFault, match="several bases; choose one with --base"):
            build(place, base="")


def test_image_that_was_changed_does_not_verify(place, base_image):
    """A file that is not as it was built is named, and nothing starts in such an image."""
    built = build(place)
    tag = images.images_of("small")[0].tag
    text = f"FROM {tag}\nUSER root\nRUN echo '#' >> /opt/env/bin/python\nUSER 65532\n"
    packed = images._pack({"Dockerfile": text})
    engine.connect().images.build(fileobj=packed, custom_context=True, rm=True, tag=tag)

    with pytest.raises(EnvironmentFault, match="bin/python is not as it was built"):
        build(place)
    engine.connect().images.remove(tag, force=True)
    assert build(place).image != built.image


def test_image_changed_between_two_sides_changes_no_trial(place, tmp_path):
    """A tag that moves during a run moves no trial: each runs in the image that was verified."""

    class Mover(workplace.Silent):
        def trial_started(self, trial):
            """Give every environment's name to another image."""
            for image in images.images_of("left"):
                engine.connect().images.get(place.base).tag(image.tag)

    watcher = Mover()
    assert place.run(tmp_path / "undisturbed", only="left") == 0
    assert place.run(tmp_path / "run", only="left", watcher=watcher) == 0
    assert workplace.tables(tmp_path / "run") == workplace.tables(tmp_path / "undisturbed")


def test_image_moves_without_a_registry(place, tmp_path):
    """Exported, removed, imported: the same image by the same name, found without its base."""
    built = build(place)
    (image,) = images.images_of("small")
    images.export(image, tmp_path / "small.tar")
    assert images.remove("small") == [image.tag]
    assert images.images_of("small") == []
    (back,) = images.load(tmp_path / "small.tar")

    assert (back.image_id, back.tag, back.digest) == (built.image, image.tag, image.digest)
    assert build(place, base="").image == built.image
    assert not (tmp_path / "small.tar.tmp").exists()


IMAGE = images.Image(
    name="small", tag="small:1", image_id="sha256:0", digest="", base="", num_bytes=0, layers=()
)


def test_export_looks_at_its_target_before_the_image(tmp_path):
    """A folder is refused before gigabytes are written beside it, with a file to name instead."""
    with pytest.raises(UsageFault, match=rf"fdbench env export small {tmp_path}/small\.tar"):
        images.export(IMAGE, tmp_path)
    with pytest.raises(EnvironmentFault, match=r"no/small\.tar could not be written: No such file"):
        images.export(IMAGE, tmp_path / "no" / "small.tar")


def test_export_that_fails_leaves_nothing(place, tmp_path):
    """Half an archive beside its place would be in nobody's way but the disk's."""
    with pytest.raises(EnvironmentFault, match="small:1 cannot be exported"):
        images.export(IMAGE, tmp_path / "small.tar")
    assert list(tmp_path.glob("small.tar*")) == []


def test_file_that_is_no_archive_is_refused(base_image, tmp_path):
    """The engine is well: the message is about the file, and how to make a good one."""
    (tmp_path / "hello.txt").write_text("hello\n")

    with pytest.raises(
        UsageFault, match=r"hello\.txt is not an image that the engine can"
    ) as caught:
        images.load(tmp_path / "hello.txt")
    assert "docker info" not in str(caught.value)
    assert "fdbench env export NAME" in str(caught.value)


def test_archive_of_something_else_is_refused(place, tmp_path):
    """An image that is no environment is named as such."""
    with (tmp_path / "base.tar").open("wb") as file:
        small = engine.connect().images.get(place.base)
        for block in small.save():
            file.write(block)
    with pytest.raises(UsageFault, match="contains no fdbench environment"):
        images.load(tmp_path / "base.tar")


def test_no_secret_is_in_an_image(place, tmp_path, monkeypatch):
    """Neither history nor any layer holds a variable's value."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("PIP_INDEX_URL", f"https://user:{SECRET}@127.0.0.1/simple")
    build(place)
    (image,) = images.images_of("small")
    history = json.dumps(engine.connect().api.history(image.tag))
    images.export(image, tmp_path / "small.tar")

    assert SECRET not in history
    assert SECRET.encode() not in (tmp_path / "small.tar").read_bytes()


def test_buildkit_builds_the_same(place):
    """BuildKit, where a command line has it, reads the same Dockerfile and context."""
    program = next((p for p in buildkit_programs() if has_buildkit(p)), None)
    if program is None:
        pytest.skip("no BuildKit: install a docker command that has it, or the buildx plug-in")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(program).parent}:{before}"
    try:
        built = build(place, base=os.environ["FDBENCH_BASE"], buildkit=True)
    finally:
        os.environ["PATH"] = before

    assert built.image
    assert build(place).image == built.image


def buildkit_programs():
    """Docker's command line, wherever it is."""
    return [path for path in ("/usr/bin/docker", shutil.which("docker")) if path]


def has_buildkit(program):
    """Whether it can build with BuildKit: by itself, or by its plug-in."""
    words = [program, "build", "--help"]
    done = subprocess.run(
        words,
        env={"DOCKER_BUILDKIT": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and "--secret" in done.stdout


@pytest.mark.parametrize("name", sorted(load_environments()))
def test_every_environment_is_locked_as_declared(name):
    """Each has a lock with what it declares, with hashes, and one torch for all."""
    declared = load_environments()[name]
    own = requirement_locks.read_lock(ENVIRONMENTS_DIR / name / requirement_locks.OWN_LOCK)
    common = requirement_locks.read_lock(ENVIRONMENTS_DIR / requirement_locks.COMMON_LOCK)

    assert requirement_locks.stale(declared, name, ENVIRONMENTS_DIR) == ""
    assert not own.keys() & common.keys()
    assert all("--hash=sha256:" in block for block in (own | common).values())
    assert "torch" in common


def test_locks_agree_with_the_constraints():
    """A package that is constrained has that version in every lock."""
    lines = (ENVIRONMENTS_DIR / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    constraints = {requirement_locks.normalised(name): version for name, version in pinned.items()}
    for path in ENVIRONMENTS_DIR.glob("**/*.lock"):
        for package, version in requirement_locks.versions(
            requirement_locks.read_lock(path)
        ).items():
            assert constraints.get(package, version) == version, (path, package)


def test_stale_lock_is_refused(place):
    """A declaration that its lock does not have names the package and the command."""
    toml = place.environments_dir / "small" / "env.toml"
    toml.write_text(toml.read_text().replace("packages = []", 'packages = ["six==1.17.0"]'))
    with pytest.raises(UsageFault, match=r"six==1.17.0 is declared, nothing is locked.*\n?.*lock"):
        build(place)


def test_missing_lock_is_refused(place):
    """Without a lock nothing is built."""
    (place.environments_dir / "small" / requirement_locks.OWN_LOCK).unlink()
    with pytest.raises(
        UsageFault, match=r"requirements\.lock is missing; create it with: fdbench env lock"
    ):
        build(place)


def test_torch_of_the_base_takes_the_place_of_the_locked_one():
    """Only PyTorch's own build goes without the lock's hash, and none of CUDA's packages come."""
    locked = requirement_locks.requirements("flashdreams", ENVIRONMENTS_DIR, torch_from_base=False)
    from_base = requirement_locks.requirements(
        "flashdreams", ENVIRONMENTS_DIR, torch_from_base=True
    )

    assert "torch==2.13.0" in locked["torch.txt"]
    assert "nvidia-cublas==" in locked["torch.txt"]
    assert locked["torch_from_base.txt"] == ""
    assert from_base["torch_from_base.txt"] == "torch==2.13.0\n"
    assert not any(
        word in from_base["torch.txt"] for word in ("torch==", "nvidia", "triton", "cuda")
    )
    assert locked["requirements.txt"] == from_base["requirements.txt"]


def test_unknown_base_is_a_message(place):
    """A base that is not here and cannot be pulled is named."""
    with pytest.raises(EnvironmentFault, match=r"base image 127\.0\.0\.1:1/none:x is not here"):
        build(place, base="127.0.0.1:1/none:x")
