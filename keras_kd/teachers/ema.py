# SPDX-License-Identifier: Apache-2.0
"""EMATeacher: the student's own moving average teaches it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf
from keras import ops

from keras_kd.scalars import Scalar
from keras_kd.taps import ForwardPass
from keras_kd.taps import check_graph
from keras_kd.teachers.base import Teacher


class EMATeacher(Teacher):
    """A moving average of the student's weights as a teacher (Mean Teacher).

        average = m * average + (1 - m) * student,  after every step

    No trained teacher is needed. The average is steadier than the student,
    so agreeing with it makes the student consistent, also on examples
    without a label. Use it with unlabelled data and a student whose passes
    differ (dropout, augmentation in the model or in `preprocess`): where both
    see the same, there is little to learn. Raise alpha from 0 over the first
    epochs (`kd.callbacks`): at the start the average knows nothing, and with
    few labels its mistakes stay. With momentum 0 the teacher is the student
    of the step before.

    The average is part of no file that the distiller writes. To resume, set
    `distiller.teacher = EMATeacher(...)` on the loaded distiller: it starts
    at the student as it is. Keep the average itself, which is often the
    better model, with `teacher.model.save(...)`, and put it back with
    `teacher.model.set_weights(...)`.

    Args:
        momentum: m in `[0, 1]`. Assignable at any time without retracing.
        warm_up: Whether the first steps use `min(m, 1 - 1 / step)`: the plain
            mean of the students so far, free of the random start.
        preprocess: What turns the student's inputs into the teacher's, such
            as another view in a dict.

    Attributes:
        model: The average: a copy of the student, made when the teacher
            meets it. A new student starts a new average.

    Raises:
        ValueError: If `momentum` is out of range, or the student has no graph
            to copy.

    Example:

    ```python
    average = kd.teachers.EMATeacher(momentum=0.99)
    distiller = kd.Distiller(average, student, alpha=0.5)
    ```

    Reference: https://arxiv.org/abs/1703.01780
    """

    can_be_stored = False
    momentum = Scalar(minimum=0.0, maximum=1.0)

    def __init__(
        self,
        momentum: float = 0.99,
        warm_up: bool = True,
        preprocess: Callable | None = None,
    ):
        self.momentum = momentum
        self.warm_up = warm_up
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
        check_graph(student)
        self.model = keras.models.clone_model(student)
        self.model.set_weights(student.get_weights())
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

    def after_step(self) -> None:
        momentum = Scalar.tensor(self, "momentum")
        if self.warm_up:
            self._steps.assign_add(1.0)
            momentum = ops.minimum(momentum, 1.0 - 1.0 / self._steps)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            for average, own in self._pairs():
                _move(average, own, momentum)
        else:
            context.merge_call(self._move_all, args=(momentum,))

    def _pairs(self):
        weights = self.model.weights, self._student.weights
        return [(a.value, s.value) for a, s in zip(*weights, strict=True)]

    def _move_all(self, strategy, momentum):
        # Every replica has the same student, so each moves its own copy.
        for average, own in self._pairs():
            strategy.extended.update(average, _move, args=(own, momentum))

    def _check_bound(self):
        if self.model is None:
            raise ValueError(
                "EMATeacher has no student to follow yet. Give it to a "
                "Distiller; it cannot teach before, or be stored."
            )


def _move(average, own, momentum):
    # Counters and the like are not averaged.
    value = tf.convert_to_tensor(own)
    if average.dtype.is_floating:
        momentum = tf.cast(momentum, average.dtype)
        value = momentum * average + (1.0 - momentum) * value
    average.assign(value)
