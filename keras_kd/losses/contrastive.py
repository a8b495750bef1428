# SPDX-License-Identifier: Apache-2.0
"""Contrastive: tells a sample's own pair of embeddings from others (CRD)."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.contrastive_memory import ContrastiveMemory
from keras_kd.losses.contrastive_memory import settings_of


def contrastive(log_ratios: Tensor) -> Tensor:
    """Returns how badly each sample's own pairs are told from others.

    Args:
        log_ratios: Float tensor of shape `(batch, 2, 1 + K)`: log r of a
            sample's own pair, then of K other pairs, in both directions.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    ```python
    kd.losses.contrastive([[[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])   # [1.62]
    ```
    """
    log_ratios = ops.cast(log_ratios, "float32")
    # The logit of h = r / (r + K) is log r - log K.
    logits = log_ratios - math.log(log_ratios.shape[-1] - 1)
    own = ops.softplus(-logits[:, :, 0])
    others = ops.sum(ops.softplus(logits[:, :, 1:]), axis=-1)
    return ops.sum(own + others, axis=1)


@keras.saving.register_keras_serializable(package="keras_kd")
class Contrastive(DistillationLoss):
    """Tells a sample's own pair of embeddings from others (CRD).

    Idea: the student's embedding of a sample should be recognisable as the
    partner of the teacher's embedding of the same sample among those of many
    other samples. Two linear heads embed both taps as unit vectors; a memory of
    earlier embeddings supplies thousands of others whatever the batch size.

        r = exp(similarity / tau) / its mean in the first batch
        h = r / (r + K): probability that a pair belongs together
        loss = -log h(own pair) - sum over K other pairs log(1 - h)
        for the student against the teacher's memory, and the reverse, added

    Shapes: taps `(batch, ..., features)` of any widths, averaged over positions
    (padding included) -> values `(batch,)`. Beside the targets the data must
    hold `"sample_index"`, which tells samples apart (see `kd.attach_targets`).
    Use it: on the features in front of the classifier, beside `SoftTargets`;
    between different architectures; where the embedding itself is used.
    Do not: without fixed sample indices (streams), on regression targets, or if
    many samples are near duplicates: all others count as different.
    Suggested: weight = 0.8 (its value starts near 20, far above the label
    loss), tau = 0.07, momentum = 0.5; the authors take 16384 negatives and as
    many rows as samples. Memory: 8 * rows * features bytes (16 MB at the
    defaults), and batch * rows floats in a step. It is saved with the
    distiller, never with the student. With fewer rows than samples, samples
    take turns in a row. Under `tf.distribute` all replicas share one memory.
    Paper: Tian et al. 2020, https://arxiv.org/abs/1910.10699

    Negatives are any other samples, so no label is needed. The authors' loader
    draws them from other classes only; with C balanced classes one in C of
    those here shares the class.

    It makes its own projector, a `ContrastiveMemory`, which holds the heads
    and the memory; `tau` and all other settings are fixed from then on.

    Args:
        teacher: Tap of the teacher, such as its pooled features.
        student: Tap of the student, likewise.
        features: Length of the embeddings.
        negatives: Other samples that each sample is compared with, K.
        memory: Samples that are remembered. With at least as many as the
            data set has, it is CRD as published.
        tau: What similarities are divided by. (A distiller's `temperature`
            belongs to its soft targets and leaves this alone.)
        momentum: Share of the old embedding where a new one is remembered.
        weight: Factor of this loss in the sum of the distillation losses.
        **kwargs: `name`, `warm_up_steps`; see `DistillationLoss`.

    Raises:
        ValueError: If a setting is out of range, or a projector is given.

    Example:

    ```python
    loss = kd.losses.Contrastive("pooled", "pooled", negatives=32, memory=48)
    distiller = kd.Distiller(teacher, student, distillation_losses=loss)
    distiller.compile("adam", cross_entropy)
    inputs = kd.attach_targets(x, {"sample_index": np.arange(len(x))})
    distiller.fit(inputs, y)
    ```
    """

    index_aware = True

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        features: int = 128,
        negatives: int = 4096,
        memory: int = 16384,
        tau: float = 0.07,
        momentum: float = 0.5,
        weight: float = 0.8,
        **kwargs,
    ):
        kwargs.setdefault("projector", "auto")
        super().__init__(teacher, student, weight, **kwargs)
        if self.projector != "auto":
            raise ValueError(
                "Contrastive makes its own projector, which holds the memory. "
                "Leave `projector` out. Received: "
                f"projector={self.projector!r}"
            )
        limits = {"features": 1, "negatives": 1, "memory": 2}
        for setting, least in limits.items():
            value = locals()[setting]
            if value != int(value) or value < least:
                raise ValueError(
                    f"`{setting}` must be an integer of at least {least}. "
                    f"Received: {setting}={value}"
                )
        if not 0.0 < tau < math.inf or not 0.0 <= momentum < 1.0:
            raise ValueError(
                "`tau` must be positive and `momentum` in [0, 1). Received: "
                f"tau={tau}, momentum={momentum}"
            )
        self.features = features
        self.negatives = negatives
        self.memory = memory
        self.tau = tau
        self.momentum = momentum

    def make_projector(
        self, teacher_shape: Shape, student_shape: Shape, name: str
    ) -> keras.layers.Layer | None:
        for shape in (teacher_shape, student_shape):
            if len(shape) < 2 or not isinstance(shape[-1], int):
                raise ValueError(
                    "Contrastive needs one tap a side, with a known number of "
                    "features: shape (batch, ..., features). Received: "
                    f"teacher '{self.teacher}' of shape {teacher_shape}, "
                    f"student '{self.student}' of shape {student_shape}."
                )
        layer = ContrastiveMemory(**settings_of(self), name=name)
        layer.build(tuple(teacher_shape), tuple(student_shape))
        return layer

    def project(
        self,
        layer: keras.layers.Layer,
        teacher: Tensor,
        student: Tensor,
        sample_index: Tensor | None = None,
    ) -> Tensor:
        return layer(teacher, student, sample_index)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        if len(student_shape) != 3 or student_shape[1] != 2:
            raise ValueError(
                "Contrastive compares the log-ratios that its projector "
                "returns, of shape (batch, 2, 1 + negatives). Received: shape "
                f"{tuple(student_shape)}"
            )

    def call(self, y_true, y_pred):
        return contrastive(y_pred)  # the teacher's part is in the ratios
