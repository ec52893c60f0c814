"""A run's tables as pandas dataframes, for people's own analysis."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.imported_records import ImportedFigure, ImportedStep
from harness.records import PairRow, ParityRow, StepRow, TelemetryRow, TrialRow
from harness.store.run import Store, open_run
from harness.store.schema import units_of
from harness.store.version import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd


class Dataframes:
    """The tables of a run as pandas dataframes; maps are dicts, units are in ``attrs``."""

    def __init__(self, store: Store) -> None:
        """Read each table when asked for it."""
        self._store = store

    def steps(self) -> "pd.DataFrame":
        """A row per AR step and rank."""
        return self._dataframe(StepRow)

    def telemetry(self) -> "pd.DataFrame":
        """A row per reading of a GPU."""
        return self._dataframe(TelemetryRow)

    def trials(self) -> "pd.DataFrame":
        """A row per process launch."""
        return self._dataframe(TrialRow)

    def pairs(self) -> "pd.DataFrame":
        """A row per judged cell."""
        return self._dataframe(PairRow)

    def parity(self) -> "pd.DataFrame":
        """A row per compared AR step."""
        return self._dataframe(ParityRow)

    def imported_steps(self) -> "pd.DataFrame":
        """A row per AR step of a log that was made elsewhere; never one that was measured here."""
        return self._dataframe(ImportedStep)

    def imported_figures(self) -> "pd.DataFrame":
        """A row per published figure that was brought in."""
        return self._dataframe(ImportedFigure)

    def _dataframe(self, row_type: type) -> "pd.DataFrame":
        table = self._store.read_table(row_type)
        dataframe = table.to_pandas(maps_as_pydicts="strict")
        dataframe.attrs = {"schema": SCHEMA_VERSION, "units": units_of(row_type)}
        return dataframe


def open_store(folder: Path | str) -> Dataframes:
    """Open a run for analysis.

    Raises:
        UsageFault: It is no run.
        IntegrityFault: A file is missing or was altered.
    """
    store = open_run(Path(folder))
    store.verify()
    return Dataframes(store)
