"""Distances between captured outputs, and captures that are not what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from harness.errors import IntegrityFault
from harness.judging.parity import compare_captures, within
from runners.protocol.wire import Capture, sha256_file

pytestmark = pytest.mark.unit

LABELS = {
    "cell_id": "cell",
    "comparison": "pair",
    "candidate_trial": "left",
    "reference_trial": "right",
}
LATENTS = np.random.default_rng(0).standard_normal((3, 16, 8, 8)).astype(np.float32)


def capture(folder, array, ar=0, name="latents", said="latents", **changes):
    """Write an array as a side does; returns what its event would say."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{said}_ar{ar:03d}.safetensors"
    save_file({name: array}, path)
    told = {
        "name": said,
        "ar": ar,
        "path": path.name,
        "sha256": sha256_file(path),
        "shape": tuple(array.shape),
        "std": 1.0,
    }
    return Capture(**told | changes)


def compare(tmp_path, left, right):
    """Rows of two outputs, one array or one list of captures a side."""
    folders = (tmp_path / "left", tmp_path / "right")
    captures = [
        (capture(folder, side),) if isinstance(side, np.ndarray) else tuple(side)
        for folder, side in zip(folders, (left, right), strict=True)
    ]
    return compare_captures(folders, tuple(captures), LABELS)


def test_identical_outputs_have_no_distance(tmp_path):
    """The same bytes on both sides."""
    (row,) = compare(tmp_path, LATENTS, LATENTS)

    assert (row.relative_l2, row.max_abs, row.ar, row.comparison) == (0.0, 0.0, 0, "pair")
    assert row.cosine == pytest.approx(1.0)
    assert row.candidate_std == row.reference_std == pytest.approx(float(LATENTS.std()), rel=1e-6)


def test_scaled_output_is_as_far_as_its_scale(tmp_path):
    """Five per cent larger is 0.05 in relative L2 and invisible to the cosine."""
    (row,) = compare(tmp_path, LATENTS * 1.05, LATENTS)

    assert row.relative_l2 == pytest.approx(0.05, rel=1e-4)
    assert row.cosine == pytest.approx(1.0)
    assert row.candidate_std == pytest.approx(1.05 * row.reference_std, rel=1e-6)


def test_opposite_output_is_opposite(tmp_path):
    """A flipped sign has cosine -1 and twice the norm as its distance."""
    (row,) = compare(tmp_path, -LATENTS, LATENTS)

    assert (row.relative_l2, row.cosine) == (pytest.approx(2.0), pytest.approx(-1.0))


def test_one_wrong_value_is_seen(tmp_path):
    """The largest difference finds what the norm hides."""
    spoiled = LATENTS.copy()
    spoiled[1, 2, 3, 4] += 0.5
    (row,) = compare(tmp_path, spoiled, LATENTS)

    assert row.max_abs == pytest.approx(0.5, rel=1e-5)
    assert 0 < row.relative_l2 < 0.01


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(np.full_like(LATENTS, np.nan), LATENTS, id="nan-candidate"),
        pytest.param(LATENTS, np.full_like(LATENTS, np.inf), id="inf-reference"),
        pytest.param(LATENTS, np.zeros_like(LATENTS), id="zero-reference"),
        pytest.param(np.zeros_like(LATENTS), np.zeros_like(LATENTS), id="both-zero"),
        pytest.param(np.full_like(LATENTS, np.nan), np.full_like(LATENTS, np.nan), id="both-nan"),
    ],
)
def test_collapsed_output_is_never_within(tmp_path, left, right):
    """NaN, infinities and nothing at all are rows whose distance no limit lets pass."""
    (row,) = compare(tmp_path, left, right)

    assert not within(row.relative_l2, floor=1e9, limit=1e9)


def test_rows_are_the_common_ar_steps_in_order(tmp_path):
    """What only one side captured is not compared; the order of the events does not matter."""
    left = [capture(tmp_path / "left", LATENTS + ar, ar) for ar in (2, 0, 1)]
    right = [capture(tmp_path / "right", LATENTS + ar, ar) for ar in (3, 1, 2)]

    assert [(row.ar, row.relative_l2) for row in compare(tmp_path, left, right)] == [(1, 0), (2, 0)]


def test_different_shapes_are_refused(tmp_path):
    """Outputs of different shape are no pair, even where numpy could broadcast them."""
    with pytest.raises(IntegrityFault, match="AR 0: captured shapes differ"):
        compare(tmp_path, LATENTS, LATENTS[:, :, :, :1])


def test_empty_tensor_is_refused(tmp_path):
    """Nothing captured is not equality."""
    with pytest.raises(IntegrityFault, match="AR 0"):
        compare(tmp_path, LATENTS[:0], LATENTS[:0])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda path: path.unlink(), "not there", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "not what the trial wrote", id="empty"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "not what the trial wrote",
            id="truncated",
        ),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
            "not what the trial wrote",
            id="one-byte",
        ),
    ],
)
def test_altered_file_is_refused(tmp_path, spoil, said):
    """A capture must be the file that the trial wrote; the message names AR step and reason."""
    left, right = (capture(tmp_path / side, LATENTS) for side in ("left", "right"))
    spoil(tmp_path / "right" / right.path)

    with pytest.raises(IntegrityFault, match=f"AR 0.*{said}"):
        compare(tmp_path, [left], [right])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"shape": (3, 16, 8, 9)}, "shape", id="shape"),
        pytest.param({"path": "frames_ar000.safetensors"}, "holds no latents", id="name"),
        pytest.param({"sha256": "0" * 64}, "not what the trial wrote", id="digest"),
    ],
)
def test_event_that_says_otherwise_is_refused(tmp_path, changes, said):
    """What the event says of a file must be true."""
    left = capture(tmp_path / "left", LATENTS)
    other = capture(tmp_path / "right", LATENTS, name="frames", said="frames")
    if "path" in changes:
        changes = changes | {"sha256": other.sha256}
    right = capture(tmp_path / "right", LATENTS, **changes)

    with pytest.raises(IntegrityFault, match=f"AR 0.*{said}"):
        compare(tmp_path, [left], [right])


def test_file_that_is_no_safetensors_is_refused(tmp_path):
    """Nor is a pickle loaded, or any other file that the digest fits."""
    (tmp_path / "left").mkdir()
    path = tmp_path / "left" / "latents_ar000.safetensors"
    path.write_bytes(b"\x80\x04K\x2a.")
    right = capture(tmp_path / "right", LATENTS)
    left = Capture(
        name="latents", ar=0, path=path.name, sha256=sha256_file(path), shape=(3,), std=1.0
    )

    with pytest.raises(IntegrityFault, match="AR 0"):
        compare(tmp_path, [left], [right])


@pytest.mark.parametrize(
    "path", ["../right/latents_ar000.safetensors", "{absolute}", "..", ".", "", "a/../{name}"]
)
def test_path_outside_the_folder_is_refused(tmp_path, path):
    """A side cannot have another side's output, or any other file, compared as its own."""
    right = capture(tmp_path / "right", LATENTS)
    left = capture(tmp_path / "left", LATENTS)
    (tmp_path / "left" / "a").mkdir()
    named = path.format(absolute=tmp_path / "left" / left.path, name=left.path)
    outside = Capture(
        name="latents", ar=0, path=named, sha256=left.sha256, shape=left.shape, std=1.0
    )

    with pytest.raises(IntegrityFault, match="is not there"):
        compare(tmp_path, [outside], [right])


@pytest.mark.parametrize(
    ("error", "floor", "limit", "is_within"),
    [
        pytest.param(0.01, 0.01, 1.0, True, id="at-the-limit"),
        pytest.param(0.02, 0.01, 2.0, True, id="at-twice-the-floor"),
        pytest.param(0.0201, 0.01, 2.0, False, id="above"),
        pytest.param(0.0, 0.01, 2.0, True, id="exact"),
        pytest.param(0.0, 0.0, 2.0, False, id="zero-floor"),
        pytest.param(float("nan"), 0.01, 2.0, False, id="nan-error"),
        pytest.param(0.01, float("nan"), 2.0, False, id="nan-floor"),
        pytest.param(0.01, float("inf"), 2.0, False, id="infinite-floor"),
        pytest.param(float("inf"), float("inf"), 2.0, False, id="both-infinite"),
        pytest.param(0.01, -0.01, -2.0, False, id="negative-floor"),
        pytest.param(0.01, 0.01, float("nan"), False, id="nan-limit"),
    ],
)
def test_within(error, floor, limit, is_within):
    """Only a finite error at most the limit times a positive, finite floor is within."""
    assert within(error, floor, limit) is is_within


@given(st.floats(0, 1e6), st.floats(1e-9, 1e6), st.floats(0.1, 100))
def test_within_is_monotonous(error, floor, limit):
    """A smaller error, a larger floor or a larger limit never turns a pass into a failure."""
    if within(error, floor, limit):
        assert within(error / 2, floor, limit)
        assert within(error, floor * 2, limit)
        assert within(error, floor, limit * 2)
