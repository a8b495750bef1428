# SPDX-License-Identifier: Apache-2.0
"""Counts real executions, inside compiled steps too.

A counter in Python would count traces. These are variables that the step
itself increments, so they also count under `tf.function` and XLA.
"""

from __future__ import annotations

import contextlib
import copy
import functools

import keras
import tensorflow as tf

from keras_kd.teachers import Teacher


def counted(teacher: Teacher) -> tuple[Teacher, tf.Variable, list]:
    """Returns a twin of a teacher, how often it is asked, and its traces.

    A trace is an item of the list; so is a call outside of a compiled step.
    """
    calls, traces = tf.Variable(0, trainable=False), []
    kind = type(teacher)

    def call(self, x):
        traces.append(None)
        calls.assign_add(1)
        return kind.__call__(self, x)

    twin = copy.copy(teacher)
    twin.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return twin, calls, traces


@contextlib.contextmanager
def counted_layers(model: keras.Model):
    """Yields a function that returns `{layer path: executions so far}`.

    It counts layers rather than the model, since a model with taps is run
    through another model on the same layers.
    """
    counters = {}
    for layer in model._flatten_layers(include_self=False):
        if layer._layers or isinstance(layer, keras.layers.InputLayer):
            continue
        counters[layer.path] = counter = tf.Variable(0, trainable=False)
        # Past Keras' tracking of attributes.
        object.__setattr__(layer, "call", _counted(layer.call, counter))
    try:
        yield lambda: {path: int(n) for path, n in counters.items()}
    finally:
        for layer in model._flatten_layers(include_self=False):
            vars(layer).pop("call", None)


def _counted(call, counter):
    @functools.wraps(call)
    def counted(*args, **kwargs):
        counter.assign_add(1)
        return call(*args, **kwargs)

    return counted
