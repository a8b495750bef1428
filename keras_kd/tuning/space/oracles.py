# SPDX-License-Identifier: Apache-2.0
"""KerasTuner's oracles: they propose settings and learn how those went."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_kd.tuning.trials.trial_record import TrialRecord

TUNERS = ("bayesian", "random", "hyperband", "grid")


def make_oracle(
    tuner: str,
    objective: keras_tuner.Objective,
    trials: int,
    seed: int,
    epochs: int,
    hyperparameters: keras_tuner.HyperParameters,
    ahead: int = 1,
) -> keras_tuner.Oracle:
    """Returns a new oracle that proposes at most `trials`.

    The same seed proposes the same. Hyperband's longest trial has `epochs`.
    `ahead` trials are proposed before the first of them is told.
    """
    check_tuner(tuner)
    common = {
        "objective": objective,
        "hyperparameters": hyperparameters,
        "seed": seed + 1,  # KerasTuner takes 0 for "any"
    }
    if tuner == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(
            max_epochs=epochs, hyperband_iterations=10**6, **common
        )
        oracle.max_trials = trials
        return oracle
    common["max_trials"] = trials
    if tuner == "random":
        return keras_tuner.oracles.RandomSearchOracle(**common)
    if tuner == "grid":
        return keras_tuner.oracles.GridSearchOracle(**common)
    # By itself it counts numbers that are fixed, too, and tries at random
    # for longer.
    kinds = [type(hp).__name__ for hp in hyperparameters.space]
    open_ones = len(kinds) - kinds.count("Fixed")
    return keras_tuner.oracles.BayesianOptimizationOracle(
        num_initial_points=max(2, 3 * open_ones + 1 - ahead), **common
    )


def check_tuner(tuner: str) -> None:
    """Raises a `ValueError` unless it names an oracle."""
    if tuner not in TUNERS:
        raise ValueError(
            f"`tuner` must be one of {TUNERS}. Received: tuner={tuner!r}"
        )


def propose(oracle: keras_tuner.Oracle) -> Trial | None:
    """Returns the next trial; `None` if there is none, or none as yet."""
    if len(oracle.trials) >= oracle.max_trials:
        return None
    with warnings.catch_warnings():
        # Scikit-learn says of each small Gaussian process that it could fit
        # still better.
        warnings.filterwarnings("ignore", module="sklearn")
        if isinstance(oracle, keras_tuner.oracles.BayesianOptimizationOracle):
            _begin_anew(oracle)
        trial = oracle.create_trial(f"proposed-{len(oracle.trials)}")
    if trial.status != "RUNNING":
        return None
    if len(oracle.trials) == 1:
        _start_from_defaults(oracle, trial)
    return trial


def _begin_anew(oracle):
    """Makes a proposal depend on the trials alone, and on nothing unsaved."""
    seed = [oracle.seed, len(oracle.trials)]
    oracle._random_state = np.random.RandomState(seed)
    oracle.gpr = oracle._make_gpr()
    trials = oracle.trials
    ended = {k: v for k, v in trials.items() if v.status == "COMPLETED"}
    if len(ended) >= oracle.num_initial_points:
        # What trials under way will be worth is guessed by this fit.
        oracle.trials = ended
        oracle.gpr.fit(*oracle._vectorize_trials())
        oracle.trials = trials


def quiet(oracle: keras_tuner.Oracle) -> keras_tuner.Oracle:
    """The study keeps and prints; the oracle only proposes."""
    oracle.verbose = 0
    oracle.save = oracle._save_trial = lambda *_: None
    # Counted by the search, which tells what failed.
    oracle.max_consecutive_failed_trials = float("inf")
    return oracle


def state_of(oracle: keras_tuner.Oracle) -> dict[str, Any]:
    """Returns all that an oracle knows, as JSON values, for `restore`."""
    state = oracle.get_state()
    state["tried_so_far"] = sorted(state["tried_so_far"])
    state["trials"] = [trial.get_state() for trial in oracle.trials.values()]
    if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        links = oracle._ordered_ids
        pairs = list(links._next_index.items())
        state["order"] = [links._memory, pairs, links._last_index]
        state["populate_next"] = oracle._populate_next
    return state


def restore(oracle: keras_tuner.Oracle, state: dict[str, Any]) -> None:
    """Gives a new oracle what another one knew."""
    trials = map(Trial.from_state, state["trials"])
    oracle.trials = {trial.trial_id: trial for trial in trials}
    oracle.set_state(state)
    if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        links = oracle._ordered_ids
        links._memory, pairs, links._last_index = state["order"]
        links._next_index.update(pairs)
        links._data_to_index = {v: k for k, v in enumerate(links._memory)}
        oracle._populate_next = state["populate_next"]


def _start_from_defaults(oracle, trial):
    """The first trial tries what a user would without a search."""
    space = trial.hyperparameters
    if not any(name.startswith("tuner/") for name in space.values):
        space.values = {
            hp.name: hp.default for hp in space.space if space.is_active(hp)
        }
        oracle._record_values(trial)


def tell(
    oracle: keras_tuner.Oracle,
    hyperparameters: keras_tuner.HyperParameters,
    row: TrialRecord,
) -> None:
    """Tells the oracle how a trial ended."""
    trial = oracle.trials[row.name]
    trial.hyperparameters = hyperparameters
    if row.counts:
        name = oracle.objective.name
        for epoch, value in enumerate(row.history[name]):
            if math.isfinite(value):
                oracle.update_trial(trial.trial_id, {name: value}, step=epoch)
        trial.status = "COMPLETED"
    else:
        trial.status, trial.message = "FAILED", row.message
    oracle.end_trial(trial)
