# SPDX-License-Identifier: Apache-2.0
"""Regression: values to be predicted."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import check_choice
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import FRACTION
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import VALUES
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import weights_of

METRICS = ("mean_absolute_error", "root_mean_squared_error", "r2")


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """Each unit of the output is a value.

    Outputs: `(batch, ..., values)`, of any range.
    Labels: numbers in the shape of the outputs; an axis of one may be left
    out. -1 is a number like any other.
    Headline: mean absolute error, less is better, in `unit`; gains are told
    in the unit and in percent of the control. Or the root of the mean squared
    error, or R2 (mean over the values, each against its own mean).
    Agreement: mean absolute difference from the teacher, in `unit`.
    Distils: squared error on the outputs, also for rows without a label.
    Memory: flat.

    Args:
        metric: `"mean_absolute_error"`, `"root_mean_squared_error"` or
            `"r2"`.
        unit: What the values are in, such as `"km"`.

    Example:

    ```python
    meter = kd.tasks.Regression(unit="km").meter()
    meter.update([[1.5], [3.0]], [1.0, 3.0])
    meter.result()["mean_absolute_error"]  # 0.25
    ```
    """

    metric: str = "mean_absolute_error"
    unit: str = ""

    def __post_init__(self):
        check_choice("metric", self.metric, METRICS)

    @property
    def headline(self):
        if self.metric == "r2":
            return Headline("r2", "max", FRACTION)
        return Headline(self.metric, "min", self.unit)

    @property
    def agreement(self):
        return Headline("agreement", "min", self.unit)

    def label_loss(self, student, output=None):
        return keras.losses.MeanSquaredError()

    def metrics(self, student, output=None):
        return [
            keras.metrics.MeanAbsoluteError(name="mean_absolute_error"),
            keras.metrics.RootMeanSquaredError(name="root_mean_squared_error"),
        ]

    def distillation_losses(self):
        return [losses.Regression()]

    def meter(self, outputs=None, teacher_outputs=None):
        return RegressionMeter()

    def draw(self, axes, x, label, teacher, student):
        drawing.show_input(axes[0], x)
        texts = [
            " ".join(f"{value:.4g}" for value in np.ravel(values)[:4])
            + f" {self.unit}".rstrip()
            for values in (label, _values(teacher), _values(student))
        ]
        drawing.decisions(axes[0], *texts)


class RegressionMeter(Meter):
    """Running sums of errors, and of what the labels themselves vary by."""

    def __init__(self):
        self.reader, self.teacher_reader = Reader(VALUES), Reader(VALUES)
        self.total = 0.0
        # By value: sums of errors; mean and variation of the labels.
        self.absolute = self.squared = self.mean = self.varied = np.zeros(1)
        self.apart = self.compared = 0.0

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        values = self.reader.array(outputs).astype(np.float64)
        labels = _fit(np.asarray(labels), values.shape, "Labels")
        weights = weights_of(values.shape[:-1], sample_weight, mask)
        weights = weights.reshape(-1, 1)
        values = values.reshape(-1, values.shape[-1])
        labels = labels.reshape(values.shape)
        errors = values - labels
        self.absolute = self.absolute + (weights * np.abs(errors)).sum(axis=0)
        self.squared = self.squared + (weights * errors**2).sum(axis=0)
        self._vary(labels, weights)
        if teacher_outputs is not None:
            shape = self.reader.array(outputs).shape
            theirs = self.teacher_reader.array(teacher_outputs)
            theirs = _fit(theirs, shape, "`teacher_outputs`")
            apart = np.abs(theirs.reshape(values.shape) - values)
            self.apart += (weights * apart).sum()
            self.compared += weights.sum() * values.shape[-1]

    def _vary(self, labels, weights):
        """Merges means and sums of squares about them (Chan et al., 1979)."""
        added = weights.sum()
        if not added:
            return
        mean = (weights * labels).sum(axis=0) / added
        apart = mean - self.mean
        total = self.total + added
        self.varied = (
            self.varied
            + (weights * (labels - mean) ** 2).sum(axis=0)
            + apart**2 * self.total * added / total
        )
        self.mean = self.mean + apart * added / total
        self.total = total

    def result(self):
        figures = {
            "agreement": float(self.apart / self.compared)
            if self.compared
            else None
        }
        if self.total:
            figures |= {
                "mean_absolute_error": float(self.absolute.mean() / self.total),
                "root_mean_squared_error": float(
                    np.sqrt(self.squared.mean() / self.total)
                ),
            }
            if (self.varied > 0).all():
                figures["r2"] = float((1 - self.squared / self.varied).mean())
        return without_missing(figures)


def _values(outputs):
    return Reader(VALUES).array(drawing.batch_of_one(outputs))


def _fit(array, shape, what):
    if array.dtype.kind not in "iufb":
        raise ValueError(
            f"{what} must be numbers. Received: dtype {array.dtype}"
        )
    fits = array.shape in (shape, (*shape, 1))
    if not fits and not (shape[-1] == 1 and array.shape == shape[:-1]):
        raise ValueError(
            f"{what} must have the outputs' shape {shape}. Received: "
            f"{array.shape}"
        )
    return array.astype(np.float64).reshape(shape)
