# SPDX-License-Identifier: Apache-2.0
"""Importance: which hyperparameters the objective seems to depend on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import TrialRecord

FEWEST = 8
# Of 100 searches over pure noise, about 5 reach it, at 8 to 30 trials.
LEAST_R2 = 0.1
# What acts by its ratio: from 1 to 2 is as far as from 4 to 8.
LOGARITHMIC = ("temperature", "learning_rate")
METHOD = (
    "Permutation importance in a random forest (scikit-learn) that predicts "
    "the rank of a trial from its settings, as a share of the total."
)


@dataclasses.dataclass(frozen=True)
class Importance:
    """A hint at what mattered, and how far to believe it.

    Args:
        shares: Hyperparameter to its share, adding up to 1, largest first;
            empty if none can be claimed.
        trials: How many trials it rests on.
        r2: Out-of-bag R2 of the forest: 1 if it predicts trials it has not
            seen, 0 or less if it explains nothing; `None` if none was
            fitted. Below 0.1 nothing is claimed.
    """

    shares: dict[str, float]
    trials: int
    r2: float | None = None

    def __str__(self):
        if self.trials < FEWEST:
            return (
                f"No importance: it takes {FEWEST} finished trials. "
                f"So far: {self.trials}."
            )
        if self.r2 is None:
            return (
                f"No importance: over {self.trials} trials the settings or "
                "the objective did not vary."
            )
        if not self.shares:
            return (
                f"No importance: over {self.trials} trials the settings do "
                "not explain the objective (out-of-bag R2 of a random "
                f"forest {self.r2:.2f}), so the differences may be chance."
            )
        return (
            f"A hint, not a proof: {METHOD} It rests on {self.trials} trials; "
            f"out-of-bag R2 is {self.r2:.2f} (1: the forest predicts trials "
            "it has not seen; 0: it explains nothing; of searches over pure "
            f"noise, about 1 in 20 reaches {LEAST_R2})."
        )


def importance(rows: Sequence[TrialRecord]) -> Importance:
    """Estimates how much each hyperparameter moved the objective.

    A random forest learns the rank of a trial from its settings (the rank,
    as one diverged trial would drown the others); then each setting is
    shuffled among the trials, and what that costs the forest is the
    setting's importance. Searches sample unevenly and trials are few, so
    it is a hint. Nothing is claimed where the forest does not predict the
    trials that it has not seen.

    Reference:
        Breiman, "Random Forests", 2001, section 10.
    """
    rows = [row for row in rows if row.counts and row.name != CONTROL]
    if len(rows) < FEWEST:
        return Importance({}, len(rows))
    names, settings = encode(rows)
    values = stats.rankdata([row.objective for row in rows])
    if not names or np.ptp(values) == 0:
        return Importance({}, len(rows))

    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    forest = RandomForestRegressor(100, oob_score=True, random_state=0)
    forest.fit(settings, values)
    r2 = float(forest.oob_score_)
    if r2 < LEAST_R2:
        return Importance({}, len(rows), r2)
    found = permutation_importance(
        forest, settings, values, n_repeats=10, random_state=0
    ).importances_mean
    found = np.maximum(found, 0.0)
    if not found.any():
        return Importance({}, len(rows), r2)
    shares = {
        names[index]: float(found[index] / found.sum())
        for index in found.argsort()[::-1]
    }
    return Importance(shares, len(rows), r2)


def encode(rows: Sequence[TrialRecord]) -> tuple[list[str], np.ndarray]:
    """Returns the settings that vary, as a table of numbers.

    Numbers stay numbers (the logarithm for what acts by its ratio), choices
    become their rank. A setting that a trial lacks is NaN. The table has a
    row for each trial.
    """
    names = dict.fromkeys(name for row in rows for name in row.settings)
    columns = {}
    for name in names:
        column = _column(name, [row.settings.get(name) for row in rows])
        if len(set(column)) > 1:
            columns[name] = column
    table = np.array(list(columns.values()), float).reshape(-1, len(rows))
    return list(columns), table.T


def _column(name: str, values: list[Any]) -> list[float]:
    present = [value for value in values if value is not None]
    if not all(isinstance(value, (int, float)) for value in present):
        ranks = sorted({repr(value) for value in present})
        values = [v if v is None else ranks.index(repr(v)) for v in values]
        is_log = False
    else:
        is_log = name in LOGARITHMIC and min(present) > 0
    number = math.log if is_log else float
    return [math.nan if value is None else number(value) for value in values]
