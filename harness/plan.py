"""Expands a suite on a device into ordered trials; pure."""

import dataclasses
import random
from typing import Any

from harness.errors import UsageFault
from harness.records import Phase, Plan, PlannedCell, PlannedTrial, Role, Side
from harness.suites import (
    Device,
    Recipe,
    Recipes,
    Suite,
    SuiteCell,
    check_overrides,
    parse_side,
    pick,
)
from runners.protocol.wire import PROTOCOL_VERSION, Artifact, Job

_UNMADE = Artifact(path="", sha256="")


def plan_suite(name: str, suite: Suite, recipes: Recipes, device_key: str, device: Device) -> Plan:
    """Lay out every cell and trial of a suite; the denominator of the result is fixed here.

    Raises:
        UsageFault: The suite names an unknown recipe, or sets something that cannot be set.
    """
    cells, unsupported = [], []
    for number, cell in enumerate(suite.cells):
        where = f"suite {name}, cell {number + 1}"
        cell_id = f"{cell.recipe}/{device_key}/{cell.baseline}"
        reason = _why_unsupported(suite, device)
        if reason:
            unsupported.append((cell_id, reason))
            continue
        recipe = recipes.recipes[pick("recipe", cell.recipe, recipes.recipes, where)]
        check_overrides(cell.settings, where)
        job = _base_job(suite, cell.recipe, recipe, recipes, device)
        cells.append(_plan_cell(cell_id, suite, cell, device_key, job, where))
    _refuse_repeats([cell.cell_id for cell in cells], name)
    return Plan(
        suite=name,
        device=device_key,
        size=suite.size,
        cells=tuple(cells),
        unsupported=tuple(unsupported),
    )


def phase_of(ar: int, job: Job) -> Phase:
    """Phase of an AR step of a job."""
    full_at = (job.sink_t + job.window_t) // job.len_t
    return phase_at(ar, full_at, has_graph=job.cuda_graph)


def phase_at(ar: int, full_at: int, *, has_graph: bool) -> Phase:
    """Phase of an AR step: the KV window fills, a CUDA graph is captured, then it is steady."""
    if ar < full_at:
        return Phase.FILLING
    return Phase.CAPTURE if has_graph and ar == full_at else Phase.STEADY


def draws_per_step(job: Job) -> int:
    """Noise tensors an AR step takes: the initial one, and one per renoising of Self-Forcing."""
    return job.denoising_steps if job.solver == "self_forcing" else 1


def sigma_table(recipe_job: Job) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Noise levels and timesteps of a job, from its solver, steps and shift.

    Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm.py`` and ``fm_unipc.py``.
    """
    steps, shift = recipe_job.denoising_steps, recipe_job.shift
    if recipe_job.solver == "self_forcing":
        sigmas = [_shifted(t / 1000, shift) for t in recipe_job.denoising_timesteps]
        return tuple(sigmas), tuple(1000 * sigma for sigma in sigmas)
    sigmas = [_shifted(0.999 * (1 - i / steps), shift) for i in range(steps)]
    return tuple(sigmas), tuple(float(int(1000 * sigma)) for sigma in sigmas)


def _shifted(sigma: float, shift: float) -> float:
    return shift * sigma / (1 + (shift - 1) * sigma)


def _why_unsupported(suite: Suite, device: Device) -> str:
    if suite.size == "full" and device.torch_device == "cpu":
        return "full size needs a GPU"
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
        seed=suite.seed,
        sigmas=(),
        timesteps=(),
        timestep_rounding="none",
        attention=device.attention,
        device=device.torch_device,
        threads=0 if on_gpu else suite.threads,
        capture_steps=(),
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
)


def change_job(job: Job, changes: dict[str, Any]) -> Job:
    """Apply overrides, and compute what follows from them and was not itself overridden."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    if values.get("denoising_timesteps"):
        values = {"denoising_steps": len(values["denoising_timesteps"])} | values
    job = dataclasses.replace(job, **values)
    sigmas, timesteps = sigma_table(job)
    derived: dict[str, Any] = {
        "sigmas": sigmas,
        "timesteps": timesteps,
        "capture_steps": tuple(range(job.ar_steps)),
    }
    return dataclasses.replace(job, **{k: v for k, v in derived.items() if k not in values})


def _plan_cell(
    cell_id: str, suite: Suite, cell: SuiteCell, device_key: str, job: Job, where: str
) -> PlannedCell:
    if len(cell.floor) != 2:
        raise UsageFault(f"{where}: floor names {len(cell.floor)} sides, it takes two")
    candidate = parse_side(cell.candidate, where)
    reference = parse_side(cell.reference or cell.baseline, where)
    floor = (parse_side(cell.floor[0], where), parse_side(cell.floor[1], where))
    if floor[0] == floor[1]:
        raise UsageFault(f"{where}: floor is {floor[0]} twice: two sides that differ in precision")
    launches = _interleave(candidate, reference, suite.processes, random.Random(cell_id))
    launches += [(Role.FLOOR, side, 0) for side in floor if side not in (candidate, reference)]
    trials = tuple(
        PlannedTrial(
            trial_id=f"{cell_id.replace('/', '.')}.{role}.{_slug(side)}.{process}",
            cell_id=cell_id,
            role=role,
            side=side,
            process=process,
            job=change_job(job, cell.settings | dict(side.overrides)),
        )
        for role, side, process in launches
    )
    return PlannedCell(
        cell_id=cell_id,
        recipe=cell.recipe,
        device=device_key,
        baseline=cell.baseline,
        candidate=candidate,
        reference=reference,
        floor=floor,
        limit=cell.limit,
        limit_origin=cell.limit_origin,
        expected_differences=tuple(cell.expected_differences),
        trials=trials,
    )


def _interleave(
    candidate: Side, reference: Side, processes: int, order: random.Random
) -> list[tuple[Role, Side, int]]:
    """Both sides once per round, each round in an order drawn by a generator seeded by the cell.

    Rounds alternate their first side from a random start, so neither side runs first more often.
    """
    pair = [(Role.CANDIDATE, candidate), (Role.REFERENCE, reference)]
    order.shuffle(pair)
    launches = []
    for process in range(processes):
        launches += [(role, side, process) for role, side in pair]
        pair.reverse()
    return launches


def _slug(side: Side) -> str:
    return "".join(char if char.isalnum() else "-" for char in str(side)).strip("-")


def _refuse_repeats(cell_ids: list[str], suite: str) -> None:
    for cell_id in cell_ids:
        if cell_ids.count(cell_id) > 1:
            raise UsageFault(f"suite {suite}: the cell {cell_id} stands there twice")
