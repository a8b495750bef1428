# SPDX-License-Identifier: Apache-2.0
"""TrialRecord: one trial of a search, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

COMPLETED = "completed"
STOPPED = "stopped early"
FAILED = "failed"
RUNNING = "running"
CONTROL = "control"


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """What one trial was asked to do, and how it went.

    Args:
        name: `"control"` for the student without a teacher, else the number
            that KerasTuner gave the trial, as text: `"00"`, `"01"`.
        settings: Hyperparameter to value; empty for the control.
        status: `"completed"`, `"stopped early"` (by median stopping; its best
            epoch counts all the same), `"failed"` or `"running"`.
        objective: Best value over the epochs, `None` while there is none.
        history: Metric to its value after each epoch.
        seconds: Wall time of the trial.
        message: Why it failed.
    """

    name: str
    settings: dict[str, Any]
    status: str
    objective: float | None = None
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    message: str | None = None

    @property
    def epochs(self) -> int:
        return max(map(len, self.history.values()), default=0)

    @property
    def counts(self) -> bool:
        """Whether the trial has a value to compare."""
        ended = self.status in (COMPLETED, STOPPED)
        return ended and self.objective is not None


def best_of(
    rows: Sequence[TrialRecord], direction: str = "max"
) -> TrialRecord | None:
    """Returns the best trial with a teacher; the first of equals."""
    taught = [row for row in rows if row.counts and row.name != CONTROL]
    best = max if direction == "max" else min
    return best(taught, key=lambda row: row.objective, default=None)


def shown(hyperparameters: Any) -> dict[str, Any]:
    """Returns what a trial tries: not what is fixed, nor KerasTuner's notes."""
    fixed = {
        hp.name for hp in hyperparameters.space if type(hp).__name__ == "Fixed"
    }
    return {
        name: value
        for name, value in hyperparameters.values.items()
        if name not in fixed and not name.startswith("tuner/")
    }
