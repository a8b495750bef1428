# SPDX-License-Identifier: Apache-2.0
"""EnsembleTeacher: several teachers, one student."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import compatible
from keras_kd.teachers.base import MEMBERS
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.base import known_kind
from keras_kd.teachers.base import needs_own_pass
from keras_kd.teachers.frozen import FrozenTeacher


def mixture(members, temperature=1.0, weights=None):
    """Returns logits whose softmax at T is the mean of the members' at T.

        T * log(sum_k w_k * softmax(z_k / T))

    Probabilities are averaged, never logits: a member that is sure of itself
    would otherwise outvote the others.

    Args:
        members: Logits of shape `(batch, members, ..., classes)`.
        temperature: T > 0, a number or scalar tensor.
        weights: Tensor that sums to 1 over the members and broadcasts to
            `(batch, members, ...)`. Equal if not given.

    Returns:
        Float32 logits of shape `(batch, ..., classes)`.
    """
    members = ops.cast(members, "float32")
    if weights is None:
        weights = [1.0 / members.shape[1]] * members.shape[1]
    weights = ops.convert_to_tensor(weights, "float32")
    if len(weights.shape) == 1:
        weights = ops.expand_dims(weights, axis=0)
    while len(weights.shape) < len(members.shape):
        weights = ops.expand_dims(weights, axis=-1)
    # A member of weight 0 gets e^-87 of it: nothing, in float32, and finite.
    logs = ops.log_softmax(members / temperature)
    logs = logs + ops.log(ops.maximum(weights, 1.2e-38))
    return temperature * ops.logsumexp(logs, axis=1)


def confidence(members, labels):
    """Returns a weight per example: a member that is right counts more.

        w_k = (1 - softmax_k(CE_k)) / (K - 1),  CE_k = -log softmax(z_k)[y]

    Args:
        members: Logits of K members, `(batch, K, ..., classes)`.
        labels: Class ids of shape `(batch, ...)`. The weights are equal
            where there is no label (-1).

    Returns:
        Float32 tensor of shape `(batch, K, ...)`, of sum 1 over the members.

    Reference: https://arxiv.org/abs/2201.00007
    """
    classes, count = members.shape[-1], members.shape[1]
    at_label = ops.one_hot(ops.cast(labels, "int32"), classes)
    log_p = ops.log_softmax(ops.cast(members, "float32"))
    errors = -ops.sum(ops.expand_dims(at_label, axis=1) * log_p, axis=-1)
    return (1.0 - ops.softmax(errors, axis=1)) / (count - 1)


class EnsembleTeacher(Teacher):
    """Several teachers; the target is the mean of their probabilities.

    The mean is taken at the temperature of each loss (at 1 for a loss
    without one, and for `StandardizedTargets`). A list of models given to
    `Distiller` becomes one. Each member has its own `preprocess`, so members
    may look at different parts of a dict of inputs: one at the image and one
    at the text, for a student that sees both.

    Args:
        teachers: Keras models or teachers, all with the same classes in the
            same order (see `ClassMapping`), logits and probabilities mixed
            at will.
        weights: `None` for equal ones; a number per teacher, scaled to the
            sum 1; or `"confidence"`, which weighs each example's teachers by
            how right they are on its label (CA-MKD), and equally where there
            is none. The authors' code also divides the loss by the number K
            of teachers: their weight a is a / K here.

    Raises:
        ValueError: If there is no teacher, weights do not fit, classes
            differ, or what a teacher ends in is not known.

    Example:

    ```python
    both = kd.teachers.EnsembleTeacher([teacher, big_model], "confidence")
    distiller = kd.Distiller(both, student)
    ```

    Reference: https://arxiv.org/abs/2201.00007 (the weights)
    """

    activation = "linear"
    can_be_stored = False  # the mean depends on the temperature

    def __init__(
        self, teachers: Iterable, weights: str | Sequence[float] | None = None
    ):
        self.teachers = [
            t if isinstance(t, Teacher) else FrozenTeacher(t) for t in teachers
        ]
        self.weights = weights
        _check_weights(weights, len(self.teachers))

    @property
    def label_aware(self) -> bool:
        return isinstance(self.weights, str)

    @property
    def supports_jit(self) -> bool:
        return all(teacher.supports_jit for teacher in self.teachers)

    @property
    def models(self) -> tuple:
        return tuple(m for teacher in self.teachers for m in teacher.models)

    @property
    def binary(self) -> bool:
        shape = self.shape("output")
        one_unit = shape is not None and shape[-1] == 1
        return one_unit or "units" in self._over()

    def kind_of(self, name: str) -> OutputKind:
        over = "units" if self.binary else next(iter(self._over()), None)
        forms = {t.kind_of("output").form for t in self.teachers}
        return OutputKind("linear" if forms == {"linear"} else "logits", over)

    def _over(self) -> set:
        """Returns what the members are known to be over."""
        kinds = [teacher.kind_of("output") for teacher in self.teachers]
        return {kind.over for kind in kinds} - {None}

    def bind(self, student: keras.Model) -> None:
        for teacher in self.teachers:
            teacher.bind(student)

    def prepare(self, names: Iterable[str]) -> None:
        super().prepare(names)
        self.teachers = [t.ready_for(["output"]) for t in self.teachers]
        for teacher in self.teachers:
            needs_own_pass(teacher)
        kinds = [known_kind(teacher) for teacher in self.teachers]
        shapes = [teacher.shape("output") for teacher in self.teachers]
        over = {kind.over for kind in kinds}
        if {"classes", "units"} <= over or not all(
            compatible(self.shape("output"), shape) for shape in shapes
        ):
            raise ValueError(
                "The teachers of an ensemble must have the same classes. "
                f"Received outputs of shape {shapes}: {_words(kinds)}. "
                "Where a teacher has other classes, wrap it in "
                "kd.teachers.ClassMapping."
            )

    def shape(self, name: str) -> tuple | None:
        shapes = [teacher.shape(name) for teacher in self.teachers]
        return next((shape for shape in shapes if shape is not None), None)

    def after_step(self) -> None:
        for teacher in self.teachers:
            teacher.after_step()

    def combine(
        self,
        members: Tensor,
        temperature: ScalarLike,
        labels: Tensor | None = None,
    ) -> Tensor:
        weights = None
        if self.label_aware:
            if labels is not None:
                weights = confidence(members, labels)
        elif self.weights is not None:
            weights = np.divide(self.weights, np.sum(self.weights))
        return mixture(members, temperature, weights)

    def __call__(self, x: Arrays) -> dict:
        members = ops.stack(
            [
                output_kinds.scores(
                    teacher(x)["output"], known_kind(teacher), None
                )
                for teacher in self.teachers
            ],
            axis=1,
        )
        if self.binary:
            pairs = self.combine(output_heads.binary_to_classes(members), 1.0)
            output = pairs[..., 1] - pairs[..., 0]
        else:
            output = self.combine(members, 1.0)
        return {"output": output, MEMBERS: members}


def _words(kinds):
    return ", ".join(
        f"{kind.form} of {kind.over}" if kind.over else kind.form
        for kind in kinds
    )


def _check_weights(weights, count):
    if count == 0:
        raise ValueError(
            "An ensemble needs at least one teacher. Received: none"
        )
    if weights is None or (weights == "confidence" and count > 1):
        return
    is_list = not isinstance(weights, str) and np.shape(weights) == (count,)
    if not is_list or np.min(weights) < 0 or not 0 < np.sum(weights) < np.inf:
        raise ValueError(
            "`weights` must be None, one number per teacher (none negative, "
            "not all 0), or 'confidence' for at least two teachers. Received: "
            f"weights={weights!r} for {count} teacher(s)"
        )
