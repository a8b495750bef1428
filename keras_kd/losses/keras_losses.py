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
    `Distiller` as it is. The number is kept as Keras computes it:

    - Keras' own two losses, of a loss function of Keras' own, are evaluated
      on one example at a time, which gives them what they lack in Keras:
      sample weights, masks and one value per example.
    - A loss of your own, or around a function of your own, is evaluated on
      the whole batch, whose examples it may compare. All examples then have
      its value, and a sample weight counts by its mean only.
    - `LogitsDistillation(loss=keras.losses.KLDivergence())` is Hinton's loss;
      it gets logits, also of models that end in a softmax.
    - `LogitsDistillation` with any other loss, its default `"kl_divergence"`
      among them, applies it to what the models give, without softmax or T^2:
      a warning says so. Of models that end in logits the KL of raw logits is
      no distance at all. Teacher and student must end alike.

    Args:
        loss: A `keras.distillation.LogitsDistillation`,
            `FeatureDistillation` or a `DistillationLoss` of your own whose
            `compute_loss` returns a scalar; for models with one output.
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
        on_scores = isinstance(loss, keras.distillation.LogitsDistillation)
        self.logits = on_scores and isinstance(inner, keras.losses.KLDivergence)
        if on_scores and not self.logits:
            warnings.warn(
                "keras.distillation.LogitsDistillation applies "
                f"{getattr(inner, '__name__', inner)!r} to raw outputs: no "
                "softmax and no T^2. For Hinton's loss pass "
                "loss=keras.losses.KLDivergence(), or use "
                "keras_kd.losses.SoftTargets.",
                stacklevel=2,
            )
        for side in ("teacher", "student"):
            layer = getattr(loss, f"{side}_layer_name", None)
            kwargs.setdefault(side, layer or "output")
        super().__init__(**kwargs)
        self.loss = loss

    @property
    def as_given(self) -> bool:
        """Whether it compares the models' outputs as they are."""
        return not self.logits and {self.teacher, self.student} == {"output"}

    def call(self, y_true, y_pred):
        if not _knows_examples(self.loss):
            value = ops.convert_to_tensor(
                self.loss.compute_loss(y_true, y_pred)
            )
            if len(value.shape):
                raise ValueError(
                    f"{type(self.loss).__name__}.compute_loss must return a "
                    "scalar, as in Keras. Received: a tensor of shape "
                    f"{tuple(value.shape)}. For one value per example write "
                    "a kd.losses.DistillationLoss."
                )
            return ops.broadcast_to(value, ops.shape(y_pred)[:1])

        def of_example(pair):
            teacher, student = (ops.expand_dims(t, 0) for t in pair)
            return self.loss.compute_loss(teacher, student)

        return ops.vectorized_map(of_example, (y_true, y_pred))


def _knows_examples(loss) -> bool:
    """Whether a batch's loss is known to be the mean of its examples'.

    Known of Keras' two distillation losses around Keras' own functions.
    """
    inner = getattr(loss, "loss", None)
    function = getattr(inner, "fn", inner)
    sources = (loss, inner, function)
    return all(
        (getattr(each, "__module__", None) or "").startswith("keras.")
        for each in sources
    )
