"""The main flow: load, plan, launch, parse, store, match, judge, render."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import environments, gates, inputs, machine, matching, parity, plan, store, suites
from harness.environments import BuiltEnvironment
from harness.errors import ExitCode, IntegrityFault, Interrupted, UsageFault, worst
from harness.launch import Limits, TrialResult, Watcher, launch
from harness.matching import Difference
from harness.records import (
    Outcome,
    PairRow,
    ParityRow,
    Plan,
    PlannedCell,
    PlannedTrial,
    Role,
    Side,
    StepRow,
    TrialRow,
)
from harness.store import Store


class RunWatcher(Watcher):
    """A watcher that is also told about the run around its trials."""

    def planned(self, planned: Plan) -> None:
        """The plan is made."""

    def note(self, text: str) -> None:
        """Something takes time, or deserves a line."""

    def judged(self, pair: PairRow) -> None:
        """A cell has its verdict."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the user asked for."""

    suite: str
    device: str
    out: Path
    """Folder of the run, which must not exist."""
    environments_dir: Path = environments.ENVIRONMENTS_DIR
    only: str = ""
    """Run only cells whose id contains this."""


def make_plan(request: RunRequest) -> tuple[suites.Suite, Plan]:
    """Read suite, recipes and device, and lay out the trials."""
    name, suite = suites.load_suite(request.suite)
    devices = suites.load_devices()
    key = suites.pick("device", request.device, devices)
    planned = plan.plan_suite(name, suite, suites.load_recipes(), key, devices[key])
    cells = tuple(cell for cell in planned.cells if request.only in cell.cell_id)
    if planned.cells and not cells:
        known = "\n".join(cell.cell_id for cell in planned.cells)
        raise UsageFault(f"--only {request.only!r} matches no cell of {name}; it has:\n{known}")
    return suite, replace(planned, cells=cells)


def run_suite(request: RunRequest, watcher: RunWatcher, limits: Limits) -> ExitCode:
    """Run every cell of a suite into a new run folder and judge it.

    Raises:
        Interrupted: The user stopped it; every finished trial is stored.
    """
    suite, planned = make_plan(request)
    here = machine.read_machine()
    machine.require_device(here, request.device, suites.load_devices()[request.device])
    store.require_new(request.out)
    built = _build_environments(planned, request, watcher)
    run_store = store.create(request.out)
    run = {
        "suite": planned.suite,
        "description": suite.description,
        "device": planned.device,
        "size": planned.size,
        "weights": "synthetic",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(here),
        "cells": [cell.cell_id for cell in planned.cells],
        "unsupported": planned.unsupported,
        "environments": {env.name: _describe(env) for env in built.values()},
        "sandbox": "process",
        "state": "running",
    }
    run_store.write_run(run)
    watcher.planned(planned)
    try:
        for cell in planned.cells:
            _run_cell(cell, suite, built, run_store, watcher, limits)
    except KeyboardInterrupt as error:
        shutil.rmtree(run_store.folder / "work", ignore_errors=True)
        run_store.write_run(run | {"state": "interrupted"})
        raise Interrupted(
            f"stopped; finished trials are in {run_store.folder}\n"
            f"What they show: fdbench report {run_store.folder}"
        ) from error
    run_store.write_run(run | {"state": "finished", "finished": _now()})
    return check(run_store)


def check(run_store: Store) -> ExitCode:
    """Verify a run's files and return the exit code its stored verdicts add up to.

    Raises:
        IntegrityFault: A file is missing or was altered.
    """
    run_store.verify()
    run = run_store.read_run()
    judged = {pair.cell_id: pair.code for pair in run_store.read_rows(PairRow)}
    return worst(judged.get(cell_id, ExitCode.INCOMPLETE) for cell_id in run["cells"])


def _build_environments(
    planned: Plan, request: RunRequest, watcher: RunWatcher
) -> dict[str, BuiltEnvironment]:
    sides = [trial.side for cell in planned.cells for trial in cell.trials]
    names = {"flashdreams": None} | {side.environment: None for side in sides}
    return {
        name: environments.build(name, watcher.note, request.environments_dir) for name in names
    }


def _run_cell(
    cell: PlannedCell,
    suite: suites.Suite,
    built: Mapping[str, BuiltEnvironment],
    run_store: Store,
    watcher: RunWatcher,
    limits: Limits,
) -> None:
    """Run a cell's trials in order, stop at the first reason to, and store its verdict."""
    results: dict[str, TrialResult] = {}
    differences: tuple[Difference, ...] = ()
    for trial in cell.trials:
        ready = inputs.prepare(trial, suite.weights_seed, built["flashdreams"])
        result = _run_trial(ready, built[trial.side.environment], run_store, watcher, limits)
        result = _refuse_disobedience(ready, result)
        results[trial.trial_id] = result
        _store_trial(run_store, result)
        differences = _compare_settings(cell, results)
        if (
            result.row.invalid
            or result.row.outcome != Outcome.COMPLETED
            or any(not difference.reason for difference in differences)
        ):
            break
    compared, damage = _compare_outputs(cell, results, run_store)
    rows = [result.row for result in results.values()]
    judgement = damage or gates.judge(cell, rows, differences, compared)
    pair = _pair_row(cell, judgement, differences)
    run_store.write_rows([*run_store.read_rows(ParityRow), *compared], ParityRow)
    run_store.write_rows([*run_store.read_rows(PairRow), pair], PairRow)
    watcher.judged(pair)


def _run_trial(
    trial: PlannedTrial,
    environment: BuiltEnvironment,
    run_store: Store,
    watcher: RunWatcher,
    limits: Limits,
) -> TrialResult:
    work = run_store.folder / "work" / trial.trial_id
    result = launch(trial, environment, work, watcher, limits)
    run_store.commit_trial(work, trial.trial_id)
    work.parent.rmdir()
    return result


def _store_trial(run_store: Store, result: TrialResult) -> None:
    if result.steps:
        run_store.write_rows(result.steps, StepRow, part=result.row.trial_id)
    run_store.write_rows([*run_store.read_rows(TrialRow), result.row], TrialRow)


def _refuse_disobedience(trial: PlannedTrial, result: TrialResult) -> TrialResult:
    """A side whose settings are not those of its job proves nothing about the job."""
    if result.settings is None or result.row.invalid:
        return result
    wrong = matching.disobeyed(trial.job, result.settings)
    if not wrong:
        return result
    listed = "; ".join(matching.describe(difference) for difference in wrong)
    return replace(
        result, row=replace(result.row, invalid=f"in force is not what the job says: {listed}")
    )


def _compare_settings(
    cell: PlannedCell, results: Mapping[str, TrialResult]
) -> tuple[Difference, ...]:
    """Differences between the first candidate and the first reference, once both have run."""
    first = {
        role: result.settings
        for role in (Role.CANDIDATE, Role.REFERENCE)
        for result in reversed(list(results.values()))
        if result.row.role == role and result.settings is not None
    }
    if len(first) < 2:
        return ()
    expected = {item.setting: item.reason for item in cell.expected_differences}
    return matching.compare(first[Role.CANDIDATE], first[Role.REFERENCE], expected)


def _compare_outputs(
    cell: PlannedCell, results: Mapping[str, TrialResult], run_store: Store
) -> tuple[list[ParityRow], gates.Judgement | None]:
    """Compare outputs; captures that are not what their trial wrote decide the cell."""
    rows: list[ParityRow] = []
    try:
        for comparison, left, right in _comparisons(cell, results):
            folders = [run_store.folder / "captures" / r.row.trial_id for r in (left, right)]
            labels = {
                "cell_id": cell.cell_id,
                "comparison": comparison,
                "candidate_trial": left.row.trial_id,
                "reference_trial": right.row.trial_id,
            }
            rows += parity.compare_captures(
                (folders[0], folders[1]), (left.captures, right.captures), labels
            )
    except IntegrityFault as error:
        return rows, gates.untrusted(str(error))
    return rows, None


def _comparisons(
    cell: PlannedCell, results: Mapping[str, TrialResult]
) -> list[tuple[str, TrialResult, TrialResult]]:
    """Every candidate against the first reference, and the two sides of the floor."""
    completed = [r for r in results.values() if r.row.outcome == Outcome.COMPLETED]
    candidates = [r for r in completed if r.row.role == Role.CANDIDATE]
    references = [r for r in completed if r.row.role == Role.REFERENCE]
    pairs = [("pair", left, right) for left in candidates for right in references[:1]]
    floor = [_first_of(side, completed) for side in cell.floor]
    if floor[0] is not None and floor[1] is not None:
        pairs.append(("floor", floor[0], floor[1]))
    return pairs


def _first_of(side: Side, completed: list[TrialResult]) -> TrialResult | None:
    return next((result for result in completed if result.row.side == str(side)), None)


def _pair_row(
    cell: PlannedCell, judgement: gates.Judgement, differences: tuple[Difference, ...]
) -> PairRow:
    listed = [[d.setting, str(d.candidate), str(d.reference), d.reason] for d in differences]
    return PairRow(
        cell_id=cell.cell_id,
        recipe=cell.recipe,
        device=cell.device,
        baseline=cell.baseline,
        candidate=str(cell.candidate),
        reference=str(cell.reference),
        floor=f"{cell.floor[0]} against {cell.floor[1]}",
        limit=cell.limit,
        limit_origin=cell.limit_origin,
        verdict=judgement.verdict,
        exit_code=judgement.code,
        reason=judgement.reason,
        settings_differences=json.dumps(listed),
    )


def _describe(environment: BuiltEnvironment) -> dict[str, object]:
    return {
        "description": environment.declared.description,
        "packages": environment.declared.packages + environment.declared.no_deps,
        "reason_no_deps": environment.declared.reason_no_deps,
        "digest": environment.digest,
        "code_digest": environment.code_digest,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
