# SPDX-License-Identifier: Apache-2.0
"""unchanged(): trains a model for a look, and takes it all back."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import tensorflow as tf


@contextlib.contextmanager
def unchanged(model: keras.Model, batches: tf.data.Dataset):
    """A block that may train a compiled model, which ends as it began.

    The variables are all those that the graph of a step touches (weights,
    the optimizer's, metrics, seed generators, a following teacher's, those
    of the step's checks), whoever holds them.

    Args:
        model: Any compiled `keras.Model`.
        batches: What the block trains on.

    Raises:
        ValueError: If the model is not compiled, or runs eagerly.
    """
    if not model.compiled or model.run_eagerly:
        raise ValueError(
            "Only a compiled step can be measured. Call `compile` of model "
            f"'{model.name}' first, without run_eagerly=True."
        )
    strategy, guard = model.distribute_strategy, getattr(model, "_guard", None)
    settings = model.jit_compile, model.steps_per_execution
    number = guard and guard.batch
    # As `fit` does under a distribution strategy.
    model._maybe_symbolic_build(data_batch=next(iter(batches)))
    step = tf.function(
        lambda batch: strategy.run(model.train_step, (batch,)), autograph=False
    )
    batch = next(iter(strategy.experimental_distribute_dataset(batches)))
    variables = step.get_concrete_function(batch).graph.variables
    values = [np.copy(variable.numpy()) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        model.jit_compile, model.steps_per_execution = settings
        model.train_function = None
        if guard:
            guard.batch = number
