# SPDX-License-Identifier: Apache-2.0
"""Classification: one of several classes, or yes and no."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from keras_kd import losses
from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks import drawing
from keras_kd.tasks.base import TEMPERATURE
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import check_choice
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.base import ends_in_logits
from keras_kd.tasks.base import width_of
from keras_kd.tasks.class_meter import ClassMeter
from keras_kd.tasks.class_meter import mean_f1
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.keras_metrics import UnitAccuracy
from keras_kd.tasks.reading import LOGITS
from keras_kd.tasks.reading import PROBABILITIES

METRICS = ("accuracy", "macro_f1", "auc", "average_precision")
BINS = 15


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Each example is of one of several classes, or a yes or a no.

    Outputs: `(batch, ..., classes)`, or one unit for yes and no.
    Labels: class numbers `(batch, ...)`, -1 for none; or one-hot rows.
    Headline: accuracy, unless `metric` is `"macro_f1"` or, of two classes,
    `"auc"` or `"average_precision"`, for classes of very unequal size.
    Agreement: how often both decide for the same class.
    Distils: `SoftTargets(1)`, Hinton et al. without softening: it won on ten
    data sets, see docs/explanations/temperature_and_alpha.md.
    Memory: flat; of two classes one score for each example is kept as well.

    Args:
        metric: The figure that chooses and judges.
        one_hot: Whether labels are rows of classes.
        names: Names of the classes, in label order, for pictures.

    Example:

    ```python
    meter = kd.tasks.Classification().meter()
    meter.update({"logits": student_logits}, labels)
    meter.result()["accuracy"]
    ```
    """

    squash = "softmax"

    metric: str = "accuracy"
    one_hot: bool = False
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_choice("metric", self.metric, METRICS)

    @property
    def headline(self):
        return Headline(self.metric)

    def label_loss(self, student, output=None):
        return cross_entropy(student, output, one_hot=self.one_hot)

    def metrics(self, student, output=None):
        if width_of(student, output) == 1:
            threshold = 0.0 if ends_in_logits(student, output) else 0.5
            return [UnitAccuracy(threshold, name="accuracy")]
        if self.one_hot:
            return [keras.metrics.CategoricalAccuracy(name="accuracy")]
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def distillation_losses(self):
        return [losses.SoftTargets(TEMPERATURE)]

    def meter(self, outputs=None, teacher_outputs=None):
        return ClassificationMeter(outputs, teacher_outputs)

    def draw(self, axes, x, label, teacher, student):
        drawing.input_with_decisions(
            axes[0], x, label, teacher, student, ClassificationMeter, self.names
        )


class ClassificationMeter(ClassMeter):
    """Counts by class and by confidence; of two classes, scores too."""

    def __init__(self, outputs=None, teacher_outputs=None):
        super().__init__(outputs, teacher_outputs)
        # By class: examples, of them decided rightly, decided for it.
        self.examples = self.right = self.decided = np.zeros(0)
        self.gaps = np.zeros(BINS)
        self.scores, self.labels, self.weights = [], [], []
        self.same = self.compared = 0.0

    def count(self, batch):
        decisions = self.reader.decisions(batch.scores)
        classes = max(batch.scores.shape[-1], 2)
        if not self.examples.size:
            self.examples, self.right, self.decided = np.zeros((3, classes))
        known = batch.labels != UNLABELLED
        labels, chosen = batch.labels[known], decisions[known]
        weights = batch.weights[known]
        is_right = weights * (labels == chosen)
        # Not in place: the three may still be one array.
        self.examples = self.examples + np.bincount(labels, weights, classes)
        self.right = self.right + np.bincount(labels, is_right, classes)
        self.decided = self.decided + np.bincount(chosen, weights, classes)
        if self.reader.form in (LOGITS, PROBABILITIES):
            self._calibrate(batch.scores[known], labels == chosen, weights)
        if classes == 2 and batch.labels.ndim == 1:
            self._keep(batch.scores[known], labels, weights)
        if batch.teacher is not None:
            theirs = self.teacher_reader.decisions(batch.teacher)
            self.same += (batch.weights * (theirs == decisions)).sum()
            self.compared += batch.weights.sum()

    def _calibrate(self, scores, is_right, weights):
        confidences = confidence(scores, self.reader.form == LOGITS)
        # The bins of Guo et al. are open below and closed above.
        number = np.ceil(confidences * BINS).astype(int).clip(1, BINS) - 1
        gaps = weights * (is_right - confidences)
        self.gaps += np.bincount(number, gaps, BINS)

    def _keep(self, scores, labels, weights):
        # Whatever orders the examples will do: AUC and AP see no more.
        is_unit = scores.shape[-1] == 1
        kept = scores[:, 0] if is_unit else scores[:, 1] - scores[:, 0]
        self.scores.append(np.array(kept, np.float32))
        self.labels.append(labels.astype(np.int8))
        self.weights.append(weights.astype(np.float32))

    def result(self):
        total = self.examples.sum()
        figures = {
            "agreement": self.same / self.compared if self.compared else None
        }
        if total:
            hits = self.right
            figures |= {
                "accuracy": float(hits.sum() / total),
                "class_accuracy": [
                    float(h / n) if n else None
                    for h, n in zip(hits, self.examples, strict=True)
                ],
                "macro_f1": mean_f1(
                    hits, self.decided - hits, self.examples - hits
                ),
            }
            if self.reader.form in (LOGITS, PROBABILITIES):
                figures["ece"] = float(np.abs(self.gaps).sum() / total)
        if self.scores and (self.examples > 0).all():
            figures |= self._curves()
        return without_missing(figures)

    def _curves(self):
        from sklearn import metrics

        labels, scores, weights = map(
            np.concatenate, (self.labels, self.scores, self.weights)
        )
        given = {"sample_weight": weights}
        return {
            "auc": float(metrics.roc_auc_score(labels, scores, **given)),
            "average_precision": float(
                metrics.average_precision_score(labels, scores, **given)
            ),
        }


def confidence(scores: np.ndarray, from_logits: bool) -> np.ndarray:
    """Returns the probability of what each row of scores decides."""
    scores = scores.astype(np.float64)
    if scores.shape[-1] == 1:
        yes = 0.5 * (1 + np.tanh(scores / 2)) if from_logits else scores
        return np.maximum(yes, 1 - yes)[..., 0]
    if not from_logits:
        # Quantised probabilities do not sum to one.
        sums = np.maximum(scores.sum(axis=-1), np.finfo(np.float64).tiny)
        return scores.max(axis=-1) / sums
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return 1 / np.exp(shifted).sum(axis=-1)
