# SPDX-License-Identifier: Apache-2.0
"""What a search is: known again when it is called a second time."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner

from keras_kd.core.identity import identity_of_code
from keras_kd.core.stage_cache import fingerprint
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.training.settings_json import as_json
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import say_unseen
from keras_kd.tuning.space.searchable import Searched
from keras_kd.tuning.space.searchable import is_choice
from keras_kd.tuning.space.searchable import takes_hp

MOST = 256
"""Choices of losses that are looked at for the taps they want."""


def definition_of(
    targets: TeacherTargets,
    build_student: Callable,
    default_student: Callable[[], keras.Model],
    hyperparameters: keras_tuner.HyperParameters,
    space: dict[str, Any],
    *settings: Any,
) -> str:
    """Returns a sha256 of all that a search's outcome depends on.

    Not of the number of trials or of workers, which may grow. Functions are
    known by their code and what they call, see `identity`.

    Args:
        targets: The teacher and the data.
        build_student: Builds the students.
        default_student: Builds one, of the defaults.
        hyperparameters: What is searched, as KerasTuner has it.
        space: What is searched, as the user has it.
        *settings: All else, as JSON values.
    """
    # A builder without arguments is known by what it builds.
    searched = [build_student] * takes_hp(build_student)
    unseen: list[str] = []
    code = identity_of_code([space, *searched], unseen)
    say_unseen(unseen, "what is searched", targets.verbose)
    given = space
    space = {
        name: _source(value) if callable(value) else as_json(value)
        for name, value in space.items()
        if name != "task"  # where it was given it is one of `settings`
    }
    return fingerprint(
        [
            targets.fingerprint,
            fingerprint_of_builder(default_student),
            _source(build_student),
            _asked_for(hyperparameters, given.get("temperature")),
            space,
            *settings,
            *([] if code is None else [code]),
        ]
    )


def _asked_for(hyperparameters, temperature):
    """Returns the search space of KerasTuner, but for where T begins.

    Nobody asks for that: it was 4 in earlier versions, and a search that began
    there goes on.
    """
    asked = hyperparameters.get_config()["space"]
    earlier = keras_tuner.HyperParameters()
    if temperature is not None:
        Searched("temperature", temperature, 4.0).ask(earlier)
    for each in asked:
        if each["config"]["name"] == "temperature" and earlier.space:
            each["config"] |= earlier.get_config()["space"][0]["config"]
    return asked


def losses_of(distillation_losses: Any) -> list:
    """Returns all losses that a search may use, to know what they want.

    Of a function of the hyperparameters, each combination of its choices is
    tried.
    """
    found = [distillation_losses]
    if is_choice(distillation_losses):
        space = keras_tuner.HyperParameters()
        found = [distillation_losses(space)]
        choices = [
            [(hp.name, value) for value in hp.values]
            for hp in space.space
            if type(hp).__name__ in ("Boolean", "Choice")
        ]
        for values in itertools.islice(itertools.product(*choices), MOST):
            space = keras_tuner.HyperParameters()
            space.values = dict(values)
            found.append(distillation_losses(space))
    return [loss for loss in keras.tree.flatten(found) if loss is not None]


def _source(function: Callable) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return getattr(function, "__qualname__", type(function).__qualname__)
