# SPDX-License-Identifier: Apache-2.0
"""ClassMeter: what the meters of tasks with classes have in common."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np

from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks.base import Meter
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import class_numbers
from keras_kd.tasks.reading import ignored
from keras_kd.tasks.reading import same_length
from keras_kd.tasks.reading import weights_of


@dataclasses.dataclass(frozen=True)
class ClassBatch:
    """A batch whose parts fit each other.

    Args:
        scores: The model's: `(batch, ..., classes)`.
        labels: Class numbers `(batch, ...)`, -1 for none.
        weights: What each counts beside its teacher: `(batch, ...)`.
        teacher: The teacher's scores, or `None`.
    """

    scores: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    teacher: np.ndarray | None

    @property
    def label_weights(self) -> np.ndarray:
        """What each counts beside its label."""
        return self.weights * (self.labels != UNLABELLED)


class ClassMeter(Meter):
    """Reads batches of class scores; `count` adds them up.

    Args:
        outputs: See `Task.meter`.
        teacher_outputs: See `Task.meter`.
        ignore_class: Class number of what counts nowhere.
        certain: Whether it must be known whether scores are logits, which
            decisions between several classes do not need.
    """

    def __init__(
        self,
        outputs: str | None = None,
        teacher_outputs: str | None = None,
        ignore_class: int | None = None,
        certain: bool = False,
    ):
        self.reader = Reader(outputs, "outputs")
        self.teacher_reader = Reader(teacher_outputs, "teacher_outputs")
        self.ignore_class = ignore_class
        self.certain = certain

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        scores = self._scores(self.reader, outputs)
        numbers = class_numbers(labels, scores, self.ignore_class)
        weights = weights_of(numbers.shape, sample_weight, mask)
        left_out = ignored(labels, numbers.shape, self.ignore_class)
        if left_out is not None:
            weights = weights * ~left_out
        teacher = None
        if teacher_outputs is not None:
            teacher = self._scores(self.teacher_reader, teacher_outputs)
            same_length(scores, teacher)
        self.count(ClassBatch(scores, numbers, weights, teacher))

    @abc.abstractmethod
    def count(self, batch: ClassBatch) -> None:
        """Adds a batch to the figures."""

    def _scores(self, reader: Reader, outputs) -> np.ndarray:
        is_unit = reader.array(outputs).shape[-1] == 1
        return reader.scores(outputs, certain=self.certain or is_unit)


class Confusion:
    """Weights of pairs of classes `(label, decision)`, added up."""

    def __init__(self):
        self.counts = np.zeros((0, 0))

    def add(
        self,
        labels: np.ndarray,
        decisions: np.ndarray,
        weights: np.ndarray,
        classes: int,
    ) -> None:
        """Adds what has a label."""
        if not self.counts.size:
            self.counts = np.zeros((classes, classes))
        known = labels != UNLABELLED
        pairs = labels[known] * classes + decisions[known]
        added = np.bincount(pairs, weights[known], minlength=classes**2)
        self.counts += added.reshape(classes, classes)

    @property
    def accuracy(self) -> float | None:
        """Share of what is on the diagonal; `None` of nothing."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else None

    @property
    def class_iou(self) -> list[float | None]:
        """Intersection over union by class; `None` for one that is nowhere."""
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        pairs = zip(hits, union, strict=True)
        return [float(h / u) if u else None for h, u in pairs]

    @property
    def mean_iou(self) -> float | None:
        """Mean of `class_iou` over the classes that are somewhere."""
        found = [iou for iou in self.class_iou if iou is not None]
        return float(np.mean(found)) if found else None


def mean_f1(
    hits: np.ndarray, wrong: np.ndarray, missed: np.ndarray
) -> float | None:
    """Returns the mean F1 of classes; those that are nowhere do not count.

    Args:
        hits: True positives of each class.
        wrong: False positives.
        missed: False negatives.
    """
    doubled = 2 * np.asarray(hits, np.float64)
    total = doubled + wrong + missed
    found = total > 0
    return (
        float((doubled[found] / total[found]).mean()) if found.any() else None
    )


def without_missing(figures: dict) -> dict:
    """Returns the figures that there are, as plain numbers."""
    return {
        name: value if isinstance(value, list) else float(value)
        for name, value in figures.items()
        if value is not None
    }
