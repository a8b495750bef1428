# SPDX-License-Identifier: Apache-2.0
"""Segmentation: a class for every pixel."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.base import ends_in_logits
from keras_kd.tasks.base import width_of
from keras_kd.tasks.class_meter import ClassMeter
from keras_kd.tasks.class_meter import Confusion
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.keras_metrics import UnitAccuracy


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Each pixel is of one of several classes, or a yes or a no.

    Outputs: `(batch, height, width, classes)`, or one unit; voxels likewise.
    Labels: class numbers `(batch, height, width)`, -1 for none.
    Headline: mean IoU over the classes that are in labels or predictions.
    Accuracy by pixel hides what is lost on small classes.
    Agreement: mean IoU between the teacher's masks and the student's.
    Distils: `ChannelWise` on the output, where each class is strong.
    Memory: flat; a table of classes by classes.

    Args:
        ignore_class: Class number of pixels that count nowhere, such as 255.
        names: Names of the classes, in label order.
        one_hot: Whether labels are rows `(batch, height, width, classes)`.

    Example:

    ```python
    meter = kd.tasks.Segmentation(ignore_class=255).meter()
    meter.update({"logits": [[[[2.0, 0.0], [0.0, 2.0]]]]}, [[[0, 255]]])
    meter.result()["mean_iou"]  # 1.0
    ```
    """

    squash = "softmax"
    panels = ("input", "label", "teacher", "student")

    ignore_class: int | None = None
    names: tuple[str, ...] = ()
    one_hot: bool = False

    @property
    def headline(self):
        return Headline("mean_iou")

    def label_loss(self, student, output=None):
        ignored = self.ignore_class
        one_hot = self.one_hot
        return cross_entropy(
            student, output, one_hot=one_hot, ignore_class=ignored
        )

    def metrics(self, student, output=None):
        classes = width_of(student, output)
        if classes == 1:
            threshold = 0.0 if ends_in_logits(student, output) else 0.5
            return [UnitAccuracy(threshold, name="pixel_accuracy")]
        return [
            keras.metrics.MeanIoU(
                classes,
                name="mean_iou",
                sparse_y_true=not self.one_hot,
                sparse_y_pred=False,
                ignore_class=self.ignore_class,
            )
        ]

    def distillation_losses(self):
        return [losses.ChannelWise(temperature=4.0, weight=3.0)]

    def meter(self, outputs=None, teacher_outputs=None):
        return SegmentationMeter(outputs, teacher_outputs, self.ignore_class)

    def draw(self, axes, x, label, teacher, student):
        drawing.show_input(axes[0], x)
        label = np.asarray(label)
        shown = label.argmax(-1) if self.one_hot else label.squeeze()
        masks, classes = [shown], 2
        for outputs in (teacher, student):
            meter = self.meter()
            scores = meter._scores(meter.reader, drawing.batch_of_one(outputs))
            masks.append(meter.reader.decisions(scores)[0])
            classes = max(classes, scores.shape[-1])
        for axis, mask in zip(axes[1:], masks, strict=True):
            drawing.mask(axis, mask, classes, self.ignore_class)
        for axis, title in zip(axes, self.panels, strict=True):
            axis.set_title(title, fontsize=8)


class SegmentationMeter(ClassMeter):
    """Counts pixels by pairs of classes, beside labels and teacher."""

    def __init__(self, outputs=None, teacher_outputs=None, ignore_class=None):
        super().__init__(outputs, teacher_outputs, ignore_class)
        self.beside_labels, self.beside_teacher = Confusion(), Confusion()

    def count(self, batch):
        decisions = self.reader.decisions(batch.scores)
        classes = max(batch.scores.shape[-1], 2)
        self.beside_labels.add(batch.labels, decisions, batch.weights, classes)
        if batch.teacher is not None:
            theirs = self.teacher_reader.decisions(batch.teacher)
            self.beside_teacher.add(theirs, decisions, batch.weights, classes)

    def result(self):
        counted = self.beside_labels
        return without_missing(
            {
                "mean_iou": counted.mean_iou,
                "class_iou": counted.class_iou if counted.mean_iou else None,
                "pixel_accuracy": counted.accuracy,
                "agreement": self.beside_teacher.mean_iou,
            }
        )
