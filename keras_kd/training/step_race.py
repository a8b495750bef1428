# SPDX-License-Identifier: Apache-2.0
"""StepRace: times a model's training step under several settings."""

from __future__ import annotations

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Setting:
    """How Keras runs a training step.

    Args:
        jit_compile: Whether XLA compiles it.
        steps_per_execution: Steps that one call of the compiled function runs.
    """

    jit_compile: bool
    steps_per_execution: int

    def set_on(self, model: keras.Model) -> None:
        """Makes `model` train so, from its next `fit` on."""
        model.jit_compile = self.jit_compile
        model.steps_per_execution = self.steps_per_execution
        model.train_function = None
        model.test_function = None
        model.predict_function = None

    def __str__(self) -> str:
        xla = ", XLA" if self.jit_compile else ""
        return f"steps_per_execution={self.steps_per_execution}{xla}"


class StepRace:
    """Trains a model on a few batches, and takes it all back at the end.

    A context manager. Every timing begins at the same state: a step's
    variables are all those that its graph touches (weights, the optimizer's,
    metrics, seed generators, a following teacher's, a guard's), whoever holds
    them.

    Args:
        model: Any compiled `keras.Model`.
        dataset: Batches as `fit` takes them; repeated without end.
    """

    def __init__(self, model: keras.Model, dataset: tf.data.Dataset):
        self.model = model
        self.trace_seconds = {}
        self._dataset = dataset
        self._iterators = {}
        self._functions = {}
        self._values = []

    def __enter__(self):
        self._before = Setting(
            self.model.jit_compile, self.model.steps_per_execution
        )
        guard = getattr(self.model, "_guard", None)
        self._batch = guard and guard.batch
        self._values = [
            (variable, np.copy(variable.numpy()))
            for variable in self._variables()
        ]
        return self

    def __exit__(self, *_):
        self._put_back()
        self._before.set_on(self.model)
        if self._batch is not None:
            self.model._guard.batch = self._batch

    def enter(self, setting: Setting) -> None:
        """Traces and compiles a step, and runs it once.

        Raises:
            ValueError: If the model has layers that XLA cannot compile.
        """
        self._put_back()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said below
            setting.set_on(self.model)
        if self.model.jit_compile != setting.jit_compile:
            raise ValueError("the model does not support it")
        strategy = self.model.distribute_strategy
        batches = self._dataset.repeat().prefetch(tf.data.AUTOTUNE)
        iterator = iter(strategy.experimental_distribute_dataset(batches))
        self._iterators[setting] = iterator
        self.model.make_train_function(force=True)
        self._functions[setting] = self.model.train_function
        began = time.perf_counter()
        _wait_for(self._functions[setting](iterator))
        self.trace_seconds[setting] = time.perf_counter() - began

    def step(self, setting: Setting) -> Callable:
        """Returns the compiled step of a setting that has been entered."""
        return self._functions[setting]

    def run(self, settings: list[Setting], steps: int) -> dict:
        """Times settings in turn, every other round in reverse.

        Args:
            settings: All of them entered; the first is compared with.
            steps: Steps a round, about.

        Returns:
            `{setting: (seconds per step, times as fast as the first)}`:
            medians over rounds, the latter of ratios within a round.
        """
        seconds = {setting: [] for setting in settings}
        for number in range(ROUNDS):
            for setting in settings[:: -1 if number % 2 else 1]:
                seconds[setting].append(self.seconds(setting, steps))
        first = seconds[settings[0]]
        return {
            setting: (
                statistics.median(own),
                statistics.median(
                    a / b for a, b in zip(first, own, strict=True)
                ),
            )
            for setting, own in seconds.items()
        }

    def seconds(
        self, setting: Setting, steps: int, iterator: Any = None
    ) -> float:
        """Returns what a step takes.

        Args:
            setting: Which has been entered.
            steps: How many to take, about.
            iterator: Over other batches than the race's own.
        """
        self._put_back()
        # Keras reads the number of steps when it traces, and in its loop.
        self.model.steps_per_execution = setting.steps_per_execution
        function = self._functions[setting]
        iterator = self._iterators[setting] if iterator is None else iterator
        calls = max(1, round(steps / setting.steps_per_execution))
        began = time.perf_counter()
        for _ in range(calls):
            logs = function(iterator)
        _wait_for(logs)
        took = time.perf_counter() - began
        return took / (calls * setting.steps_per_execution)

    def _variables(self):
        """Makes the variables that wait for a first step, without one."""
        strategy = self.model.distribute_strategy
        data = strategy.experimental_distribute_dataset(self._dataset)
        batch = next(iter(data))
        # As `fit` does under a distribution strategy.
        self.model._maybe_symbolic_build(data_batch=next(iter(self._dataset)))
        step = tf.function(
            lambda batch: strategy.run(self.model.train_step, (batch,)),
            autograph=False,
        )
        return step.get_concrete_function(batch).graph.variables

    def _put_back(self):
        for variable, value in self._values:
            variable.assign(value)


def replayed(batches: list, spec: Any) -> tf.data.Dataset:
    """Returns batches held in memory as a data set.

    Args:
        batches: One or more structures of tensors.
        spec: `element_spec` of the data set that they come from: the step is
            traced for the same shapes, an unknown batch size included.
    """
    dataset = tf.data.Dataset.from_tensors(batches[0])
    for batch in batches[1:]:
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors(batch))

    def relaxed(*batch):
        batch = batch if isinstance(spec, tuple) else batch[0]
        return tf.nest.map_structure(_with_shape_of, batch, spec)

    return dataset.map(relaxed).cache()


def _with_shape_of(tensor, spec):
    if not isinstance(spec, tf.TensorSpec):
        return tensor
    return tf.compat.v1.placeholder_with_default(tensor, spec.shape)


def _wait_for(logs):
    for value in tf.nest.flatten(logs):
        np.asarray(value)
