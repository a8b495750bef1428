# SPDX-License-Identifier: Apache-2.0
"""An adapter that lets the losses of `keras.distillation` work here."""

from __future__ import annotations

import warnings

import keras
from keras import ops

from keras_kd.losses.base import DistillationLoss


@keras.saving.register_keras_serializable(package="keras_kd")
class KerasDistillationLoss(DistillationLoss):
    """Wraps a `keras.distillation` loss, so that old settings keep working.

    `keras_kd.losses.get` applies it, so such a loss can be passed to
    `Distiller` as it is. The wrapped loss is evaluated on one example at a
    time, which gives it what it lacks in Keras: sample weights, masks and
    one value per example.

    Keras computes `LogitsDistillation(loss="kl_divergence")`, its default,
    on raw logits without softmax and without T^2; only
    `loss=keras.losses.KLDivergence()` is Hinton's loss. The number is kept as
    Keras computes it, with a warning.

    Args:
        loss: A `keras.distillation.LogitsDistillation` or
            `FeatureDistillation`, for models with one output.
        **kwargs: `weight`, `name`, `projector`; see `DistillationLoss`.

    Example:

    ```python
    kd.losses.get(keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="conv_4", student_layer_name="conv_2"
    ))
    ```
    """

    def __init__(self, loss: keras.distillation.DistillationLoss, **kwargs):
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise ValueError(
                "`loss` must be a keras.distillation loss. "
                f"Received: {type(loss).__name__}"
            )
        inner = getattr(loss, "loss", None)
        self.logits = isinstance(loss, keras.distillation.LogitsDistillation)
        if self.logits and not isinstance(inner, keras.losses.Loss):
            warnings.warn(
                "keras.distillation.LogitsDistillation applies "
                f"{getattr(inner, '__name__', inner)!r} to raw logits. For "
                "Hinton's loss pass loss=keras.losses.KLDivergence(), or use "
                "keras_kd.losses.SoftTargets.",
                stacklevel=2,
            )
        for side in ("teacher", "student"):
            layer = getattr(loss, f"{side}_layer_name", None)
            kwargs.setdefault(side, layer or "output")
        super().__init__(**kwargs)
        self.loss = loss

    def call(self, y_true, y_pred):
        def value(pair):
            teacher, student = (ops.expand_dims(t, 0) for t in pair)
            return self.loss.compute_loss(teacher, student)

        return ops.vectorized_map(value, (y_true, y_pred))
