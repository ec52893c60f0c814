"""Whether a run may go on as it began, and what it keeps to tell."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from harness.environments.built import BuiltEnvironment
from harness.errors import UsageFault, fdbench_command
from harness.plan import suites
from harness.plan.overrides import parse_side
from harness.records import PairRow, Plan, PlannedCell, TelemetryRow, TrialRow
from harness.store.manifest import read_manifest
from harness.store.run import Store
from harness.store.run_record import EnvironmentRecord, RunRecord
from harness.store.tables import part_of
from runners.protocol.wire import PROTOCOL_VERSION, sha256_file


def refuse_changed_plan(run_store: Store, suite_name: str, suite: suites.Suite, full: Plan) -> None:
    """Refuse to mix trials of two plans in one run.

    Raises:
        UsageFault: A cell of the run is planned differently now.
    """
    record = run_store.read_record()
    _refuse_other_protocol(run_store, record)
    now = {cell.cell_id: cell for cell in full.cells}
    changed = [
        f"{cell.cell_id}: {_changed_fields(cell, now.get(cell.cell_id))}"
        for cell in record.plan
        if cell != now.get(cell.cell_id)
    ]
    if record.weights_seed != suite.weights_seed:
        changed.append("weights_seed")
    if changed:
        before, after = record.sources, sources_of(suite_name)
        files = [name for name in after if before.get(name) != after[name]] or ["fdbench itself"]
        raise UsageFault(
            f"{run_store.folder} cannot continue: {' and '.join(files)} changed since it was "
            f"started ({changed[0]})\nUndo that change, or start a new run: {_anew(record)}"
        )


def _refuse_other_protocol(run_store: Store, record: RunRecord) -> None:
    """Refuse to add trials to a run whose jobs said other things.

    Raises:
        UsageFault: They are of an earlier protocol.
    """
    spoken = {trial.job.protocol for cell in record.plan for trial in cell.trials}
    others = sorted(spoken - {PROTOCOL_VERSION})
    if others:
        raise UsageFault(
            f"{run_store.folder} was started with protocol {others[0]}, and this fdbench has "
            f"protocol {PROTOCOL_VERSION}: it can be reported and checked, but not continued\n"
            f"Start a new run: {_anew(record)}"
        )


def _anew(record: RunRecord, *more: str) -> str:
    """What to type for a new run of the same suite on the same device."""
    return fdbench_command("run", "--suite", record.suite_file, "--gpu", record.device, *more)


def _changed_fields(before: PlannedCell, after: PlannedCell | None) -> str:
    if after is None:
        return "is not planned any more"
    names = [name for name, value in vars(before).items() if value != vars(after)[name]]
    if names == ["trials"] and len(before.trials) == len(after.trials):
        jobs = [
            (vars(a.job), vars(b.job)) for a, b in zip(before.trials, after.trials, strict=True)
        ]
        fields = {name: None for a, b in jobs for name in a if a[name] != b[name]}
        names = list(fields) or names
    return ", ".join(names)


def refuse_changed_environments(
    run_store: Store, wanted: Collection[str], built: Mapping[str, BuiltEnvironment]
) -> None:
    """Refuse to mix trials of two environments or adapters in one cell.

    Cells that have their verdict keep the environment they ran in; the record has both.

    Raises:
        UsageFault: An environment changed since a cell began that is to go on.
    """
    record = run_store.read_record()
    judged = {pair.cell_id for pair in run_store.read_rows(PairRow, wanted)}
    cells = [c for c in record.plan if c.cell_id in wanted and c.cell_id not in judged]
    names = [name for cell in cells for name in cell.trial_ids]
    begun = run_store.read_rows(TrialRow, names) if names else []
    for row in begun:
        env = built[parse_side(row.side, row.trial_id).environment]
        now: dict[str, object] = {
            "packages": env.digest,
            "code": env.code_digest,
            "source": describe(env).source,
        }
        was: dict[str, object] = {"packages": row.environment_digest, "code": row.code_digest}
        was |= {"source": record.environments[env.name].source}
        changed = [what for what in now if now[what] != was[what]]
        if changed:
            raise UsageFault(
                f"{run_store.folder} cannot continue: {' and '.join(changed)} of environment "
                f"{env.name} changed since {row.cell_id} was started\n"
                f"Undo that change, or start a new run: {_anew(record)}"
            )


def refuse_other_options(
    record: RunRecord, where: Path, sandbox: str, passed: Sequence[str]
) -> None:
    """Refuse options that a run cannot change, for every cell of it has the same.

    Args:
        record: Of the run.
        where: Its folder.
        sandbox: As asked for; empty if nobody asked.
        passed: Names of variables that the sides are to see, as asked for.

    Raises:
        UsageFault: One differs from what the run began with.
    """
    asked = {"--sandbox": sandbox, "--env": ", ".join(sorted(passed))}
    began = {"--sandbox": record.sandbox, "--env": ", ".join(sorted(record.passed))}
    for option, value in asked.items():
        if value and value != began[option]:
            raise UsageFault(
                f"{where} was started {_with(option, began[option])}: leave out {option} {value}, "
                f"or start a new run: {_anew(record)}"
            )


def _with(option: str, value: str) -> str:
    """How a run was started, in words."""
    return f"with {option} {value}" if value else f"without {option}"


def refuse_other_gpus(run_store: Store, cell_id: str, uuids: tuple[str, ...]) -> None:
    """Refuse to go on with a cell on other GPUs: no two cards are alike to a per cent.

    Raises:
        UsageFault: A trial of the cell ran on another one.
    """
    if not uuids:
        return
    readings = run_store.read_table(TelemetryRow).select(["cell_id", "gpu"])
    used = readings.group_by(["cell_id", "gpu"]).aggregate([]).to_pylist()
    began_on = {row["gpu"] for row in used if row["cell_id"] == cell_id}
    if began_on - set(uuids):
        raise UsageFault(
            f"{cell_id} was started on {', '.join(sorted(began_on))}, but this is "
            f"{', '.join(uuids)}: both sides of a cell must run on the same GPU\n"
            "Continue there, or measure the cell in a new run: "
            f"{_anew(run_store.read_record(), '--only', cell_id)}"
        )


def refuse_pruned(run_store: Store, cell_id: str) -> None:
    """Refuse to go on with a cell that could not be judged any more.

    Raises:
        UsageFault: Captures of a trial of the cell were removed.
    """
    (cell,) = (cell for cell in run_store.read_plan() if cell.cell_id == cell_id)
    stored = run_store.stored_parts(TrialRow)
    ran = {name for name in cell.trial_ids if part_of(name) in stored}
    entries = read_manifest(run_store.folder).values()
    gone = [one for one in entries if one.pruned and one.path.split("/")[1] in ran]
    if any(not (run_store.folder / one.path).exists() for one in gone):
        raise UsageFault(
            f"{cell_id} cannot continue in {run_store.folder}: its captures were pruned before it "
            "had a verdict\nMeasure it in a new run: "
            f"{_anew(run_store.read_record(), '--only', cell_id)}"
        )


def environments_of(
    before: Mapping[str, EnvironmentRecord], built: Mapping[str, BuiltEnvironment]
) -> dict[str, EnvironmentRecord]:
    """Every environment that a trial of the run ran in; one that changed since keeps its digest."""
    now = {env.name: describe(env) for env in built.values()}
    kept = {
        name if name not in now else f"{name}@{_content(then)}": then
        for name, then in before.items()
        if name not in now or _content(then) != _content(now[name])
    }
    return kept | now


def _content(described: EnvironmentRecord) -> str:
    """Short digest of all that makes an environment what it is: packages, code and source."""
    source = described.source and asdict(described.source)
    parts = [described.digest, described.code_digest, source]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def suite_file(name_or_path: str) -> str:
    """A suite as it can be found again from anywhere."""
    path = suites.find_suite(name_or_path)
    return str(path.resolve()) if name_or_path.endswith(".toml") else path.stem


def sources_of(name_or_path: str) -> dict[str, str]:
    """Digests of the files that a plan comes from."""
    suite = suites.find_suite(name_or_path)
    paths = [suite, suites.SUITES_DIR / "recipes.toml", suites.SUITES_DIR / "devices.toml"]
    return {path.name: sha256_file(path) for path in paths}


def describe(environment: BuiltEnvironment) -> EnvironmentRecord:
    """What a run keeps of an environment."""
    declared = environment.declared
    return EnvironmentRecord(
        title=declared.title,
        role=declared.role,
        description=declared.description,
        packages=(*declared.packages, *declared.no_deps),
        reason_no_deps=declared.reason_no_deps,
        installed=environment.installed,
        digest=environment.digest,
        image=environment.image,
        code_digest=environment.code_digest,
        source=declared.source,
    )
