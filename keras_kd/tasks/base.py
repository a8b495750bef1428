# SPDX-License-Identifier: Apache-2.0
"""Task: what a model's outputs and labels mean, and what is good."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
import numpy as np

from keras_kd.core import output_heads
from keras_kd.core.type_aliases import Arrays
from keras_kd.losses.base import DistillationLoss
from keras_kd.tasks.headline import Headline

Figures = dict[str, Any]
Outputs = np.ndarray | Mapping[str, np.ndarray]

TEMPERATURE = 1.0
"""Of the soft targets of a task: it won on ten data sets, trained briefly."""


class Meter(abc.ABC):
    """Running figures of one model, from batches of NumPy arrays.

    It knows no Keras: a model, a SavedModel and a .tflite file are judged by
    the same code. However the examples are split into batches, the figures
    are the same.

    Example:

    ```python
    meter = kd.tasks.Classification().meter()
    meter.update({"logits": student_logits}, labels)
    meter.result()["accuracy"]
    ```
    """

    @abc.abstractmethod
    def update(
        self,
        outputs: Outputs,
        labels: Arrays,
        teacher_outputs: Outputs | None = None,
        sample_weight: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Takes one batch.

        Args:
            outputs: The model's outputs: an array, or `{name: array}`. The
                names `"logits"` and `"probabilities"` say what they are.
            labels: The batch's labels.
            teacher_outputs: The teacher's outputs, likewise; for `agreement`.
            sample_weight: Float array of shape `(batch,)` or `(batch, ...)`.
            mask: Bool array likewise: what counts.

        Raises:
            ValueError: If the parts of the batch do not fit each other, or
                it is not certain what the outputs are.
        """

    @abc.abstractmethod
    def result(self) -> Figures:
        """Returns the figures so far; what cannot be had is left out."""


class Task(abc.ABC):
    """What outputs and labels mean, and what is good.

    Every stage asks the task: the training what to minimise and which epoch
    to keep, the search what to maximise, the report what to print. A task is
    a small frozen object; it holds no arrays and no state.

    To write one: subclass, and define what stands below.

    Attributes:
        panels: Titles of the axes that `draw` draws on.
        squash: What makes probabilities of an output's logits, `"softmax"` or
            `"sigmoid"`; `None` where outputs are no scores of classes.

    Example:

    ```python
    class Forecast(kd.tasks.Regression):
        def distillation_losses(self):
            return [kd.losses.FeatureMatching("trunk", "trunk")]
    ```
    """

    panels: ClassVar[tuple[str, ...]] = ("",)
    squash: ClassVar[str | None] = None

    @property
    @abc.abstractmethod
    def headline(self) -> Headline:
        """The figure that chooses and judges."""

    @property
    def headlines(self) -> tuple[Headline, ...]:
        """Those of all its outputs."""
        return (self.headline,)

    @property
    def agreement(self) -> Headline:
        """How the figure `agreement` with the teacher is to be read."""
        return Headline("agreement")

    @abc.abstractmethod
    def label_loss(
        self, student: keras.Model, output: str | None = None
    ) -> Any:
        """Returns the loss on the labels that fits a student's output.

        Args:
            student: The student.
            output: Name of the output, of a student with several.

        Raises:
            ValueError: If it cannot be told for certain.
        """

    def metrics(
        self, student: keras.Model, output: str | None = None
    ) -> list[keras.metrics.Metric]:
        """Returns fresh Keras metrics to show while a student is trained.

        Some have the size of the student's output, or a threshold that
        depends on whether it ends in logits. A task whose figures Keras does
        not have returns none; its meter then judges the epochs.
        """
        return []

    @abc.abstractmethod
    def distillation_losses(self) -> list[DistillationLoss]:
        """Returns fresh losses that usually help in this task."""

    @abc.abstractmethod
    def meter(self, outputs: Any = None, teacher_outputs: Any = None) -> Meter:
        """Returns a meter that has seen nothing.

        Args:
            outputs: What the model's outputs are, where neither their name
                nor their values say so: `"logits"`, `"probabilities"` or
                `"values"`; a dict of these by output.
            teacher_outputs: What the teacher's are, likewise.
        """

    @abc.abstractmethod
    def draw(
        self,
        axes: Sequence[Any],
        x: Any,
        label: Any,
        teacher: Outputs,
        student: Outputs,
    ) -> None:
        """Draws one example on matplotlib axes, one for each of `panels`.

        Args:
            axes: The axes.
            x: The input, without the axis of the batch, like all below.
            label: The label.
            teacher: The teacher's outputs.
            student: The student's outputs.
        """


def ends_in_logits(student: keras.Model, output: str | None = None) -> bool:
    """Returns whether an output is logits; otherwise it is probabilities.

    Raises:
        ValueError: If that cannot be read off the model.
    """
    activation = output_heads.activation_of(student, output)
    if activation not in output_heads.ACTIVATIONS:
        name = getattr(student, "name", student)
        raise ValueError(
            f"Cannot tell whether output {output or ''!r} of '{name}' is "
            "logits or probabilities, so there is no default loss. Pass "
            "`loss`, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    return activation == "linear"


def width_of(student: keras.Model, output: str | None = None) -> int:
    """Returns the number of units of an output."""
    shape = student.output_shape
    if output is not None:
        shape = output_heads.named_outputs(student)[output].shape
    if not isinstance(shape, tuple) or not isinstance(shape[-1], int):
        raise ValueError(
            "The model must have one output with a known number of units, "
            f"or its output be named. Received: output shape {shape}. For "
            "several outputs pass a dict of tasks by output."
        )
    return shape[-1]


def cross_entropy(
    student: keras.Model,
    output: str | None = None,
    *,
    one_hot: bool = False,
    by_unit: bool = False,
    ignore_class: int | None = None,
) -> keras.losses.Loss:
    """Returns the cross-entropy that fits an output and its labels."""
    from_logits = ends_in_logits(student, output)
    if by_unit or width_of(student, output) == 1:
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    if one_hot:
        return keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=from_logits, ignore_class=ignore_class
    )


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises a `ValueError` unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {list(choices)}. "
            f"Received: {name}={value!r}"
        )
