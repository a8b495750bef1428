# SPDX-License-Identifier: Apache-2.0
"""EMATeacher: the student's own moving average teaches it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.teachers.earlier_self import EarlierSelf


class EMATeacher(EarlierSelf):
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

    It answers in inference mode, where the authors of Mean Teacher leave it
    in training mode: without dropout of its own, and with the averages of
    the student's batch statistics.

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
        ValueError: If `momentum` is out of range, or the student cannot be
            copied.

    Example:

    ```python
    average = kd.teachers.EMATeacher(momentum=0.99)
    distiller = kd.Distiller(average, student, alpha=0.5)
    ```

    Reference: https://arxiv.org/abs/1703.01780
    """

    momentum = Scalar(minimum=0.0, maximum=1.0)

    def __init__(
        self,
        momentum: float = 0.99,
        warm_up: bool = True,
        preprocess: Callable | None = None,
    ):
        super().__init__(preprocess)
        self.momentum = momentum
        self.warm_up = warm_up

    def after_step(self) -> None:
        momentum = Scalar.tensor(self, "momentum")
        if self.warm_up:
            self._steps.assign_add(1.0)
            momentum = ops.minimum(momentum, 1.0 - 1.0 / self._steps)
        self.move_weights(_move, momentum)


def _move(average, own, momentum):
    # Counters and the like are not averaged.
    value = tf.convert_to_tensor(own)
    if average.dtype.is_floating:
        momentum = tf.cast(momentum, average.dtype)
        value = momentum * average + (1.0 - momentum) * value
    average.assign(value)
