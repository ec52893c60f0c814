"""``fdbench weights``: checkpoints pinned at the first download, and verified later, offline."""

import hashlib
import json

import pytest

from tests.command import fdbench
from tests.fakes.hub import COMMIT, Hub

pytestmark = [pytest.mark.contract, pytest.mark.slow]

RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
REPOSITORY, FILE = "gdhe17/Self-Forcing", "checkpoints/self_forcing_dmd.pt"
CHECKPOINT = f"{REPOSITORY}/{FILE}"
BODY = b"weights of a model\n" * 100


@pytest.fixture
def hub():
    """A hub that has the checkpoint, and files that no recipe needs."""
    served = Hub(REPOSITORY, {FILE: BODY, "README.md": b"words", "checkpoints/other.pt": b"other"})
    yield served
    served.close()


@pytest.fixture
def weights(hub, tmp_path):
    """Runs ``fdbench weights`` against the hub, with cache and lock file of its own."""

    def run(*words, **variables):
        here = {
            "HF_ENDPOINT": hub.address,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HOME": str(tmp_path / "home"),
            "FDBENCH_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
        }
        lock = ("--lock", tmp_path / "weights.lock.json")
        return fdbench("weights", *words, *lock, **(here | variables))

    return run


def cached_file(tmp_path):
    """Where the hub's library keeps the checkpoint."""
    (found,) = (tmp_path / "hub").glob(f"models--*/snapshots/{COMMIT}/{FILE}")
    return found


def test_first_download_is_pinned(weights, tmp_path):
    """Commit, digest and size of the recipe's own file, and of no other, are recorded."""
    done = weights("pin", RECIPE)

    assert done.code == 0, done.text
    pins = json.loads((tmp_path / "weights.lock.json").read_text())["checkpoints"]
    wanted = {"sha256": hashlib.sha256(BODY).hexdigest(), "size": len(BODY)}
    assert pins == {
        CHECKPOINT: {"repository": REPOSITORY, "revision": COMMIT, "files": {FILE: wanted}}
    }


@pytest.mark.slow
def test_what_is_here_is_verified_without_the_hub(weights, hub):
    """Verifying asks nobody, and pinning again downloads nothing."""
    assert weights("pin", RECIPE).code == 0
    asked = len([one for one in hub.requests if one[0] == "GET"])

    done = weights("verify", RECIPE, "--json", HF_HUB_OFFLINE="1")
    again = weights("pin", RECIPE)

    assert done.code == 0, done.text
    assert [one["state"] for one in json.loads(done.text)["files"]] == ["good"]
    assert again.code == 0, again.text
    assert len([one for one in hub.requests if one[0] == "GET"]) == asked


@pytest.mark.slow
def test_changed_file_is_an_integrity_fault(weights, tmp_path):
    """A checkpoint whose bytes changed is named with exit code 7, and is not pinned anew."""
    assert weights("pin", RECIPE).code == 0
    before = (tmp_path / "weights.lock.json").read_bytes()
    path = cached_file(tmp_path).resolve()
    path.chmod(0o644)
    path.write_bytes(BODY.replace(b"model", b"mOdel"))

    verified, pinned = weights("verify", RECIPE), weights("pin", RECIPE)

    assert (verified.code, pinned.code) == (7, 7)
    assert "changed" in verified.text
    assert FILE in pinned.text
    assert (tmp_path / "weights.lock.json").read_bytes() == before


@pytest.mark.slow
def test_missing_file_is_named_with_what_to_type(weights, tmp_path):
    """A pinned checkpoint that is not on this machine is exit code 5."""
    assert weights("pin", RECIPE).code == 0
    cached_file(tmp_path).unlink()

    done = weights("verify", RECIPE)

    assert done.code == 5
    assert "missing" in done.text
    assert "fdbench weights pin" in done.text


def test_nothing_pinned_is_no_pass(weights):
    """An empty lock file verifies nothing."""
    done = weights("verify")

    assert done.code == 5
    assert "has no pins" in done.text


@pytest.mark.parametrize(
    ("status", "error_code", "said"),
    [
        pytest.param(403, "GatedRepo", "accept the terms", id="gated"),
        pytest.param(401, "RepoNotFound", "no token was found", id="no-token"),
        pytest.param(500, "", "answers 500", id="broken"),
    ],
)
def test_hub_that_gives_nothing_says_why(weights, hub, tmp_path, status, error_code, said):
    """No access and no answer are one clear message, exit code 5, and no pin."""
    hub.status, hub.error_code = status, error_code

    done = weights("pin", RECIPE)

    assert done.code == 5, done.text
    assert said in done.text
    assert "Traceback" not in done.text
    assert not (tmp_path / "weights.lock.json").exists()


def test_hub_that_cannot_be_reached_says_so(weights):
    """Without network the message names the cache that could be copied."""
    done = weights("pin", RECIPE, HF_ENDPOINT="http://127.0.0.1:9")

    assert done.code == 5, done.text
    assert "cannot be reached" in done.text


def test_offline_mode_says_so(weights):
    """The hub library's own switch is named."""
    done = weights("pin", RECIPE, HF_HUB_OFFLINE="1")

    assert done.code == 5, done.text
    assert "HF_HUB_OFFLINE is set" in done.text


def test_damaged_lock_file_is_named(weights, tmp_path):
    """A lock file that is not one is exit code 7 with the place that is wrong."""
    (tmp_path / "weights.lock.json").write_text('{"checkpoints": {"a/b": {"files": 3}}}')

    done = weights("verify")

    assert done.code == 7
    assert "checkpoints.a/b" in done.text


def test_unknown_recipe_is_refused(weights):
    """The nearest names are in the message."""
    done = weights("pin", "self-forcing-wan2.1-t2v-1.3b-tahv")

    assert done.code == 2
    assert RECIPE in done.text


@pytest.mark.slow
def test_token_opens_a_gated_repository(weights, hub):
    """The token of huggingface_hub is used as it is; without one the repository stays shut."""
    hub.token = "hf_" + "a" * 34

    assert weights("pin", RECIPE, HF_TOKEN="").code == 5
    assert weights("pin", RECIPE, HF_TOKEN=hub.token).code == 0


@pytest.mark.slow
def test_branch_that_moves_on_changes_no_pin(weights, hub, tmp_path):
    """A pin is a commit: the same recipe pinned later is the same."""
    assert weights("pin", RECIPE).code == 0
    before = (tmp_path / "weights.lock.json").read_bytes()
    hub.commit = "f" * 40

    assert weights("pin", RECIPE).code == 0
    assert (tmp_path / "weights.lock.json").read_bytes() == before


@pytest.mark.slow
def test_deleted_file_comes_back_only_as_it_was_pinned(weights, hub, tmp_path):
    """Pinning again downloads the pinned commit; other bytes of that commit are refused."""
    for body, code in ((BODY, 0), (BODY, 0), (BODY.replace(b"model", b"mOdel"), 7)):
        for path in (tmp_path / "hub").glob(f"models--*/snapshots/*/{FILE}"):
            path.resolve().unlink()
            path.unlink()
        hub.files[FILE] = body
        assert weights("pin", RECIPE).code == code


def test_file_that_is_not_what_the_hub_lists_is_not_pinned(weights, hub, tmp_path):
    """The digest that the hub lists is checked against what came."""
    hub.digests[FILE] = "0" * 64
    done = weights("pin", RECIPE)

    assert done.code == 7, done.text
    assert not (tmp_path / "weights.lock.json").exists()


def test_failure_spares_the_pins_before_it(weights, tmp_path):
    """Of two recipes the second has no repository: the first is pinned all the same."""
    done = weights("pin", RECIPE, "causal-forcing-wan2.1-t2v-1.3b-framewise")

    assert done.code in (2, 5), done.text
    pins = json.loads((tmp_path / "weights.lock.json").read_text())["checkpoints"]
    assert list(pins) == [CHECKPOINT]
