"""Job, settings and events as JSON: the one module that harness, runners and adapters all import.

Standard library only and Python 3.10: upstream environments decide their own Python.
"""

import dataclasses
import functools
import hashlib
import json
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PROTOCOL_VERSION = 3
"""Raised whenever a job, settings or event field changes meaning."""
READABLE_PROTOCOLS = (2, PROTOCOL_VERSION)

JOB_FILE, SETTINGS_FILE, EVENTS_FILE = "job.json", "settings.json", "events.jsonl"
"""Names inside a job folder; the side writes the last two, the harness the first."""

LATENTS, FRAMES = "latents", "frames"
"""What a side captures: clean latents, and decoded frames in [-1, 1]; both [T, C, H, W]."""

CAPTURED_AT, NEVER = "cuda_graph_captured_at_ar", "never"
"""Fact of a trial that was to capture a CUDA graph: AR steps in which it did, or this word."""

Record = TypeVar("Record")


class WireError(ValueError):
    """A JSON document that is not what the protocol says: names the file or field."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that both sides read, by content."""

    path: str
    """Where the harness has put it for this trial."""
    sha256: str
    """Hex digest of its bytes; a side hashes what it opens and reports that, not this."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """Shape of a diffusion transformer; what is made of it is in ``runners/protocol/kinds``."""

    dim: int
    """Width of the residual stream."""
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int = 16
    """Latent channels."""
    out_dim: int = 16
    text_len: int = 512
    """Prompt tokens after padding."""
    text_dim: int = 4096
    """Width of a prompt-embedding token."""
    freq_dim: int = 256
    """Width of the sinusoidal timestep embedding."""
    image_tokens: int = 0
    """CLIP tokens of the first frame that cross-attention sees; 0 where video starts from text."""
    kind: str = "wan"
    """A module of ``runners/protocol/kinds``."""
    cross_dim: int = 0
    """Width of the prompt that cross-attention sees; 0 where it is ``dim``."""
    adaln_dim: int = 0
    """Rank of the modulation; 0 where it has none."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that both sides of a pair must agree on, and where a trial writes."""

    protocol: int
    nonce: str
    """Random per trial; an event without it was not written by this trial."""
    slug: str
    size: str
    """``full`` or ``tiny``."""
    network: Network
    weights: Artifact
    noise: Artifact
    text: Artifact
    weights_seed: int
    """Seed of the synthetic weights."""
    seed: int
    """Seed of the noise bank."""
    ar_steps: int
    solver: str
    """A name in ``runners/protocol/solvers.py``."""
    denoising_timesteps: tuple[int, ...]
    """Nominal steps before the shift; empty for a solver with a grid of its own."""
    denoising_steps: int
    sigmas: tuple[float, ...]
    """Noise level per denoising step, shift applied."""
    timesteps: tuple[float, ...]
    """What the network must be told per denoising step, in [0, 1000]."""
    timestep_rounding: str
    """``none``, or ``as_shipped``: flashdreams 0.1.0 rounds the timestep to the latent dtype."""
    shift: float
    guidance: float
    """CFG scale; 1.0 is off."""
    len_t: int
    """Latent frames per AR step."""
    window_t: int
    """Self-attention window in latent frames, without the sink."""
    sink_t: int
    latent_height: int
    latent_width: int
    dtype: str
    """Torch dtype of weights and latents; ``autocast_X`` for float32 ones computed with in X."""
    attention: str
    """``cudnn``, or ``sdpa``: PyTorch's default kernel, the only one on a CPU."""
    compile: bool
    cuda_graph: bool
    decoder: str
    """A name in ``runners/protocol/decoder_shapes.py``; ``none`` for latents only."""
    device: str  # cpu or cuda
    threads: int
    """Intra-op threads on a CPU; 0 leaves PyTorch's default."""
    capture_steps: tuple[int, ...]
    """AR steps whose latents, and frames if decoded, are written for the parity check."""
    profile_steps: tuple[int, ...]
    """AR steps run under a profiler, for the kernels that ran; no figure rests on their times."""
    telemetry: bool
    """Whether the harness samples the GPU while the trial runs."""
    gpus: int = 1
    """GPUs of the trial, one rank each."""
    decoder_weights: Artifact | None = None
    """None where latents are not decoded."""
    input_names: tuple[str, ...] = ()
    """Seeded inputs beside weights, noise and text: see ``runners/protocol/named_inputs.py``."""
    inputs: Artifact | None = None
    """Their file, if there are any."""
    given_frames: int = 0
    """Latent frames at the start of the video that are given and not generated."""
    context_noise: int = 0
    """Timestep of the KV update; above 0 the clean latents are noised to it first."""
    networks: int = 1
    """Networks of one shape that take turns by noise level."""
    ranks: int = 1
    """Processes that divide each AR step; on GPUs one a GPU."""
    weights_from: str = "file"
    """``file``, or ``device``: every process makes them there from recipe, seed and rule."""
    weights_rule: str = "flat"
    """How seeded weights are drawn; see ``runners/protocol/weight_rules.py``."""
    weights_gains: tuple[float, ...] = ()
    """Numbers of the rule."""
    as_shipped: tuple[str, ...] = ()
    """Mended parts that the candidate leaves as its library ships them, beside the timesteps."""
    position_offset: int = 0
    """Latent frames that positions are moved by: a fault planted for a control."""
    from_ar: int = 0  # first AR step of a planted fault
    schedule: str = "none"
    """Offsets and look-ahead of a recipe that has several; ``none`` where it has one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was in force on one side, read back from live objects; compared field by field."""

    slug: str
    size: str
    num_parameters: int
    weights_sha256: str
    noise_sha256: str
    text_sha256: str
    seed: int
    ar_steps: int
    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]
    """The scheduler's table, before any rounding on the way into the network."""
    timestep_rounding: str
    guidance: float
    len_t: int
    window_t: int
    sink_t: int
    latent_shape: tuple[int, ...]
    """[T, C, H, W] of one AR step."""
    dtype: str
    attention: str
    compile: bool
    cuda_graph: bool
    decoder: str
    device: str
    threads: int
    torch: str
    cudnn: str
    """``none`` where PyTorch has no cuDNN."""
    decoder_weights_sha256: str = "none"
    """``none`` where latents are not decoded."""
    inputs_sha256: str = "none"
    """``none`` where there are no inputs beside weights, noise and text."""
    given_frames: int = 0
    context_noise: int = 0
    networks: int = 1
    ranks: int = 1
    as_shipped: tuple[str, ...] = ()
    position_offset: int = 0
    from_ar: int = 0
    schedule: str = "none"


@dataclass(frozen=True, kw_only=True)
class Capture:
    """One tensor a side wrote for the parity check."""

    name: str
    ar: int
    path: str
    """Relative to the job folder."""
    sha256: str
    shape: tuple[int, ...]
    std: float
    """Standard deviation: a collapsed or exploded output shows here."""


@dataclass(frozen=True, kw_only=True)
class StepEvent:
    """One AR step as fdbench's own clock saw it."""

    nonce: str
    ar: int
    stages_ms: dict[str, float]
    """Stage name to milliseconds, in the order the stages ran."""
    denoise_ms: tuple[float, ...]
    """Per denoising step: from its first network call to the next step's, or to the KV update."""
    wall_ms: float
    """Of the whole AR step on the host's clock, the wait for the device included."""
    kernels_ms: dict[str, float]
    """GPU kernel to its time in this step; empty where the step was not profiled."""
    captures: tuple[Capture, ...]
    began_at_s: float | None = None
    """On the machine's monotonic clock, like the next two; None in events of protocol 2."""
    ended_at_s: float | None = None
    """When the device had done all work of this step."""
    told_at_s: float | None = None
    """When this event was written, captures included."""
    memory_peak_gib: float | None = None
    """Most that PyTorch's allocator held since process start; None on a CPU."""
    preempted: int | None = None
    """Times that the system took the CPU from this process in this step."""


@dataclass(frozen=True, kw_only=True)
class EndEvent:
    """The last line of a trial that ran to its end."""

    nonce: str
    ar_steps: int
    noise_draws: int
    """Tensors taken from the noise bank; both sides must have drawn the same number."""
    facts: dict[str, str]
    """Versions, identities and stand-ins worth keeping that are not compared."""


EVENT_TYPES: dict[str, type[StepEvent] | type[EndEvent]] = {"step": StepEvent, "end": EndEvent}
"""The key of an event line, and the record under it."""


def sha256_file(path: Path | str) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_once(path: Path | str) -> str:
    """The same for a file that is read several times: hashed anew only when it was changed."""
    at = Path(path).resolve().stat()
    return _sha256_of(str(path), at.st_ino, at.st_size, at.st_mtime_ns)


@functools.cache
def _sha256_of(path: str, _inode: int, _size: int, _mtime_ns: int) -> str:
    return sha256_file(path)


def to_json(record: Any) -> str:
    """One dataclass record as a single line of JSON; refuses NaN and infinities."""
    return json.dumps(dataclasses.asdict(record), allow_nan=False)


def from_json(record_type: type[Record], text: str, where: str) -> Record:
    """Parse one record strictly.

    Args:
        record_type: The dataclass to build.
        text: A JSON object.
        where: File or line, for the message.

    Raises:
        WireError: Not JSON, an unknown, missing or ill-typed field, NaN or an infinity.
    """
    return typing.cast("Record", _convert(record_type, _loads(text, where), where))


def write_json(path: Path, record: Any) -> None:
    """Write a record beside its place and rename it there, so that no reader sees half of it."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(to_json(record) + "\n", encoding="utf-8")
    beside.replace(path)


def read_json(record_type: type[Record], path: Path) -> Record:
    """Read one record from a file; see :func:`from_json`, whose errors it raises."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"{path}: not text ({error})") from error
    return from_json(record_type, text, str(path))


def event_line(event: StepEvent | EndEvent) -> str:
    """One line of the event file: an object whose only key is the event's kind."""
    kind = next(kind for kind, record in EVENT_TYPES.items() if isinstance(event, record))
    return json.dumps({kind: dataclasses.asdict(event)}, allow_nan=False) + "\n"


def read_events(path: Path, nonce: str) -> Iterator[StepEvent | EndEvent]:
    """Yield a trial's events in file order; an unfinished last line is left out.

    Raises:
        WireError: A line is malformed, or carries another trial's nonce.
    """
    yield from events_in(path.read_bytes(), str(path), nonce)


def events_in(content: bytes, source: str, nonce: str) -> Iterator[StepEvent | EndEvent]:
    """The same from a file's bytes; ``source`` names it in messages."""
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        where = f"{source}:{number}"
        data = _loads(line.decode("utf-8", "replace"), where)
        if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= EVENT_TYPES.keys():
            raise WireError(f"{where}: not an event")
        ((kind, fields),) = data.items()
        event = _convert(EVENT_TYPES[kind], fields, where)
        if event.nonce != nonce:
            raise WireError(f"{where}: the event carries a foreign nonce")
        yield event


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{where}: not JSON ({error})") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _convert(wanted: Any, value: Any, where: str) -> Any:
    """Check ``value`` against a type made of dataclasses, tuples, dicts and scalars."""
    if typing.get_origin(wanted) is types.UnionType:  # a type, or None
        wanted = type(None) if value is None else typing.get_args(wanted)[0]
    if dataclasses.is_dataclass(wanted):
        return _convert_record(typing.cast("type", wanted), value, where)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if wanted is float:
        # JSON may spell an infinity as 1e309, and an integer that no float holds.
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:
            return float(value)
    elif isinstance(wanted, type) and type(value) is wanted:
        return value
    raise WireError(f"{where}: expected {getattr(wanted, '__name__', wanted)}, got {value!r:.60}")


@functools.cache
def _hints_of(record_type: type) -> dict[str, Any]:
    """Types of a record's fields; reading them is slow, and a run has thousands of records."""
    return typing.get_type_hints(record_type)


def _convert_record(wanted: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise WireError(f"{where}: expected an object, got {value!r:.60}")
    hints = _hints_of(wanted)
    fields = dataclasses.fields(wanted)
    # A later field has a default, which says what was so before it: old runs stay legible.
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    wrong = (value.keys() - {field.name for field in fields}) | (needed - value.keys())
    if wrong:
        raise WireError(f"{where}: fields differ from the protocol: {sorted(wrong)}")
    return wanted(
        **{key: _convert(hints[key], own, f"{where}.{key}") for key, own in value.items()}
    )
