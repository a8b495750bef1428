# SPDX-License-Identifier: Apache-2.0
"""KerasTuner's oracles: they propose settings and learn how those went."""

from __future__ import annotations

import base64
import copy
import io
import math
import pickle
import warnings

import cloudpickle
import keras_tuner

from keras_kd.tuning.trials.trial_record import TrialRecord

TUNERS = ("bayesian", "random", "hyperband", "grid")


def make_oracle(
    tuner: str,
    objective: keras_tuner.Objective,
    trials: int,
    seed: int,
    epochs: int,
    hyperparameters: keras_tuner.HyperParameters,
) -> keras_tuner.Oracle:
    """Returns a new oracle that proposes at most `trials`.

    The same seed proposes the same. Hyperband's longest trial has `epochs`.
    """
    check_tuner(tuner)
    common = {
        "objective": objective,
        "hyperparameters": hyperparameters,
        "seed": seed + 1,  # KerasTuner takes 0 for "any"
    }
    if tuner == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(
            max_epochs=epochs, hyperband_iterations=None, **common
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
        num_initial_points=max(3, 3 * open_ones), **common
    )


def check_tuner(tuner: str) -> None:
    """Raises a `ValueError` unless it names an oracle."""
    if tuner not in TUNERS:
        raise ValueError(
            f"`tuner` must be one of {TUNERS}. Received: tuner={tuner!r}"
        )


def propose(oracle: keras_tuner.Oracle, token: str) -> keras_tuner.Trial:
    """Returns the next trial, or one whose status says that there is none."""
    with warnings.catch_warnings():
        # Scikit-learn says of each small Gaussian process that it could fit
        # still better.
        warnings.filterwarnings("ignore", module="sklearn")
        return oracle.create_trial(token)


def quiet(oracle: keras_tuner.Oracle) -> keras_tuner.Oracle:
    """The study keeps and prints; the oracle only proposes."""
    oracle.verbose = 0
    oracle.save = oracle._save_trial = _nothing
    # Counted by the workers, which tell what failed.
    oracle.max_consecutive_failed_trials = float("inf")
    return oracle


def _nothing(*_):
    """Stands under this name in what versions up to 0.1 wrote."""


def packed(oracle: keras_tuner.Oracle) -> str:
    """Returns an oracle's whole state as text, for `unpacked`."""
    plain = copy.copy(oracle)
    for name in ("save", "_save_trial"):
        plain.__dict__.pop(name, None)  # of this process; see `quiet`
    return base64.b64encode(cloudpickle.dumps(plain)).decode()


def unpacked(text: str) -> keras_tuner.Oracle:
    """Returns the oracle of `packed`."""
    content = io.BytesIO(base64.b64decode(text))
    return quiet(_OracleUnpickler(content).load())


class _OracleUnpickler(pickle.Unpickler):
    """Finds what versions up to 0.1 wrote with the oracle."""

    def find_class(self, module, name):
        if module == "keras_kd.tuning.oracles":
            module = __name__
        return super().find_class(module, name)


def start_from_defaults(oracle, trial) -> None:
    """The first trial tries what a user would without a search."""
    space = trial.hyperparameters
    if not any(name.startswith("tuner/") for name in space.values):
        space.values = {
            hp.name: hp.default for hp in space.space if space.is_active(hp)
        }
        oracle._record_values(trial)


def tell(oracle, hyperparameters, row: TrialRecord) -> None:
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
