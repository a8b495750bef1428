# SPDX-License-Identifier: Apache-2.0
"""DistillationLoss: how far a student is from its target, by example."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras
from keras import ops

from keras_kd.core.constructors import constructor_arguments
from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.projector import Projector
from keras_kd.losses.reduction import Reduction
from keras_kd.losses.reduction import to_rank_of


class DistillationLoss(keras.losses.Loss):
    """Base class of all distillation losses.

    A loss says where its tensors come from (`teacher`, `student`), what it
    weighs, and in `call(y_true, y_pred)` how far they are apart: one value
    per example, not reduced. `y_true` is the teacher's tap, `y_pred` the
    student's. Everything else is done here once: float32 arithmetic under any
    dtype policy, Keras masks, sample weights, the mean over the batch, and
    the scaling under `tf.distribute`.

    To write a loss: subclass, override `call`, keep each argument of the
    constructor under its own name, and run `keras_kd.testing.check_loss`.

    Args:
        teacher: Tap of the teacher: `"output"`, an output's or a layer's
            name, or a path into a nested model. A list of names for a loss
            between several taps; `call` then gets lists of tensors.
        student: Tap of the student, likewise.
        weight: Factor of this loss in the sum of the distillation losses.
            Assignable at any time without retracing.
        warm_up_steps: Training steps over which the weight rises linearly
            from 0; 0 for none. Papers give epochs: multiply by the steps of
            an epoch.
        projector: What brings the student's tap to the teacher's shape:
            `None`, `"auto"` (a `keras_kd.Projector` where shapes differ) or
            a Keras layer. It is trained with the student and not shipped.
        name: Key of the loss in logs. Defaults to the class name in
            snake case.
        reduction: As in Keras; `"sum_over_batch_size"` is the mean over
            examples.

    Attributes:
        logits: `True` for a loss between class scores. Its taps named
            `"output"` then arrive as float32 logits, whether the models end
            in a softmax, a sigmoid or logits (`keras_kd.core.output_heads`).
        label_aware: `True` for a loss that also needs the label; `y_true` is
            then the pair `(teacher tap, label)`.
        class_labels: Whether these labels come as class ids, not as given.
        index_aware: `True` for a loss whose `project` needs to know which
            sample of the data set each example is.
        accepts_sparse: `True` for a loss on class scores whose `y_true` may
            be a sparse target (see `keras_kd.losses.sparse`); others with
            `logits` get logits made of it.

    Example:

    ```python
    class MeanAbsolute(kd.losses.DistillationLoss):
        def call(self, y_true, y_pred):
            return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)
    ```
    """

    logits = False
    label_aware = False
    class_labels = True
    index_aware = False
    accepts_sparse = False
    weight = Scalar(minimum=0.0)

    def __init__(
        self,
        teacher: str | Sequence[str] = "output",
        student: str | Sequence[str] = "output",
        weight: float = 1.0,
        projector: ProjectorLike = None,
        name: str | None = None,
        warm_up_steps: int = 0,
        reduction: str = "sum_over_batch_size",
        dtype: str | keras.DTypePolicy | None = None,
    ):
        # Keras would number unnamed losses through the whole process, so
        # that the keys of a history depend on what ran before.
        name = name or re.sub(r"(?<=.)([A-Z])", r"_\1", type(self).__name__)
        super().__init__(name=name.lower(), reduction=reduction, dtype=dtype)
        is_layer = isinstance(projector, keras.layers.Layer)
        if projector not in (None, "auto") and not is_layer:
            raise ValueError(
                "`projector` must be None, 'auto' or a Keras layer. "
                f"Received: projector={projector!r}"
            )
        if warm_up_steps < 0:
            raise ValueError(
                "`warm_up_steps` must not be negative. "
                f"Received: warm_up_steps={warm_up_steps}"
            )
        self.teacher = _checked_tap("teacher", teacher)
        self.student = _checked_tap("student", student)
        self.weight = weight
        self.warm_up_steps = warm_up_steps
        self.projector = projector

    @property
    def taps(self) -> tuple:
        """Names of its taps: `(teacher's, student's)`, a tuple each."""
        return tuple(
            (tap,) if isinstance(tap, str) else tap
            for tap in (self.teacher, self.student)
        )

    def weight_at(self, step: Tensor) -> Tensor:
        """Returns the weight in a training step, as a scalar tensor."""
        weight = Scalar.tensor(self, "weight")
        if self.warm_up_steps:
            share = ops.cast(step, "float32") / self.warm_up_steps
            weight = weight * ops.minimum(share, 1.0)
        return weight

    def call(self, y_true, y_pred):
        raise NotImplementedError(
            f"{type(self).__name__} must override call(y_true, y_pred) and "
            "return one value per example."
        )

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the reduced loss.

        As in Keras, except that a weight of shape `(batch,)` also weighs
        values of shape `(batch, time, ...)`.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        y_pred = keras.tree.map_structure(self._as_own_dtype, y_pred)
        if not isinstance(y_true, dict):  # a sparse target: ids stay integers
            y_true = keras.tree.map_structure(self._as_own_dtype, y_true)
        # Targets are given: also where the student makes them itself (peers,
        # its own deeper exit), it must not learn to be easier to match.
        y_true = keras.tree.map_structure(ops.stop_gradient, y_true)
        values = self.call(y_true, y_pred)
        if mask is not None and len(values.shape) > 0:
            mask = ops.cast(to_rank_of(mask, values), values.dtype)
            values = values * mask
            if self.reduction in ("sum_over_batch_size", "mean"):
                # The mean is over what counts, not over the padding.
                share = ops.mean(ops.broadcast_to(mask, ops.shape(values)))
                values = ops.divide_no_nan(values, share)
        if sample_weight is not None and len(values.shape) > 0:
            weight = ops.convert_to_tensor(sample_weight, dtype=values.dtype)
            values = values * to_rank_of(weight, values)
        return Reduction(reduction=self.reduction, dtype=self.dtype)(
            values, values
        )

    def make_projector(
        self, teacher_shape: Shape, student_shape: Shape, name: str
    ) -> keras.layers.Layer | None:
        """Returns the layer that is trained with the student, or `None`.

        A loss that has to learn more than `projector` says overrides this
        and `project`.

        Args:
            teacher_shape: Shape of the teacher's tap; a list of them where
                `teacher` is a list. All are known but for sizes of `None`.
            student_shape: Of the student's tap, likewise.
            name: Name for a new layer.
        """
        layer = self.projector
        if layer is None:
            return None
        if layer == "auto":
            if compatible(teacher_shape, student_shape):
                return None
            layer = Projector(teacher_shape[1:], name=name)
        if not layer.built:
            layer.build((None, *student_shape[1:]))
        self.check_shapes(
            teacher_shape, layer.compute_output_shape(student_shape)
        )
        return layer

    def project(
        self,
        layer: keras.layers.Layer,
        teacher: Tensor,
        student: Tensor,
        sample_index: Tensor | None = None,
    ) -> Tensor:
        """Returns what `call` gets as `y_pred`.

        Args:
            layer: What `make_projector` returned.
            teacher: Tensor of the teacher's tap, without gradient.
            student: Tensor of the student's tap.
            sample_index: Int tensor `(batch,)` if `index_aware`.
        """
        takes_training = getattr(layer, "_call_has_training_arg", False)
        return layer(student, **({"training": True} if takes_training else {}))

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        """Raises a `ValueError` unless the two taps can be compared.

        Args:
            teacher_shape: Shape of the teacher's tap, `None` where unknown.
            student_shape: Shape of the student's tap after the projector.
        """
        if compatible(teacher_shape, student_shape):
            return
        same_classes = compatible(teacher_shape[-1], student_shape[-1])
        if self.logits and not same_classes:
            raise ValueError(
                f"{type(self).__name__} compares class scores, so teacher "
                "and student must have the same classes. Received: "
                f"teacher '{self.teacher}' of shape {tuple(teacher_shape)}, "
                f"student '{self.student}' of shape {tuple(student_shape)}. "
                "Where a teacher has other classes, wrap it in "
                "kd.teachers.ClassMapping."
            )
        remedy = (
            "Pass projector='auto' to have a learned projection bring the "
            "student to the teacher's shape."
        )
        if self.projector is not None:
            remedy = (
                "The projector does not bring them together: pool one of the "
                "taps, or pass a layer of your own as `projector`."
            )
        raise ValueError(
            f"{type(self).__name__} needs taps of the same shape. Received: "
            "teacher "
            f"'{self.teacher}' of shape {tuple(teacher_shape)}, student "
            f"'{self.student}' of shape {tuple(student_shape)}. {remedy}"
        )

    def get_config(self):
        """Returns the constructor's arguments that `self` holds by name."""
        serialize, config = keras.saving.serialize_keras_object, {}
        for name in sorted(constructor_arguments(type(self))):
            if hasattr(self, name):
                value = getattr(self, name)
                is_object = hasattr(value, "get_config")
                config[name] = serialize(value) if is_object else value
        return config

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        return cls(
            **{
                name: deserialize(value) if isinstance(value, dict) else value
                for name, value in config.items()
            }
        )

    def _as_own_dtype(self, tensor):
        return ops.convert_to_tensor(tensor, dtype=self.dtype)


def compatible(first, second) -> bool:
    """Whether two shapes, or lists of shapes, agree wherever both are known."""
    if first is None or second is None:
        return True
    if not hasattr(first, "__len__") or not hasattr(second, "__len__"):
        return first == second
    return len(first) == len(second) and all(map(compatible, first, second))


def _checked_tap(argument, tap):
    names = [tap] if isinstance(tap, str) else tap
    is_names = isinstance(names, (list, tuple)) and all(
        isinstance(name, str) and name for name in names
    )
    if not names or not is_names:
        raise ValueError(
            f"`{argument}` must name a tap, such as 'output' or a layer's "
            f"name, or be a list of names. Received: {argument}={tap!r}"
        )
    return tap if isinstance(tap, str) else tuple(tap)
