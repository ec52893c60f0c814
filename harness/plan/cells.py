"""Expands a suite on a device into ordered trials; pure."""

import dataclasses
import functools
import random
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import UsageFault
from harness.plan.estimate import Estimate, estimate_cell, memory_gb
from harness.plan.names import join_id
from harness.plan.overrides import check_overrides, impossible, parse_side
from harness.plan.suites import (
    Device,
    Recipe,
    Recipes,
    Suite,
    SuiteCell,
    load_devices,
    load_recipes,
    load_suite,
    pick,
)
from harness.records import (
    REPEATED,
    CellSides,
    Driven,
    Plan,
    PlannedCell,
    PlannedTrial,
    Role,
    Side,
    UnsupportedCell,
)
from runners.protocol import solvers
from runners.protocol.wire import PROTOCOL_VERSION, Artifact, Job

_UNMADE = Artifact(path="", sha256="")


def plan_suite(
    name: str,
    suite: Suite,
    recipes: Recipes,
    device_key: str,
    device: Device,
    driven: Mapping[str, Driven] | None = None,
) -> Plan:
    """Lay out every cell and trial of a suite; the denominator of the result is fixed here.

    Args:
        name: Of the suite.
        suite: What to compare.
        recipes: Every recipe.
        device_key: Key of the device.
        device: The device.
        driven: Environment to what it drives, for those that exist; None to leave that open.

    Raises:
        UsageFault: The suite names an unknown recipe, or sets something that cannot be set.
    """
    cells, unsupported = [], []
    for number, cell in enumerate(suite.cells):
        where = f"suite {name}, cell {number + 1}"
        cell_id = cell_id_of(cell, device_key)
        recipe = recipes.recipes[pick("recipe", cell.recipe, recipes.recipes, where)]
        check_overrides(cell.settings, where)
        sides = _sides_of(cell, recipe, where)
        job = _base_job(suite, cell.recipe, recipe, recipes, device)
        reason = _why_unsupported(recipe, recipes, device, change_job(job, cell.settings))
        if not reason and driven is not None:
            reason = _why_undriven(cell, recipe, sides, driven)
        if reason:
            unsupported.append(UnsupportedCell(**vars(sides), cell_id=cell_id, reason=reason))
            continue
        planned = _plan_cell(cell_id, suite, cell, sides, device_key, job)
        _refuse_impossible(planned, where)
        cells.append(planned)
    return Plan(
        suite=name,
        device=device_key,
        size=suite.size,
        cells=tuple(cells),
        unsupported=tuple(unsupported),
    )


def make_plan(
    suite_name: str, device_key: str, driven: Mapping[str, Driven], only: str = ""
) -> tuple[Suite, Plan]:
    """Read suite, recipes and device, and lay out the trials.

    Args:
        suite_name: Name of a suite, or a TOML file.
        device_key: Key of the device.
        driven: Environment to what it drives, for those that exist.
        only: Which cells to run; see :func:`chosen`.

    Raises:
        UsageFault: One of them is unknown, or not what it should be.
    """
    name, suite = load_suite(suite_name)
    devices, recipes = load_devices(), load_recipes()
    key = pick("device", device_key, devices)
    planned = plan_suite(name, suite, recipes, key, devices[key], driven)
    picked = chosen(only, [cell.cell_id for cell in planned.cells])
    cells = tuple(cell for cell in planned.cells if cell.cell_id in picked)
    others = tuple(cell.cell_id for cell in planned.cells if cell.cell_id not in picked)
    if only and not cells:
        raise UsageFault(_why_none(only, name, planned))
    needs = {cell.cell_id: need_of(cell, recipes, devices[key]) for cell in cells}
    seconds = {cell_id: need.seconds for cell_id, need in needs.items() if need}
    return suite, dataclasses.replace(planned, cells=cells, not_chosen=others, estimated_s=seconds)


def _why_none(only: str, name: str, planned: Plan) -> str:
    """Why a text picks no cell that can run."""
    reasons = {cell.cell_id: cell.reason for cell in planned.unsupported}
    picked = chosen(only, reasons)
    if picked:
        why = "\n".join(f"{cell_id}: {reasons[cell_id]}" for cell_id in picked)
        return f"--only {only!r}: what it names in {name} cannot run on {planned.device}:\n{why}"
    known = "\n".join(cell.cell_id for cell in planned.cells)
    return f"--only {only!r} matches no cell of {name}; it has:\n{known or 'none that can run'}"


def _refuse_impossible(planned: PlannedCell, where: str) -> None:
    """Refuse a cell with a job that no side could do.

    Raises:
        UsageFault: It has one.
    """
    for trial in planned.trials:
        reason = impossible(trial.job)
        if reason:
            raise UsageFault(f"{where}: {trial.side}: {reason}")
    if len({trial.job.weights_from for trial in planned.trials}) > 1:
        raise UsageFault(
            f"{where}: its sides have different weights_from, and so different weights; "
            "set it in the cell's settings"
        )


def cell_id_of(cell: SuiteCell, device_key: str) -> str:
    """Name of a suite's cell on a device."""
    return join_id(cell.recipe, device_key, cell.baseline, cell.variant, cell.scene)


def chosen(only: str, cell_ids: Iterable[str]) -> list[str]:
    """Cells that a text picks: the one whose id it is, else all whose id contains it."""
    ids = list(cell_ids)
    return [only] if only in ids else [cell_id for cell_id in ids if only in cell_id]


def repeat_of(trial: PlannedTrial) -> PlannedTrial:
    """The one repetition of a trial whose times were disturbed."""
    return dataclasses.replace(trial, trial_id=trial.trial_id + REPEATED)


def need_of(cell: PlannedCell, recipes: Recipes, device: Device) -> Estimate | None:
    """What a cell will take on a device; see :func:`harness.plan.estimate.estimate_cell`."""
    network = recipes.networks[recipes.recipes[cell.recipe].network]
    return estimate_cell((trial.job for trial in cell.trials), network.parameters, device)


def _sides_of(cell: SuiteCell, recipe: Recipe, where: str) -> CellSides:
    """Read a cell's sides; ``official`` stands for the environment of that baseline.

    Raises:
        UsageFault: A side or the noise floor is not what it should be.
    """
    if len(cell.floor) != 2:
        raise UsageFault(f"{where}: floor needs exactly two sides, not {len(cell.floor)}")
    named = {key: baseline.environment for key, baseline in recipe.baselines.items()}
    read = [
        dataclasses.replace(side, environment=named.get(side.environment, side.environment))
        for text in (
            cell.candidate or recipe.candidate,
            cell.reference or cell.baseline,
            *cell.floor,
            *cell.controls,
        )
        for side in [parse_side(text, where)]
    ]
    if read[2] == read[3]:
        raise UsageFault(
            f"{where}: floor names {read[2]} twice; it needs two sides that differ in precision"
        )
    return CellSides(
        candidate=read[0], reference=read[1], floor=(read[2], read[3]), controls=tuple(read[4:])
    )


def _why_unsupported(recipe: Recipe, recipes: Recipes, device: Device, job: Job) -> str:
    """Why a recipe cannot be run on a device at all; empty if it can."""
    is_full = job.size == "full"
    need_gb = memory_gb(job, recipes.networks[recipe.network].parameters, job.gpus)
    reasons = {
        f"no FlashDreams runner yet: {recipe.no_runner}": bool(recipe.no_runner),
        f"no matched trial yet: {recipe.no_matched_trial}": bool(recipe.no_matched_trial),
        "full size needs a GPU": is_full and device.torch_device == "cpu",
        "the recipe has no tiny size": not is_full and not recipe.tiny,
        f"its weights and KV cache need {need_gb:.0f} GB a GPU, it has {device.memory_gb:.0f}": (
            is_full and 0 < device.memory_gb < need_gb
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _why_undriven(
    cell: SuiteCell, recipe: Recipe, sides: CellSides, driven: Mapping[str, Driven]
) -> str:
    """Why an environment of a cell cannot run it; empty if all can."""
    candidate = sides.candidate.environment
    if candidate in driven and not driven[candidate].is_candidate:
        return f"environment {candidate} is a reference: a candidate runs FlashDreams"
    for side in (sides.reference, *sides.floor, *sides.controls, sides.candidate):
        name = side.environment
        if name not in driven:
            return f"no environment {name} yet: upstream_envs/{name} is not there"
        if cell.recipe not in driven[name].recipes:
            return f"environment {name} does not drive this recipe yet"
        settings = {"decoder": recipe.decoder} | cell.settings | dict(side.overrides)
        if settings["decoder"] not in ("none", *driven[name].decoders):
            why = driven[name].why_no_decoder or 'set decoder = "none" in the cell'
            return f"environment {name} does not decode with {settings['decoder']}: {why}"
    return ""


def _base_job(suite: Suite, slug: str, recipe: Recipe, recipes: Recipes, device: Device) -> Job:
    values = {item.name: getattr(recipe, item.name) for item in dataclasses.fields(Recipe)}
    values |= recipe.tiny if suite.size == "tiny" else {}
    on_gpu = device.torch_device == "cuda"
    return Job(
        protocol=PROTOCOL_VERSION,
        nonce="",
        slug=slug,
        size=suite.size,
        network=recipes.network(recipe, suite.size),
        weights=_UNMADE,
        noise=_UNMADE,
        text=_UNMADE,
        weights_seed=suite.weights_seed,
        seed=suite.seed,
        sigmas=(),
        timesteps=(),
        timestep_rounding="none",
        attention=device.attention,
        device=device.torch_device,
        threads=0 if on_gpu else suite.threads,
        capture_steps=(),
        profile_steps=(),
        telemetry=on_gpu,
        gpus=recipe.gpus if on_gpu else 1,
        ranks=recipe.gpus if on_gpu else 1,
        input_names=tuple(recipe.inputs),
        **{key: values[key] for key in _RECIPE_FIELDS},
        denoising_timesteps=tuple(recipe.denoising_timesteps),
        compile=recipe.compile and on_gpu,
        cuda_graph=recipe.cuda_graph and on_gpu,
    )


_RECIPE_FIELDS = (
    "ar_steps",
    "solver",
    "denoising_steps",
    "shift",
    "guidance",
    "len_t",
    "window_t",
    "sink_t",
    "latent_height",
    "latent_width",
    "dtype",
    "decoder",
    "given_frames",
    "context_noise",
    "networks",
)


def change_job(job: Job, changes: dict[str, Any]) -> Job:
    """Apply overrides, and compute what follows from them and was not itself overridden."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    if values.get("denoising_timesteps"):
        values = {"denoising_steps": len(values["denoising_timesteps"])} | values
    changed = dataclasses.replace(job, **values)
    sigmas, timesteps = solvers.table(
        changed.solver, changed.denoising_timesteps, changed.denoising_steps, changed.shift
    )
    derived: dict[str, Any] = {
        "sigmas": sigmas,
        "timesteps": timesteps,
        "capture_steps": solvers.generated(changed),
    }
    if changed.device == "cuda":
        derived["ranks"] = changed.gpus
    return dataclasses.replace(changed, **(derived | values))


def _plan_cell(
    cell_id: str, suite: Suite, cell: SuiteCell, sides: CellSides, device_key: str, job: Job
) -> PlannedCell:
    candidate, reference, floor = sides.candidate, sides.reference, sides.floor
    processes = cell.processes or suite.processes
    launches = _interleave(candidate, reference, processes, random.Random(cell_id))
    profiled = 0 if suite.profile else None
    if suite.profile and change_job(job, cell.settings).ar_steps == 1:
        # Profiling takes a step's time away; a job with one step gets a process of its own for it.
        profiled = processes
        launches += [(role, side, processes) for role, side, process in launches if not process]
    launches += [(Role.FLOOR, side, 0) for side in floor if side not in (candidate, reference)]
    launches += [(Role.CONTROL, side, 0) for side in sides.controls]
    jobs = {
        name: change_job(job, cell.settings | dict(side.overrides))
        for name, side in {str(side): side for _, side, _ in launches}.items()
    }
    trials = tuple(
        PlannedTrial(
            trial_id=f"{cell_id.replace('/', '.')}.{role}.{_slug(name)}.{process}",
            cell_id=cell_id,
            role=role,
            side=side,
            process=process,
            job=_profiled(jobs[name], role) if process == profiled else jobs[name],
        )
        for role, side, process in launches
        for name in [str(side)]
    )
    return PlannedCell(
        cell_id=cell_id,
        recipe=cell.recipe,
        device=device_key,
        baseline=cell.baseline,
        candidate=candidate,
        reference=reference,
        floor=floor,
        controls=sides.controls,
        documented_ar_steps=job.ar_steps,
        limit=cell.limit,
        limit_origin=cell.limit_origin,
        expected_differences=tuple(cell.expected_differences),
        trials=trials,
    )


def _profiled(job: Job, role: Role) -> Job:
    """The job, its last AR step profiled if it is one of the compared sides."""
    is_compared = role in (Role.CANDIDATE, Role.REFERENCE)
    return dataclasses.replace(job, profile_steps=(job.ar_steps - 1,)) if is_compared else job


def _interleave(
    candidate: Side, reference: Side, processes: int, order: random.Random
) -> list[tuple[Role, Side, int]]:
    """Both sides once per round, each round in an order drawn by a generator seeded by the cell.

    Rounds alternate their first side from a random start: of an odd number one side has one more.
    """
    pair = [(Role.CANDIDATE, candidate), (Role.REFERENCE, reference)]
    order.shuffle(pair)
    launches = []
    for process in range(processes):
        launches += [(role, side, process) for role, side in pair]
        pair.reverse()
    return launches


@functools.cache
def _slug(side: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in side).strip("-")
