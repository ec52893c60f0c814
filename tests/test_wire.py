"""The wire: what harness and sides say to each other is read strictly."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.protocol import wire
from tests.fakes import samples

pytestmark = pytest.mark.unit

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=12)
captures = st.builds(
    wire.Capture,
    name=words,
    ar=st.integers(),
    path=words,
    sha256=words,
    shape=st.lists(st.integers(), max_size=4).map(tuple),
    std=numbers,
)
step_events = st.builds(
    wire.StepEvent,
    nonce=words,
    ar=st.integers(),
    stages_ms=st.dictionaries(words, numbers, max_size=5),
    denoise_ms=st.lists(numbers, max_size=5).map(tuple),
    wall_ms=numbers,
    kernels_ms=st.dictionaries(words, numbers, max_size=3),
    captures=st.lists(captures, max_size=2).map(tuple),
)
EVENT = wire.StepEvent(
    nonce=samples.NONCE,
    ar=0,
    stages_ms={"diffuse": 343.706},
    denoise_ms=(171.0,),
    wall_ms=344.1,
    kernels_ms={},
    captures=(),
)
END = wire.EndEvent(nonce=samples.NONCE, ar_steps=1, noise_draws=2, facts={"torch": "2.13.0"})


def changed(record, key, value):
    """JSON of a record with one field replaced, however deep."""
    data = dataclasses.asdict(record)
    *outer, last = key.split(".")
    target = data
    for name in outer:
        target = target[name]
    target[last] = value
    return json.dumps(data)


@given(st.lists(numbers, max_size=6).map(tuple), numbers)
def test_job_round_trips(sigmas, shift):
    """A job is read back bit by bit, floats included."""
    job = samples.job(sigmas=sigmas, timesteps=sigmas, shift=shift)

    assert wire.from_json(wire.Job, wire.to_json(job), "job") == job


@given(st.lists(numbers, max_size=6).map(tuple), words, st.booleans())
def test_settings_round_trip(timesteps, decoder, is_compiled):
    """So are settings."""
    made = samples.settings(timesteps=timesteps, decoder=decoder, compile=is_compiled)

    assert wire.from_json(wire.Settings, wire.to_json(made), "settings") == made


@given(step_events)
def test_step_event_round_trips(tmp_path_factory, event):
    """So are events, through their file, with the stages in the order they ran."""
    path = tmp_path_factory.mktemp("wire") / "events.jsonl"
    path.write_text(wire.event_line(event))
    (read,) = wire.read_events(path, event.nonce)

    assert read == event
    assert list(read.stages_ms) == list(event.stages_ms)


def test_events_keep_their_order(tmp_path):
    """Events come in the order they were written, the end last."""
    path = tmp_path / "events.jsonl"
    path.write_text(wire.event_line(EVENT) + wire.event_line(END))

    assert list(wire.read_events(path, samples.NONCE)) == [EVENT, END]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("seed", "42", id="string-for-int"),
        pytest.param("seed", 42.0, id="float-for-int"),
        pytest.param("seed", True, id="bool-for-int"),
        pytest.param("seed", None, id="null"),
        pytest.param("compile", 0, id="int-for-bool"),
        pytest.param("shift", "8.0", id="string-for-float"),
        pytest.param("shift", True, id="bool-for-float"),
        pytest.param("slug", 1, id="int-for-string"),
        pytest.param("sigmas", 1.0, id="float-for-list"),
        pytest.param("sigmas", "1.0", id="string-for-list"),
        pytest.param("sigmas", [1.0, "x"], id="string-in-list"),
        pytest.param("network", [], id="list-for-object"),
        pytest.param("network.dim", "256", id="nested-type"),
        pytest.param("network.depth", 1, id="nested-unknown"),
        pytest.param("windwo_t", 21, id="unknown"),
    ],
)
def test_ill_typed_field_is_refused_by_name(key, value):
    """A field of the wrong type, or one that does not exist, is named."""
    with pytest.raises(wire.WireError, match=rf"here.*{key.split('.')[-1]}"):
        wire.from_json(wire.Job, changed(samples.job(), key, value), "here")


LATER = [f.name for f in dataclasses.fields(wire.Job) if f.default is not dataclasses.MISSING]
FIRST = [f.name for f in dataclasses.fields(wire.Job) if f.name not in LATER]


@pytest.mark.parametrize("name", LATER)
def test_job_from_before_a_field_is_read(name):
    """A field that came later says by its default what was so before it."""
    data = dataclasses.asdict(samples.job())
    del data[name]

    assert wire.from_json(wire.Job, json.dumps(data), "here") == samples.job()


@pytest.mark.parametrize("name", FIRST)
def test_missing_field_is_refused_by_name(name):
    """Nothing else has a default on the wire."""
    data = dataclasses.asdict(samples.job())
    del data[name]

    with pytest.raises(wire.WireError, match=name):
        wire.from_json(wire.Job, json.dumps(data), "here")


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e309", "-1e309", "1" + "0" * 400],
    ids=["nan", "inf", "minus-inf", "overflow", "minus-overflow", "huge-int"],
)
def test_number_that_is_none_is_refused(number):
    """NaN and infinities are refused however they are spelled."""
    text = wire.to_json(samples.job(shift=8.125)).replace("8.125", number)

    with pytest.raises(wire.WireError, match="here"):
        wire.from_json(wire.Job, text, "here")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_number_that_is_none_is_not_written(number):
    """Nor can they be sent."""
    with pytest.raises(ValueError, match="JSON"):
        wire.to_json(samples.job(shift=number))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{} {}", "[" * 100_000, '{"a": ' * 100_000],
    ids=["empty", "half", "list", "null", "two", "deep-list", "deep-object"],
)
def test_text_that_is_no_record_is_refused(text):
    """Whatever stands there, the error is the wire's own."""
    with pytest.raises(wire.WireError, match="here"):
        wire.from_json(wire.Job, text, "here")


def test_file_that_is_no_text_is_refused(tmp_path):
    """Bytes that are no UTF-8 are no record, with the file in the message."""
    path = tmp_path / "settings.json"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(wire.WireError, match=r"settings\.json"):
        wire.read_json(wire.Settings, path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            wire.event_line(EVENT).replace(samples.NONCE, "f" * 16), "nonce", id="foreign"
        ),
        pytest.param('{"step": {}, "end": {}}\n', "not an event", id="two-kinds"),
        pytest.param('{"begin": {}}\n', "not an event", id="unknown-kind"),
        pytest.param("{}\n", "not an event", id="no-kind"),
        pytest.param("[]\n", "not an event", id="list"),
        pytest.param("\n", "not JSON", id="blank"),
        pytest.param('{"step": {"ar": 1}}\n', "nonce", id="missing-fields"),
        pytest.param("\0\udcff\n", "not JSON", id="binary"),
    ],
)
def test_bad_event_line_is_refused_by_number(tmp_path, line, said):
    """A line that is no event of this trial is named by its number."""
    path = tmp_path / "events.jsonl"
    path.write_bytes((wire.event_line(EVENT) + line).encode("utf-8", "surrogateescape"))

    with pytest.raises(wire.WireError, match=rf"events\.jsonl:2.*{said}"):
        list(wire.read_events(path, samples.NONCE))


def test_half_last_line_is_left_out(tmp_path):
    """Wherever the writer was stopped, the lines before are read and the half one is not."""
    path = tmp_path / "events.jsonl"
    whole = wire.event_line(EVENT).encode()
    for cut in range(len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert list(wire.read_events(path, samples.NONCE)) == [EVENT]


def test_write_json_leaves_no_half_file(tmp_path):
    """A record that cannot be written leaves what was there, and no file beside it."""
    path = tmp_path / "job.json"
    wire.write_json(path, samples.job())

    with pytest.raises(ValueError, match="JSON"):
        wire.write_json(path, samples.job(shift=float("nan")))

    assert wire.read_json(wire.Job, path) == samples.job()
    assert [file.name for file in tmp_path.iterdir()] == ["job.json"]


def test_fields_of_events_are_frozen():
    """Renaming an event or one of its fields is a visible edit, with PROTOCOL_VERSION beside it."""
    names = {kind: {f.name for f in dataclasses.fields(t)} for kind, t in wire.EVENT_TYPES.items()}

    assert wire.PROTOCOL_VERSION == 3
    assert names == {
        "step": {
            *("nonce", "ar", "stages_ms", "denoise_ms", "wall_ms", "kernels_ms", "captures"),
            *("began_at_s", "ended_at_s", "told_at_s", "memory_peak_gib", "preempted"),
        },
        "end": {"nonce", "ar_steps", "noise_draws", "facts"},
    }
