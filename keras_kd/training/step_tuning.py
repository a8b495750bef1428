# SPDX-License-Identifier: Apache-2.0
"""How many steps of a training run together, by measurement."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core import interleaved_timing as timing
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.progress import say
from keras_kd.core.type_aliases import Examples
from keras_kd.data.splits import Data
from keras_kd.data.splits import first_batches
from keras_kd.training.unchanged import unchanged

BATCHES, ROUNDS, FASTER = 4, 3, 1.03


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What `fastest_step` found; printed, one line.

    Args:
        jit_compile: Whether XLA is to compile the step.
        steps_per_execution: Steps that one call of it is to run.
        speedups: Setting to how many times as fast as the model's own it is.
        left_out: What could not be measured, and why.

    Example:

    ```python
    kd.StepSettings(jit_compile=False, steps_per_execution=16).apply(student)
    ```
    """

    jit_compile: bool
    steps_per_execution: int
    speedups: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def apply(self, model: keras.Model) -> None:
        """Makes a compiled model train so, from its next `fit` on."""
        _set(model, self.jit_compile, self.steps_per_execution)
        model._steps_given = True  # a distiller's `fit` leaves it as it is

    def __str__(self) -> str:
        name = _name(self.jit_compile, self.steps_per_execution)
        found = ", ".join(f"{k} {v:.2f}x" for k, v in self.speedups.items())
        return "; ".join([f"step: {name} ({found})", *self.left_out])


def fastest_step(
    model: keras.Model,
    data: Data | Examples,
    batch_size: int = 32,
    candidates: Iterable[int] | None = None,
    steps: int = 32,
    exact: bool = True,
    verbose: bool = True,
) -> StepSettings:
    """Measures which settings make a model's training step fastest here.

    It trains on a few batches under each and puts all back, from weights to
    random state; the model's own is chosen unless another is 3 % faster. More
    steps per execution call the batch hooks of callbacks once for all, and
    Keras rounds `steps_per_epoch` up to a multiple of them.

    Args:
        model: A compiled `keras.Model`: a student, `Distiller`, ...
        data: What `fit` is given, or `Data`. A data set is begun once: where
            it is shuffled anew each time, give a second one made alike.
        batch_size: Samples in a step, where `data` holds arrays.
        candidates: Values of `steps_per_execution`; 1, 8 and 32 by default.
        steps: Steps in each of the rounds of a measurement.
        exact: Whether to leave out XLA, which rounds the last bits otherwise.
        verbose: Whether to print what was found.

    Example:

    ```python
    kd.fastest_step(student, (x, y), batch_size=16).apply(student)
    ```
    """
    numbers = (1, 8, 32) if candidates is None else tuple(candidates)
    if min(steps, *numbers) < 1:
        raise ValueError(
            "`steps` and each of `candidates` must be at least 1. Received: "
            f"steps={steps}, candidates={numbers}"
        )
    batches = first_batches(data, BATCHES, batch_size)
    own = model.jit_compile, model.steps_per_execution
    flags = own[:1] if exact else (own[0], not own[0])
    timers, left_out = {}, []
    with unchanged(model, batches):
        for one in dict.fromkeys([own, *itertools.product(flags, numbers)]):
            try:
                timers[one] = _timer(model, batches, steps, *one)
            except Exception as error:  # of any kind, from XLA
                if one == own or is_passing(error):
                    raise
                left_out.append(f"{_name(*one)} left out ({str(error)[:80]!r})")
        found = timing.medians(timing.in_turn(timers, range(ROUNDS)))
    best = max(found, key=lambda one: found[one][1])
    best = best if found[best][1] > FASTER else own
    speedups = {_name(*one): speedup for one, (_, speedup) in found.items()}
    say(chosen := StepSettings(*best, speedups, tuple(left_out)), verbose)
    return chosen


def _name(jit_compile, number):
    return f"steps_per_execution={number}{' with XLA' * jit_compile}"


def _set(model, jit_compile, number):
    model.jit_compile = jit_compile
    model.steps_per_execution = number
    for kind in ("train", "test", "predict"):
        setattr(model, f"{kind}_function", None)


def _timer(model, batches, steps, jit_compile, number):
    """Returns a function that returns the seconds of a step."""
    _set(model, jit_compile, number)
    if model.jit_compile != jit_compile:
        raise ValueError("the model does not support it")
    distribute = model.distribute_strategy.experimental_distribute_dataset
    iterator = iter(distribute(batches.repeat().prefetch(tf.data.AUTOTUNE)))
    model.make_train_function(force=True)
    step, calls = model.train_function, max(1, round(steps / number))

    def run():
        model.steps_per_execution = number  # Keras reads it in its loop
        for _ in range(calls):
            logs = step(iterator)
        tf.nest.map_structure(np.asarray, logs)  # waits for them

    run()  # compiles
    return lambda _: timing.seconds_of(run) / (calls * number)
