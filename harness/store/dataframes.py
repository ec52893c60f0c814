"""A run's tables as pandas frames, for people's own analysis."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from harness.records import (
    ImportedFigure,
    ImportedStep,
    PairRow,
    ParityRow,
    StepRow,
    TelemetryRow,
    TrialRow,
)
from harness.store.schema import SCHEMA_VERSION, units_of

if TYPE_CHECKING:
    import pandas as pd


class Frames:
    """The tables of a run as pandas frames; maps are dicts, units are in ``attrs``."""

    def __init__(self, read_table: Callable[[type], pa.Table]) -> None:
        """Read each table when asked for it."""
        self._read_table = read_table

    def steps(self) -> "pd.DataFrame":
        """A row per AR step and rank."""
        return self._frame(StepRow)

    def telemetry(self) -> "pd.DataFrame":
        """A row per reading of a GPU."""
        return self._frame(TelemetryRow)

    def trials(self) -> "pd.DataFrame":
        """A row per process launch."""
        return self._frame(TrialRow)

    def pairs(self) -> "pd.DataFrame":
        """A row per judged cell."""
        return self._frame(PairRow)

    def parity(self) -> "pd.DataFrame":
        """A row per compared AR step."""
        return self._frame(ParityRow)

    def imported_steps(self) -> "pd.DataFrame":
        """A row per AR step of a log that was made elsewhere; never one that was measured here."""
        return self._frame(ImportedStep)

    def imported_figures(self) -> "pd.DataFrame":
        """A row per published figure that was brought in."""
        return self._frame(ImportedFigure)

    def _frame(self, row_type: type) -> "pd.DataFrame":
        frame = self._read_table(row_type).to_pandas(maps_as_pydicts="strict")
        frame.attrs = {"schema": SCHEMA_VERSION, "units": units_of(row_type)}
        return frame
