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


class CountingTeacher(Teacher):
    """Passes everything on to a teacher and counts how often it is asked.

    Args:
        teacher: A `Teacher` or a Keras model.
    """

    def __init__(self, teacher):
        self.teacher = teachers.get(teacher)
        self.traces = 0
        self._calls = tf.Variable(0, trainable=False)

    @property
    def calls(self) -> int:
        """How many batches it has answered."""
        return int(self._calls)

    @property
    def supports_jit(self) -> bool:
        return self.teacher.supports_jit

    @property
    def can_be_stored(self) -> bool:
        return self.teacher.can_be_stored

    @property
    def models(self) -> tuple:
        return self.teacher.models

    @property
    def binary(self) -> bool:
        return self.teacher.binary

    @property
    def label_aware(self) -> bool:
        return self.teacher.label_aware

    def student_tap(self, name):
        return self.teacher.student_tap(name)

    def after_step(self):
        self.teacher.after_step()

    def combine(self, members, temperature, labels=None):
        return self.teacher.combine(members, temperature, labels)

    def bind(self, student):
        self.teacher.bind(student)

    def prepare(self, names):
        self.teacher.prepare(names)

    def shape(self, name):
        return self.teacher.shape(name)

    def activation_of(self, name):
        return self.teacher.activation_of(name)

    def __getattr__(self, name):
        # Whatever else the teacher offers, such as a hook of its own.
        if name == "teacher":
            raise AttributeError(name)
        return getattr(self.teacher, name)

    def __call__(self, x):
        self.traces += 1
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
