"""Reads ``suites/*.toml``: the only module that knows their layout."""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from harness.errors import UsageFault
from harness.plan import names
from harness.plan.known_names import InputName, KindName, SolverName, nearest
from harness.plan.overrides import check_overrides
from harness.plan.toml_files import line_of, load_toml
from harness.records import ExpectedDifference
from runners.protocol.wire import Network

SUITES_DIR = names.SUITES_DIR
_LISTED = ("suite", "recipe", "device", "env")
"""What ``fdbench list`` has."""
_DOCUMENTED = {
    "network": "see: suites/recipes.toml",
    "network shape": "see: docs/FORMAT.md, Network",
}
"""Where the rest of the names stands."""
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An upstream runner that a recipe is compared with."""

    __pydantic_config__ = _STRICT

    name: str
    """As the model page calls it."""
    environment: str
    """Folder under ``upstream_envs``, whether or not it exists yet."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Geometry and sampling of one FlashDreams slug, the same for both sides."""

    __pydantic_config__ = _STRICT

    model: str
    """Name of its card on the model page."""
    flavour: Literal["streaming", "bidirectional", "super_resolution"]
    checkpoints: list[str]
    candidate: str
    """Environment of the FlashDreams side."""
    network: str
    solver: SolverName
    denoising_timesteps: list[int]
    denoising_steps: int
    shift: float
    guidance: float
    len_t: int
    window_t: int
    sink_t: int
    latent_height: int
    latent_width: int
    ar_steps: int
    dtype: str
    decoder: str
    compile: bool
    cuda_graph: bool
    baselines: dict[str, Baseline]
    inputs: list[InputName] = field(default_factory=list)
    """Seeded inputs beside weights, noise and text."""
    given_frames: NonNegativeInt = 0
    context_noise: NonNegativeInt = 0
    networks: PositiveInt = 1
    gpus: PositiveInt = 1
    """GPUs the published figures were measured on, one process each."""
    tiny: dict[str, Any] = field(default_factory=dict)
    """Values that replace the others at ``size = "tiny"``."""
    no_runner: str = ""
    """Why there is no FlashDreams runner for it; empty if there is one."""
    no_matched_trial: str = ""
    """Why it cannot be run as one side of a pair; empty if it can."""

    @property
    def capture_ar(self) -> int:
        """AR step at which the KV window is full; a CUDA graph is captured there."""
        return (self.sink_t + self.window_t) // self.len_t


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """A network's parameter count and its shape at each size."""

    __pydantic_config__ = _STRICT

    parameters: PositiveInt
    """At full size."""
    full: dict[str, int]
    tiny: dict[str, int] = field(default_factory=dict)
    kind: KindName = Network.kind


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """All of ``recipes.toml``."""

    __pydantic_config__ = _STRICT

    networks: dict[str, NetworkSizes]
    recipes: dict[str, Recipe]

    def network(self, recipe: Recipe, size: str) -> Network:
        """Shape of a recipe's network at a size."""
        sizes = self.networks[recipe.network]
        return Network(kind=sizes.kind, **(sizes.tiny if size == "tiny" else sizes.full))


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that results can be about."""

    __pydantic_config__ = _STRICT

    name: str
    torch_device: str
    attention: str
    architecture: str = "any"
    """Of the host, as ``uname -m`` prints it."""
    nvml: list[str] = field(default_factory=list)
    """Names NVML reports for it."""
    memory_gb: float = 0.0
    """Usable by one process; 0 for a CPU, whose memory is not judged."""
    nominal_tflops: float = 0.0
    """Dense bfloat16 from the maker's data sheet, for estimates only."""


@dataclass(frozen=True, kw_only=True)
class SuiteCell:
    """One recipe against one baseline."""

    __pydantic_config__ = _STRICT

    recipe: str
    baseline: str
    floor: list[str]
    """Two sides whose distance is the noise floor."""
    limit: Annotated[PositiveFloat, Field(allow_inf_nan=False)]
    limit_origin: str
    variant: str = ""
    """Tells a recipe's rows against one baseline apart; part of the cell's id."""
    controls: list[str] = field(default_factory=list)
    """Sides that the parity gate must refuse, or it proves nothing."""
    candidate: str = ""
    """The recipe's environment unless given."""
    reference: str = ""
    """The baseline's environment unless given."""
    processes: NonNegativeInt = 0
    """Process launches a side; 0 for the suite's."""
    scene: str = ""
    """Input size of a super-resolution cell, WIDTHxHEIGHT."""
    settings: dict[str, Any] = field(default_factory=dict)
    expected_differences: list[ExpectedDifference] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What to compare, how often and under which limits."""

    __pydantic_config__ = _STRICT

    description: str
    size: Literal["tiny", "full"]
    cells: list[SuiteCell]
    processes: PositiveInt = 1
    """Process launches a side."""
    seed: int = 42
    """Seed of the noise bank."""
    weights_seed: int = 0
    profile: bool = False
    """Whether each side's first process runs its last AR step under a profiler."""
    threads: int = 2
    """CPU threads a side, so that both have the same."""


def load_suite(name_or_path: str) -> tuple[str, Suite]:
    """Name and content of a suite of ``suites/`` or of a ``.toml`` file anywhere.

    Raises:
        UsageFault: No such suite, or its file is not what it should be.
    """
    path = find_suite(name_or_path)
    suite = load_toml(Suite, path)
    _refuse_repeats(suite, path)
    return path.stem, suite


def find_suite(name_or_path: str) -> Path:
    """File of a suite of ``suites/``, or of a ``.toml`` file anywhere.

    Raises:
        UsageFault: There is no such suite or file.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        return SUITES_DIR / f"{pick('suite', name_or_path, suite_names())}.toml"
    if not path.exists():
        raise UsageFault(
            f"--suite {path}: there is no such file\n"
            "Suites that come with fdbench go by name: fdbench list suites"
        )
    return path


def _refuse_repeats(suite: Suite, path: Path) -> None:
    """Two cells of one name would write over each other.

    Raises:
        UsageFault: There are two.
    """
    seen: dict[tuple[str, ...], int] = {}
    for number, cell in enumerate(suite.cells):
        parts = (cell.recipe, cell.baseline, cell.variant, cell.scene)
        named = tuple(filter(None, parts))  # as the cell's id has them
        first = seen.setdefault(named, number)
        if first == number:
            continue
        text = path.read_text("utf-8")
        here, there = (line_of(text, ("cells", n, "recipe")) for n in (number, first))
        name = ", ".join(named)
        raise UsageFault(
            f"{path}:{here}: cells.{number}.recipe: the cell {name} is defined twice, "
            f"first in line {there}"
        )


def suite_names() -> list[str]:
    """Names of the suites that come with fdbench."""
    return names.suite_names()


def load_recipes(path: Path = SUITES_DIR / "recipes.toml") -> Recipes:
    """Every recipe and network shape; what a recipe's ``like`` names is filled in.

    Raises:
        UsageFault: The file is not what it should be.
    """
    recipes = load_toml(Recipes, path, _fill_in_recipes)
    for name, sizes in recipes.networks.items():
        for size, table in (("full", sizes.full), ("tiny", sizes.tiny)):
            _check_network(table, f"{path}: networks.{name}.{size}")
    for slug, recipe in recipes.recipes.items():
        pick("network", recipe.network, recipes.networks, f"{path}: recipes.{slug}")
        check_overrides(recipe.tiny, f"{path}: recipes.{slug}.tiny")
    return recipes


def _check_network(table: dict[str, int], where: str) -> None:
    """Refuse a shape that no network has.

    Raises:
        UsageFault: A name is unknown or missing.
    """
    known = {item.name: item.default is MISSING for item in fields(Network)}
    for name in table:
        pick("network shape", name, known, where)
    missing = [name for name, is_needed in known.items() if is_needed and name not in table]
    if table and missing:
        raise UsageFault(f"{where}: {missing[0]} is missing")


def _fill_in_recipes(tables: dict[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for slug, own in tables.get("recipes", {}).items():
        base = own.get("like")
        if base is not None and base not in filled:
            raise UsageFault(f"recipes.{slug}.like: no recipe {base!r} is defined above it")
        rest = {key: value for key, value in own.items() if key != "like"}
        filled[slug] = {**filled.get(base, {}), **rest}
    return {**tables, "recipes": filled}


def load_devices() -> dict[str, Device]:
    """Every device by key."""
    return load_toml(dict[str, Device], SUITES_DIR / "devices.toml")


def pick(kind: str, wanted: str, known: Iterable[str], where: str = "") -> str:
    """Return the known name that is wanted.

    Args:
        kind: What it is the name of.
        wanted: As it was typed; case does not matter, for reports and people write ``H100``.
        known: Every name.
        where: Place in a file that names it, where case does matter.

    Raises:
        UsageFault: There is none; the message has the nearest.
    """
    listed = sorted(known)
    if wanted in listed:
        return wanted
    alike = [] if where else [name for name in listed if name.lower() == wanted.lower()]
    if alike:
        return alike[0]
    place = f"{where}: " if where else ""
    see = f"see: fdbench list {kind}s" if kind in _LISTED else _DOCUMENTED.get(kind, "")
    near = nearest(wanted, listed, see)
    more = f"\nAll of them: fdbench list {kind}s" if kind in _LISTED and near != see else ""
    raise UsageFault(f"{place}unknown {kind} {wanted!r}; {near}{more}")
