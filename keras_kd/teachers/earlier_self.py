# SPDX-License-Identifier: Apache-2.0
"""EarlierSelf: the student as it was some steps ago teaches it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_kd.core.copying import copy_of
from keras_kd.core.type_aliases import Tensor
from keras_kd.teachers.base import ModelTeacher


class EarlierSelf(ModelTeacher):
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
        self._student: keras.Model = None

    def bind(self, student: keras.Model) -> None:
        if student is self._student:
            return
        self.model, self._pass = copy_of(student), None
        self._student = student
        self._steps = keras.Variable(
            0.0, trainable=False, aggregation="only_first_replica"
        )

    def prepare(self, names: Iterable[str]) -> None:
        if self.model is None:
            raise ValueError(
                f"{type(self).__name__} has no student to follow yet. Give it "
                "to a Distiller; it cannot teach before, or be stored."
            )
        super().prepare(names)

    def move_weights(self, move: Callable, argument: Tensor) -> None:
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
