"""A watcher that keeps what it is told."""


class Listener:
    """A watcher that keeps what it is told, and may lose its temper at the first step."""

    def __init__(self, at_step=None):
        self.told, self._at_step = [], at_step

    def trial_started(self, trial):
        """Keep it."""
        self.told.append("started")

    def step_done(self, trial, ar, total_ms):
        """Keep the AR step, then raise if asked to."""
        self.told.append(ar)
        if self._at_step is not None:
            raise self._at_step

    def trial_ended(self, trial, row):
        """Keep the outcome."""
        self.told.append(str(row.outcome))
