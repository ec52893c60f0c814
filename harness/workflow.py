"""The main flow: load, plan, launch, parse, store, match, judge, render."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.environments import sides
from harness.environments.built import BuiltEnvironment
from harness.environments.declared import ENVIRONMENTS_DIR, driven, load_environments
from harness.errors import ExitCode, UsageFault
from harness.integrity import import_record, repair, resume
from harness.judging.run_verdict import check
from harness.machine import fingerprint, gpus, telemetry
from harness.plan import suites
from harness.plan.cells import make_plan
from harness.records import Plan, PlannedCell
from harness.store.run import Store, create_run, open_run, require_new
from harness.store.run_record import KernelTime, RunRecord, RunState, WorkerRecord
from harness.trials import kernel_time
from harness.trials.launch import Limits
from harness.worker import RunWatcher, Worker, now, open_cells

_PLACES = {
    sides.DOCKER: "each side runs in a container of its own (without: --sandbox process)",
    sides.PROCESS: "each side runs in a process of its own",
}
"""What a sandbox means."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the user asked for."""

    suite: str
    device: str
    out: Path
    """Folder of the run, which must not exist."""
    environments_dir: Path = ENVIRONMENTS_DIR
    only: str = ""
    """Run only cells whose id contains this."""
    sandbox: str = sides.PROCESS
    base: str = ""
    """Base image of the containers; empty for that of the images that are here."""
    passed: tuple[str, ...] = ()
    """Names of variables that the sides get to see."""


def run_suite(request: RunRequest, watcher: RunWatcher, limits: Limits) -> ExitCode:
    """Run every cell of a suite into a new run folder and judge it.

    Raises:
        UsageFault: It names something unknown, the folder exists, or a variable is not set.
        Interrupted: The user stopped it; every finished trial is stored.
        EnvironmentFault: The disk is full; every finished trial is stored.
    """
    suite, planned = _make_plan(request)
    passed = sides.passed_on(request.passed)
    here = fingerprint.read_machine()
    _require_gpus(here, planned)
    require_new(request.out)
    built = _build_sides(planned, request, watcher)
    times = _kernel_times(planned.cells, built, watcher)
    run_store = create_run(request.out)
    began = now()
    record = RunRecord(
        suite=planned.suite,
        suite_file=resume.suite_file(request.suite),
        sources=resume.sources_of(request.suite),
        description=suite.description,
        device=planned.device,
        size=planned.size,
        weights="synthetic",
        weights_seed=suite.weights_seed,
        started=began,
        state=RunState.RUNNING,
        machine=here,
        workers=(WorkerRecord(started=began, machine=here),),
        sandbox=request.sandbox,
        passed=request.passed,
        cells=tuple(cell.cell_id for cell in planned.cells),
        plan=planned.cells,
        unsupported=_reasons(planned),
        not_chosen=planned.not_chosen,
        estimated_s=planned.estimated_s,
        environments={env.name: resume.describe(env) for env in built.values()},
        kernel_time=times,
    )
    run_store.write_record(record)
    Worker(run_store, built, watcher, limits, passed).run(planned)
    return check(run_store)


def resume_run(
    folder: Path, environments_dir: Path, watcher: RunWatcher, limits: Limits, base: str = ""
) -> ExitCode:
    """Run what is left of a run that was stopped, and judge it.

    Raises:
        UsageFault: It is no run, or what it runs changed since.
        IntegrityFault: Evidence is lost.
    """
    record = open_run(folder).read_record()
    _refuse_imports(record, folder)
    request = RunRequest(
        suite=record.suite_file,
        device=record.device,
        out=folder,
        environments_dir=environments_dir,
        sandbox=record.sandbox,
        base=base,
        passed=record.passed,
    )
    return _go_on(request, record.cells, watcher, limits)


def add_to_run(request: RunRequest, watcher: RunWatcher, limits: Limits) -> ExitCode:
    """Run further cells of the same suite on the same device into a run that exists.

    Raises:
        UsageFault: It is no run of that suite and device, or what it runs changed since.
        IntegrityFault: Evidence is lost.
    """
    record = open_run(request.out).read_record()
    _refuse_imports(record, request.out)
    _, planned = _make_plan(request)
    if (record.suite, record.device) != (planned.suite, planned.device):
        raise UsageFault(
            f"{request.out} is a run of {record.suite} on {record.device}, "
            f"not of {planned.suite} on {planned.device}; choose another --into"
        )
    resume.refuse_other_options(record, request.out, request.sandbox, request.passed)
    request = replace(request, sandbox=record.sandbox, passed=record.passed)
    return _go_on(request, [cell.cell_id for cell in planned.cells], watcher, limits)


def _make_plan(request: RunRequest) -> tuple[suites.Suite, Plan]:
    """Lay out what was asked for with the environments that there are.

    Raises:
        UsageFault: There are none, or it names something unknown.
    """
    declared = load_environments(request.environments_dir)
    if not declared:
        raise UsageFault(
            f"{request.environments_dir} declares no environments (no NAME/env.toml)\n"
            f"Leave out --envs, or start from a copy of one in {ENVIRONMENTS_DIR}"
        )
    adapters = driven(declared)
    return make_plan(request.suite, request.device, adapters, request.only)


def _refuse_imports(record: RunRecord, folder: Path) -> None:
    """A folder that was made for logs has no suite to run.

    Raises:
        UsageFault: It is one.
    """
    if record.suite == import_record.SUITE:
        raise UsageFault(
            f"{folder} holds imported logs only; start a new run to measure: "
            "fdbench run --suite NAME --gpu KEY"
        )


def _go_on(
    request: RunRequest, wanted: Collection[str], watcher: RunWatcher, limits: Limits
) -> ExitCode:
    """Check that a run can go on as it began, then run the cells of it that are wanted."""
    suite, full = _make_plan(replace(request, only=""))
    passed = sides.passed_on(request.passed)
    here = fingerprint.read_machine()
    run_store = open_run(request.out)
    resume.refuse_changed_plan(run_store, request.suite, suite, full)
    planned = replace(full, cells=tuple(c for c in full.cells if c.cell_id in wanted))
    _require_gpus(here, planned)
    before = run_store.read_record()
    if before.state != RunState.RUNNING and not open_cells(run_store, wanted):
        return check(run_store)
    built = _build_sides(planned, request, watcher)
    untimed = {*before.cells, *wanted} - before.kernel_time.keys()
    times = _kernel_times([c for c in full.cells if c.cell_id in untimed], built, watcher)
    with run_store.writing():
        repair.settle(run_store)
        record = run_store.read_record()
        _refuse_held(run_store, wanted)
        resume.refuse_changed_environments(run_store, wanted, built)
        ids = {*record.cells, *wanted}
        cells = tuple(cell for cell in full.cells if cell.cell_id in ids)
        record = replace(
            record,
            cells=tuple(cell.cell_id for cell in cells),
            plan=cells,
            unsupported=_reasons(full),
            estimated_s=_chosen(full.estimated_s, wanted) | record.estimated_s,
            not_chosen=tuple(cell.cell_id for cell in full.cells if cell.cell_id not in ids),
            workers=(*record.workers, WorkerRecord(started=now(), machine=here)),
            environments=resume.environments_of(record.environments, built),
            kernel_time=record.kernel_time | times,
            state=RunState.RUNNING,
            finished="",
        )
        run_store.write_record(record)
    Worker(run_store, built, watcher, limits, passed).run(planned)
    return check(run_store)


def _refuse_held(run_store: Store, wanted: Collection[str]) -> None:
    """Refuse a worker that would have nothing to do.

    Raises:
        UsageFault: Other processes run every cell that is wanted and has no verdict.
    """
    cells = open_cells(run_store, wanted)
    if cells and all(run_store.is_held(cell_id) for cell_id in cells):
        raise run_store.busy(" and ".join(cells))


def _chosen(seconds: Mapping[str, float], wanted: Collection[str]) -> dict[str, float]:
    return {cell_id: value for cell_id, value in seconds.items() if cell_id in wanted}


def _reasons(planned: Plan) -> tuple[tuple[str, str], ...]:
    """Every cell that will not run, and why."""
    return tuple((cell.cell_id, cell.reason) for cell in planned.unsupported)


def _kernel_times(
    planned: Iterable[PlannedCell], built: Mapping[str, BuiltEnvironment], watcher: RunWatcher
) -> dict[str, KernelTime]:
    """Kernel time of each cell that runs on a GPU."""
    cells = [cell for cell in planned if cell.trials[0].job.device == "cuda"]
    times: dict[str, KernelTime] = {}
    for name, own in sides.by_candidate(cells).items():
        if name in built:  # or nothing of these cells runs now
            times |= kernel_time.measure(own, built[name], watcher.note)
    return times


def _require_gpus(here: fingerprint.Machine, planned: Plan) -> None:
    """Refuse a device that is not here, has too few GPUs, or is in use by somebody else.

    Raises:
        EnvironmentFault: It is one of these.
    """
    device = suites.load_devices()[planned.device]
    most = max((t.job.gpus for cell in planned.cells for t in cell.trials), default=1)
    fingerprint.require_device(here, planned.device, device, most)
    if device.torch_device == "cuda":
        # Where another fdbench has them, they are waited for and looked at before each cell.
        with gpus.leased_now(gpus.pick_gpus(most)) as ours:
            if ours:
                telemetry.require_idle(most)


def _build_sides(
    planned: Plan, request: RunRequest, watcher: RunWatcher
) -> dict[str, BuiltEnvironment]:
    folder, note = request.environments_dir, watcher.note
    note(_PLACES[request.sandbox])
    return sides.build_sides(planned, request.sandbox, folder, request.base, note)
