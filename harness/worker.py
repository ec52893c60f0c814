"""One process adding to a run: cell by cell, trial by trial, beside other such processes."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from harness.environments.built import BuiltEnvironment
from harness.errors import FdbenchError, Interrupted, fdbench_command
from harness.integrity import resume
from harness.judging import cell_verdict
from harness.machine import gpus, telemetry
from harness.machine.stopping import Stop, stopping
from harness.records import Outcome, PairRow, Plan, PlannedCell, PlannedTrial, TrialRow
from harness.store.durable import disk_faults, require_space
from harness.store.run import LOGS, WORK, Store
from harness.store.run_record import RunState
from harness.store.tables import part_of
from harness.trials import evidence, inputs
from harness.trials.evidence import TrialResult
from harness.trials.launch import Grant, Limits, Watcher, launch


class RunWatcher(Watcher):
    """A watcher that is also told about the run around its trials."""

    def planned(self, planned: Plan) -> None:
        """The plan is made."""

    def note(self, text: str) -> None:
        """Something takes time, or deserves a line."""

    def judged(self, pair: PairRow) -> None:
        """A cell has its verdict."""


def open_cells(run_store: Store, wanted: Collection[str]) -> list[str]:
    """Those without a verdict."""
    judged = run_store.stored_parts(PairRow)
    return [cell_id for cell_id in wanted if part_of(cell_id) not in judged]


@dataclass(frozen=True)
class Worker:
    """One process adding to a run, cell by cell."""

    store: Store
    built: Mapping[str, BuiltEnvironment]
    watcher: RunWatcher
    limits: Limits
    passed: Mapping[str, str]

    def run(self, planned: Plan) -> None:
        """Run the cells that have no verdict yet, but those that other processes run."""
        ids = open_cells(self.store, [cell.cell_id for cell in planned.cells])
        cells = [cell for cell in planned.cells if cell.cell_id in ids]
        if cells:  # or a killed worker had judged them all
            self.watcher.planned(replace(planned, cells=self._left(cells)))
        try:
            with stopping(self.watcher.note) as stop:
                for cell in cells:
                    stop.raise_if_asked()
                    with self.store.holding_cell_if_free(cell.cell_id) as is_ours:
                        if is_ours:
                            self._run_if_open(cell, stop)
                        else:
                            self.watcher.note(f"skipped, another process runs it: {cell.cell_id}")
        except KeyboardInterrupt as error:
            self._leave(cells)
            raise Interrupted(
                f"stopped; finished trials are kept in {self.store.folder}\n"
                f"Report so far: {fdbench_command('report', self.store.folder)}\n"
                f"Continue with: {fdbench_command('run', '--resume', self.store.folder)}"
            ) from error
        except FdbenchError:
            with suppress(FdbenchError):  # the first fault is what to tell
                self._leave(cells)
            raise
        self._close()

    def _left(self, cells: Sequence[PlannedCell]) -> tuple[PlannedCell, ...]:
        """Cells with those of their trials that have not run."""
        ran = self.store.stored_parts(TrialRow)
        return tuple(
            replace(cell, trials=tuple(t for t in cell.trials if part_of(t.trial_id) not in ran))
            for cell in cells
        )

    def _run_if_open(self, cell: PlannedCell, stop: Stop) -> None:
        """Run a cell, unless another worker has judged it since this one began."""
        if not open_cells(self.store, [cell.cell_id]):
            return
        resume.refuse_changed_environments(self.store, [cell.cell_id], self.built)
        self._run_cell(cell, stop)

    def _run_cell(self, cell: PlannedCell, stop: Stop) -> None:
        """Run a cell's trials in order, stop at the first reason to, and store its verdict."""
        results = self._recall(cell)
        uuids = gpus.pick_gpus(max(map(gpus.wanted_by, cell.trials), default=0))
        resume.refuse_pruned(self.store, cell.cell_id)
        resume.refuse_other_gpus(self.store, cell.cell_id, uuids)
        with gpus.leased(uuids, self.watcher.note, stop.raise_if_asked):
            if uuids:
                telemetry.require_idle(len(uuids))
            for trial in cell_verdict.expected_trials(cell, results):
                if trial.trial_id in results:
                    continue
                if cell_verdict.is_over(cell, results):
                    break
                stop.raise_if_asked()
                results[trial.trial_id] = self._run_trial(cell, trial, uuids)
        judged = cell_verdict.judge_cell(cell, results, self.store.folder / "captures")
        self.store.add_judgement(judged.pair, judged.parity)
        self.watcher.judged(judged.pair)

    def _recall(self, cell: PlannedCell) -> dict[str, TrialResult]:
        """The cell's trials that have run, in the order of the plan."""
        rows = {row.trial_id: row for row in self.store.read_rows(TrialRow, cell.trial_ids)}
        results: dict[str, TrialResult] = {}
        for trial in cell_verdict.expected_trials(cell, results):
            if trial.trial_id in rows:
                folder = self.store.folder / LOGS / trial.trial_id
                results[trial.trial_id] = evidence.recall_trial(folder, rows[trial.trial_id])
        return results

    def _run_trial(
        self, cell: PlannedCell, trial: PlannedTrial, uuids: tuple[str, ...]
    ) -> TrialResult:
        ready = inputs.prepare(trial, self.built[cell.candidate.environment])
        environment = self.built[trial.side.environment]
        grant = Grant(gpus=uuids[: gpus.wanted_by(trial)], variables=self.passed)
        before = gpus.memory_in_use(grant.gpus)
        with disk_faults(self.store.folder), self.store.job_folder(trial.trial_id) as work:
            result = launch(ready, environment, work, self.watcher, self.limits, grant)
            if result.row.outcome != Outcome.COMPLETED or result.row.invalid:
                # What a full disk did to a trial says nothing about the trial.
                require_space(self.store.folder, result.row.reason)
            self.store.add_trial(work, result.row, result.parts, result.digests)
        gpus.require_returned(before)
        return result

    def _leave(self, cells: list[PlannedCell]) -> None:
        """Mark the run as stopped, and drop what this worker had begun."""
        own = [cell for cell in cells if not self.store.is_held(cell.cell_id)]
        begun = {trial_id for cell in own for trial_id in cell.trial_ids}
        self.store.remove(path for path in self.store.unfinished_jobs() if path.name in begun)
        self._close()

    def _close(self) -> None:
        """Write how the run stands now, other workers considered."""
        with self.store.writing():
            with suppress(OSError):  # another worker has a trial in it
                (self.store.folder / WORK).rmdir()
            record = self.store.read_record()
            left = open_cells(self.store, record.cells)
            if not left:
                record = replace(record, state=RunState.FINISHED, finished=now())
            elif not any(self.store.is_held(cell_id) for cell_id in left):
                record = replace(record, state=RunState.INTERRUPTED)
            self.store.write_record(record)


def now() -> str:
    """This moment as a run keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
