# SPDX-License-Identifier: Apache-2.0
"""Settings of a recipe: the arguments of compress, and the teacher's own."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

from keras_kd.core.arguments import did_you_mean

OF_TEACHER: dict[str, Any] = {
    "teacher_epochs": 20,
    "teacher_learning_rate": 1e-3,
}
"""How a recipe's teacher is trained."""

DEFAULT_SETTINGS: dict[str, Any] = {
    **OF_TEACHER,
    "temperature": None,
    "alpha": 0.7,
    "distillation_losses": None,
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "optimizer": None,
    "callbacks": (),
    "loss": None,
    "loss_weights": None,
    "metrics": None,
    "augment": None,
    "task": None,
    "headline": None,
    "seeds": (0, 1, 2),
    "control": True,
    "prune": 0.5,
    "prune_epochs": 10,
    "formats": ("saved_model", "tflite"),
    "quantize": None,
    "tolerance": None,
    "head": None,
    "preprocess": None,
    "dry_run": True,
    "workers": 1,
    "engine": None,
}
"""What a recipe's `settings` may set, and what holds where it does not: the
arguments of `compress` by their names, and how the teacher is trained."""

RENAMED = {"student_epochs": "epochs", "sparsity": "prune"}
"""Settings that have the name of an argument now, by their old name."""


def settings_of(recipe: ModuleType, **changes: Any) -> dict[str, Any]:
    """Returns a recipe's settings, with the defaults where it has none.

    Args:
        recipe: What `load` returned.
        **changes: Settings that go before the recipe's own.

    Raises:
        ValueError: If `settings` is no dict, or a key is unknown.
    """
    if not isinstance(recipe.settings, dict):
        raise ValueError(
            f"`settings` of the recipe {recipe.__file__} must be a dict. "
            f"Received: {recipe.settings!r}"
        )
    chosen = {**_named_now(recipe.settings), **_named_now(changes)}
    for key in chosen:
        if key not in DEFAULT_SETTINGS:
            raise ValueError(
                f"Unknown setting {key!r} for the recipe "
                f"{recipe.__file__}.{did_you_mean(key, DEFAULT_SETTINGS)} "
                f"Expected any of {sorted(DEFAULT_SETTINGS)}."
            )
    return {**DEFAULT_SETTINGS, **chosen}


def _named_now(settings):
    for old in set(settings) & set(RENAMED):
        warnings.warn(
            f"The setting `{old}` is now called `{RENAMED[old]}`, like the "
            f"argument of compress. Received: {old}={settings[old]!r}",
            FutureWarning,
            stacklevel=4,
        )
    return {RENAMED.get(key, key): value for key, value in settings.items()}
