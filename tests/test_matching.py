"""Settings of two trials, field by field, and settings against their job."""

from dataclasses import fields, replace

import pytest

from harness.trials.matching import FLOAT_TOLERANCE, compare, describe, disobeyed
from runners.protocol.wire import Artifact, Job, Settings
from tests.fakes import samples

pytestmark = pytest.mark.unit

SHARED = sorted({f.name for f in fields(Settings)} & {f.name for f in fields(Job)})
DIGESTS = {
    "weights_sha256": "weights",
    "noise_sha256": "noise",
    "text_sha256": "text",
    "decoder_weights_sha256": "decoder_weights",
    "inputs_sha256": "inputs",
}


def altered(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if value == ():
        return ("x",)
    if isinstance(value, tuple):
        return (*value[:-1], altered(value[-1]))
    return value + "x" if isinstance(value, str) else value + 1


def names(differences):
    """The settings that differ."""
    return [difference.setting for difference in differences]


def test_equal_settings_do_not_differ():
    """Two sides under the same settings are comparable."""
    assert compare(samples.settings(), samples.settings(), {}) == ()


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_every_field_is_compared(name):
    """One altered field is found, named, and shown from both sides."""
    left = samples.settings()
    right = replace(left, **{name: altered(getattr(left, name))})
    (difference,) = compare(left, right, {})

    assert (difference.setting, difference.reason) == (name, "")
    assert (difference.candidate, difference.reference) == (
        getattr(left, name),
        getattr(right, name),
    )


@pytest.mark.parametrize(
    ("sigmas", "differ"),
    [
        pytest.param((1.0, 0.8888888888888888 * (1 + 6e-8)), False, id="float32-rounding"),
        pytest.param((1.0, 0.8888888888888888 * (1 + 3 * FLOAT_TOLERANCE)), True, id="more"),
        pytest.param((1.0, 0.888), True, id="bfloat16-rounding"),
        pytest.param((1.0,), True, id="shorter"),
        pytest.param((1.0, 0.8888888888888888, 0.0), True, id="longer"),
        pytest.param((0.8888888888888888, 1.0), True, id="swapped"),
        pytest.param((1.0, float("nan")), True, id="nan"),
    ],
)
def test_tables_agree_to_float32(sigmas, differ):
    """Tables computed in float32 and float64 match; a rounded, cut or longer one does not."""
    found = compare(samples.settings(), samples.settings(sigmas=sigmas), {})

    assert names(found) == ["sigmas"] * differ


def test_nan_does_not_match_itself():
    """A table of NaN on both sides is no agreement."""
    broken = samples.settings(guidance=float("nan"))

    assert names(compare(broken, broken, {})) == ["guidance"]


def test_expected_difference_carries_its_reason():
    """A difference that the suite explains is kept with the explanation, the others without."""
    other = samples.settings(torch="2.14.0", dtype="float32")
    found = compare(samples.settings(), other, {"torch": "both pinned", "cudnn": "unused"})

    assert {d.setting: d.reason for d in found} == {"dtype": "", "torch": "both pinned"}


def test_obedient_settings_are_accepted():
    """Settings that are those of the job, to float32, are no disobedience."""
    exact = samples.settings()

    assert disobeyed(samples.job(), exact) == ()
    rounded = replace(exact, timesteps=(1000.0, 888.88891))
    assert disobeyed(samples.job(), rounded) == ()


@pytest.mark.parametrize("name", [*SHARED, *DIGESTS, "latent_shape"])
def test_every_setting_of_the_job_must_be_in_force(name):
    """Whatever the job asks for and is not in force is found."""
    obedient = samples.settings()
    wrong = replace(obedient, **{name: altered(getattr(obedient, name))})

    assert names(disobeyed(samples.job(), wrong)) == [name]


@pytest.mark.parametrize("name", [*SHARED, *DIGESTS])
def test_every_change_of_the_job_must_arrive(name):
    """A job field that the side ignores is found, for every field that both know."""
    job = samples.job()
    field = DIGESTS.get(name, name)
    value = getattr(job, field)
    value = Artifact(path="", sha256="dd" * 32) if name in DIGESTS else altered(value)

    assert name in names(disobeyed(replace(job, **{field: value}), samples.settings()))


def test_all_settings_but_facts_of_the_side_are_in_the_job():
    """A new setting must come from the job, or be listed here as one that only the side knows."""
    derived = {*DIGESTS, "latent_shape"}

    assert {f.name for f in fields(Settings)} - set(SHARED) - derived == {
        "num_parameters",
        "torch",
        "cudnn",
    }


def test_weights_made_on_the_device_are_compared_between_the_sides_alone():
    """No file says what they should be; two sides that made others do not match."""
    made = samples.settings(weights_sha256="dd" * 32)

    assert disobeyed(samples.job(weights_from="device"), made) == ()
    assert names(disobeyed(samples.job(), made)) == ["weights_sha256"]
    assert names(compare(samples.settings(), made, {})) == ["weights_sha256"]


def test_threads_are_free_where_the_job_leaves_them():
    """Threads 0 means PyTorch's default, whatever that is."""
    assert disobeyed(samples.job(threads=0), samples.settings(threads=16)) == ()


def test_ignored_setting_may_differ():
    """What a caller ignores is not looked at, threads included."""
    assert disobeyed(samples.job(), samples.settings(dtype="float32"), ["dtype"]) == ()
    assert disobeyed(samples.job(threads=0), samples.settings(), ["threads"]) == ()


def test_difference_is_described_in_one_phrase():
    """Long values are cut, numbers are short, both sides are there."""
    other = samples.settings(sigmas=(1.0, 0.5), weights_sha256="ff" * 32)
    said = {d.setting: describe(d) for d in compare(samples.settings(), other, {})}

    assert said["sigmas"] == "sigmas: [1, 0.888889] against [1, 0.5]"
    assert said["weights_sha256"] == "weights_sha256: aaaaaaaaaaaa… against ffffffffffff…"
