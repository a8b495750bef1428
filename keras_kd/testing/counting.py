# SPDX-License-Identifier: Apache-2.0
"""Counts real executions, inside compiled steps too.

A counter in Python would count traces. These are variables that the step
itself increments, so they also count under `tf.function` and XLA.
"""

from __future__ import annotations

import contextlib
import functools

import keras
import tensorflow as tf

from keras_kd import teachers
from keras_kd.teachers import Teacher
from keras_kd.teachers.base import passed_on


class CountingTeacher(Teacher):
    """Passes everything on to a teacher and counts how often it is asked."""

    supports_jit = passed_on("supports_jit")
    can_be_stored = passed_on("can_be_stored")
    models = passed_on("models")
    binary = passed_on("binary")
    label_aware = passed_on("label_aware")
    student_tap = passed_on("student_tap")
    after_step = passed_on("after_step")
    combine = passed_on("combine")
    shape = passed_on("shape")
    activation_of = passed_on("activation_of")
    kind_of = passed_on("kind_of")

    def __init__(self, teacher):
        self.teacher = teachers.get(teacher)
        self._traces: list = []  # shared with the copy that is asked
        self._calls = tf.Variable(0, trainable=False)

    @property
    def traces(self) -> int:
        """How often it was traced, or asked eagerly."""
        return len(self._traces)

    @property
    def calls(self) -> int:
        """How many batches it has answered."""
        return int(self._calls)

    def bind(self, student):
        self.teacher.bind(student)

    def prepare(self, names):
        self.teacher = self.teacher.ready_for(names)

    def __getattr__(self, name):
        # Whatever else the teacher offers, such as a hook of its own.
        if name == "teacher":
            raise AttributeError(name)
        return getattr(self.teacher, name)

    def __call__(self, x):
        self._traces.append(None)
        self._calls.assign_add(1)
        return self.teacher(x)


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
