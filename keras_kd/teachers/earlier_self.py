# SPDX-License-Identifier: Apache-2.0
"""EarlierSelf: the student as it was some steps ago teaches it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_kd.core.copying import copy_of
from keras_kd.core.taps import ForwardPass
from keras_kd.teachers.base import Teacher


class EarlierSelf(Teacher):
    """Base of the teachers that are a copy of the student.

    To write one, override `after_step` and move the copy's weights there, by
    `move_weights`. See `EMATeacher` and `LastEpochTeacher`.

    Args:
        preprocess: What turns the student's inputs into the teacher's, such
            as another view in a dict.

    Attributes:
        model: The copy, made when the teacher meets the student. A new
            student starts a new copy.

    Raises:
        ValueError: If the student cannot be copied.
    """

    can_be_stored = False

    def __init__(self, preprocess: Callable | None = None):
        self.preprocess = preprocess
        self.model = None
        self._student = None

    @property
    def supports_jit(self) -> bool:
        layers = [] if self.model is None else self.model._flatten_layers()
        return self.preprocess is None and all(x.supports_jit for x in layers)

    def bind(self, student: keras.Model) -> None:
        if student is self._student:
            return
        self.model = copy_of(student)
        self._student = student
        self._steps = keras.Variable(
            0.0, trainable=False, aggregation="only_first_replica"
        )

    def prepare(self, names: Iterable[str]) -> None:
        self._check_bound()
        self._pass = ForwardPass(self.model, names)

    def shape(self, name: str) -> tuple | None:
        return self._pass.shape(name)

    def activation_of(self, name: str) -> str | None:
        return self._pass.activation(name)

    def __call__(self, x) -> dict:
        self._check_bound()
        if self.preprocess is not None:
            x = self.preprocess(x)
        _, taps = self._pass(x, training=False)
        return taps

    def move_weights(self, move: Callable, argument) -> None:
        """Calls `move(copy, own, argument)` on each pair of variables.

        Inside the compiled step, on every replica: all have the same
        student, so each moves its own copy.

        Args:
            move: Assigns a new value to `copy`, a `tf.Variable`, from `own`,
                the student's.
            argument: A scalar tensor.
        """
        weights = self.model.weights, self._student.weights
        pairs = [(a.value, b.value) for a, b in zip(*weights, strict=True)]

        def move_all(strategy, argument):
            for copy, own in pairs:
                strategy.extended.update(copy, move, args=(own, argument))

        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            context.merge_call(move_all, args=(argument,))
            return
        for copy, own in pairs:
            move(copy, own, argument)

    def _check_bound(self):
        if self.model is None:
            raise ValueError(
                f"{type(self).__name__} has no student to follow yet. Give it "
                "to a Distiller; it cannot teach before, or be stored."
            )
