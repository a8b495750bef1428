# SPDX-License-Identifier: Apache-2.0
"""CustomLoops: the loss of a batch, for training loops of one's own."""

from __future__ import annotations

import tensorflow as tf


class CustomLoops:
    """Gives a model that distils a `compute_loss` that holds the distillation.

    In Keras `compute_loss` sees only the prediction, which a distillation
    loss between layers cannot be computed from. So Keras' own steps use
    `_compute_loss`, the student's loss, and the public method runs teacher
    and student itself, by `_total_loss(x, y, sample_weight)`.
    """

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the loss that training minimises, distillation included.

        For a training loop of your own: it runs the teacher and the student
        on `x`, so `y_pred` is left out. Take `warm_up_steps` into account by
        stepping `distiller.optimizer`, and call
        `distiller.teacher.after_step()` after a step if the teacher follows
        the student. Eager loops learn of bad labels and targets by an error;
        compiled ones do not.

        Args:
            x: Inputs of a batch, with attached targets if there are any.
            y: Labels, or `None`.
            y_pred: Only with `training=False`: what the student answered.
            sample_weight: As in `fit`.
            training: `False` for what `evaluate` reports, the student's loss
                alone.

        Raises:
            ValueError: If `y_pred` is given with `training=True`.

        Example:

        ```python
        with tf.GradientTape() as tape:
            loss = distiller.compute_loss(x, y)
        weights = distiller.trainable_weights
        distiller.optimizer.apply(tape.gradient(loss, weights), weights)
        ```
        """
        if not training:
            if y_pred is None:
                y_pred = self(x, training=False)
            return self._compute_loss(x, y, y_pred, sample_weight, False)
        if y_pred is not None:
            raise ValueError(
                "compute_loss cannot tell the distillation from a prediction "
                "alone: it runs teacher and student itself. Write "
                f"{self.name}.compute_loss(x, y), without y_pred, or "
                "training=False for the student's loss alone."
            )
        loss = self._total_loss(x, y, sample_weight)
        if tf.executing_eagerly():
            self._guard.raise_if_tripped(1)
        return loss
