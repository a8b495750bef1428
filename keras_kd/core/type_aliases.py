# SPDX-License-Identifier: Apache-2.0
"""Names for what many functions take; nothing is imported at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import Any
    from typing import Literal

    import keras
    import numpy as np
    import tensorflow as tf

    from keras_kd.data.splits import Data
    from keras_kd.losses.base import DistillationLoss
    from keras_kd.tasks.base import Task
    from keras_kd.teachers.base import Teacher

Tensor: TypeAlias = "tf.Tensor | np.ndarray"
"""What a loss computes with: a tensor, or an array to try it on."""

ScalarLike: TypeAlias = "float | Tensor"
"""A number of a loss: fixed, or one that a compiled step reads."""

Arrays: TypeAlias = "Tensor | Mapping[str, Arrays] | Sequence[Arrays]"
"""Inputs of a model or labels: an array, or arrays in any nesting."""

Split: TypeAlias = "tuple[Arrays, ...] | tf.data.Dataset"
"""Examples with labels: arrays `(x, y)` or `(x, y, sample_weight)`, or a
batched data set of them."""

Examples: TypeAlias = "Split | Arrays | keras.utils.PyDataset"
"""What a teacher can label: a split, inputs alone, or Keras' own kind."""

DataLike: TypeAlias = "Data | Mapping[str, Any] | Sequence[Split]"
"""The splits: `Data`, a dict of its arguments, or splits in their order."""

Shape: TypeAlias = "Sequence[Any]"
"""Shape of a tap, `None` where a size is free; for a list of taps, of each."""

TeacherLike: TypeAlias = (
    "keras.Model | Teacher | Sequence[keras.Model | Teacher]"
)
"""What teaches: a trained model, a teacher, or a list: an ensemble."""

OneLossLike: TypeAlias = (
    "DistillationLoss | keras.distillation.DistillationLoss | str | dict"
)
"""A distillation loss: ours, one of Keras, its name, or as it is saved."""

ProjectorLike: TypeAlias = 'keras.layers.Layer | Literal["auto"] | None'
"""What brings the student's tap to the teacher's shape."""

LossLike: TypeAlias = (
    "OneLossLike | Sequence[OneLossLike]"
    " | Mapping[str, OneLossLike | Sequence[OneLossLike]]"
)
"""One distillation loss, a list of them, or a dict of either by output."""

LabelLossLike: TypeAlias = (
    "str | keras.losses.Loss | Callable | Mapping | Sequence"
)
"""The loss on the labels: what `compile` of a Keras model takes."""

TaskLike: TypeAlias = "Task | Mapping[str, Task]"
"""What outputs and labels mean: a task, or a dict of tasks by output."""

LossWeightsLike: TypeAlias = "Mapping[str, float] | Sequence[float]"
"""How much each output counts: what `compile` of a Keras model takes."""

MetricLike: TypeAlias = "str | keras.metrics.Metric | Callable"
"""A metric: what `compile` of a Keras model takes in a list."""

LearningRateLike: TypeAlias = (
    "float | keras.optimizers.schedules.LearningRateSchedule"
)
"""A learning rate: a number, or a schedule of Keras."""

SearchedLike: TypeAlias = "float | tuple[float, float] | list[float]"
"""A setting of a search: fixed, a range, or a list to choose from."""

OptimizerLike: TypeAlias = (
    "str | keras.optimizers.Optimizer"
    " | Callable[[int], keras.optimizers.Optimizer]"
)
"""An optimizer, its name, or a function of the number of steps."""
