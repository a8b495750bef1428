# SPDX-License-Identifier: Apache-2.0
"""LastEpochTeacher: the student of one epoch ago teaches it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_kd.teachers.earlier_self import EarlierSelf


class LastEpochTeacher(EarlierSelf):
    """The student as it was at the end of the last epoch (PS-KD).

    No trained teacher is needed. The labels are softened by what the student
    itself said an epoch ago, more for the examples it finds hard: a
    regulariser against overconfidence, for students without a bigger model
    to learn from. It costs one inference pass a step and one copy of the
    weights.

    The paper's target in epoch t of n is `(1 - a_t) y + a_t p_(t-1)` with
    `a_t = 0.8 t / n`, and y alone in the first epoch, which has no last one:
    `SoftTargets(1.0)` and `kd.callbacks.progressive(0.8, n)` for alpha.

    The authors keep what the student said of each example while it trained
    (dropout on, weights of that step, the augmented image of that epoch).
    Here the student of the epoch's end answers, in inference mode, on the
    image at hand: steadier answers, for one more pass.

    To resume, set `distiller.teacher = LastEpochTeacher(...)` on a distiller
    that was saved at the end of an epoch: the copy starts there.

    Args:
        steps_per_epoch: Training steps after which the copy is renewed:
            `ceil(examples / batch_size)` for the epochs of `fit`.
        preprocess: What turns the student's inputs into the teacher's, such
            as another view in a dict.

    Attributes:
        model: The student of the last epoch: a copy, made when the teacher
            meets it. A new student starts a new copy.

    Raises:
        ValueError: If `steps_per_epoch` is not a positive integer, or the
            student cannot be copied.

    Example:

    ```python
    last_epoch = kd.teachers.LastEpochTeacher(steps_per_epoch=2)
    distiller = kd.Distiller(last_epoch, student, temperature=1.0, alpha=0.0)
    distiller.compile("adam", loss=cross_entropy)
    rising = kd.callbacks.progressive(0.8, epochs=3)
    schedule = kd.callbacks.Schedule("alpha", rising)
    distiller.fit(x, y, batch_size=24, epochs=3, callbacks=[schedule])
    ```

    Reference: https://arxiv.org/abs/2006.12000
    """

    def __init__(
        self, steps_per_epoch: int, preprocess: Callable | None = None
    ):
        super().__init__(preprocess)
        is_count = isinstance(steps_per_epoch, int) and steps_per_epoch >= 1
        if not is_count or isinstance(steps_per_epoch, bool):
            raise ValueError(
                "`steps_per_epoch` must be a positive integer, such as "
                "ceil(examples / batch_size). "
                f"Received: steps_per_epoch={steps_per_epoch!r}"
            )
        self.steps_per_epoch = steps_per_epoch

    def after_step(self) -> None:
        steps = self._steps.assign_add(1.0)
        is_end = tf.equal(steps, self.steps_per_epoch)
        self._steps.assign(tf.where(is_end, 0.0, steps))
        self.move_weights(_renew, is_end)


def _renew(copy, own, is_end):
    def renew():
        copy.assign(tf.convert_to_tensor(own))
        return True

    tf.cond(is_end, renew, lambda: False)
