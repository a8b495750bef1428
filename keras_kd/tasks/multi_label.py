# SPDX-License-Identifier: Apache-2.0
"""MultiLabel: any number of labels at once, a yes or no for each."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_kd import losses
from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks import drawing
from keras_kd.tasks.base import TEMPERATURE
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import check_choice
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.base import ends_in_logits
from keras_kd.tasks.class_meter import mean_f1
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.keras_metrics import UnitAccuracy
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import same_length
from keras_kd.tasks.reading import weights_of

METRICS = ("macro_f1", "micro_f1", "mean_average_precision")


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Each unit of the output says yes or no to a label of its own.

    Outputs: `(batch, ..., units)`, logits or probabilities of each.
    Labels: 0 and 1 in the shape of the outputs, -1 where it is not known.
    Headline: macro-F1, the mean over labels at a threshold of 0.5. A label
    that is neither there nor found does not count. Rare labels weigh as much
    as frequent ones; accuracy by unit would be high for a constant no.
    Agreement: macro-F1 between both models' decisions.
    Distils: `SoftTargets(1)`, which is the Bernoulli divergence by unit.
    Memory: flat; with `metric="mean_average_precision"` all scores are kept.

    Args:
        metric: `"macro_f1"`, `"micro_f1"` or `"mean_average_precision"`.
        names: Names of the labels, in the order of the units.

    Example:

    ```python
    meter = kd.tasks.MultiLabel().meter()
    meter.update({"logits": [[2.0, -1.0]]}, [[1, 0]])
    meter.result()["macro_f1"]  # 1.0
    ```
    """

    squash = "sigmoid"

    metric: str = "macro_f1"
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_choice("metric", self.metric, METRICS)

    @property
    def headline(self):
        return Headline(self.metric)

    def label_loss(self, student, output=None):
        return cross_entropy(student, output, by_unit=True)

    def metrics(self, student, output=None):
        threshold = 0.0 if ends_in_logits(student, output) else 0.5
        return [UnitAccuracy(threshold)]

    def distillation_losses(self):
        return [losses.SoftTargets(TEMPERATURE)]

    def meter(self, outputs=None, teacher_outputs=None):
        keeps = self.metric == "mean_average_precision"
        return MultiLabelMeter(outputs, teacher_outputs, keeps)

    def draw(self, axes, x, label, teacher, student):
        drawing.show_input(axes[0], x)
        said = [np.asarray(label).ravel() == 1]
        for outputs in (teacher, student):
            reader = Reader()
            scores = reader.scores(drawing.batch_of_one(outputs))
            said.append(reader.yes(scores).ravel() == 1)
        texts = [
            ", ".join(drawing.name_of(i, self.names) for i in np.where(yes)[0])
            for yes in said
        ]
        drawing.decisions(axes[0], *(text or "none" for text in texts))


class MultiLabelMeter(Meter):
    """Counts hits, false alarms and misses by unit."""

    def __init__(self, outputs=None, teacher_outputs=None, keeps_scores=False):
        self.reader = Reader(outputs, "outputs")
        self.teacher_reader = Reader(teacher_outputs, "teacher_outputs")
        self.keeps_scores = keeps_scores
        self.counts = self.beside_teacher = np.zeros((3, 0))
        self.right = self.entries = 0.0
        self.kept = []

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        scores = self.reader.scores(outputs)
        labels = _checked(np.asarray(labels), scores.shape)
        weights = weights_of(scores.shape[:-1], sample_weight, mask)[..., None]
        yes = self.reader.yes(scores)
        known = weights * (labels != UNLABELLED)
        self.counts = _added(self.counts, yes, labels == 1, known)
        self.right += (known * (yes == labels)).sum()
        self.entries += known.sum()
        if self.keeps_scores:
            units = scores.shape[-1]
            parts = (scores, labels, known)
            self.kept.append([p.reshape(-1, units) for p in parts])
        if teacher_outputs is not None:
            theirs = self.teacher_reader.scores(teacher_outputs)
            same_length(scores, theirs)
            said = self.teacher_reader.yes(theirs) == 1
            all_ = np.broadcast_to(weights, yes.shape)
            self.beside_teacher = _added(self.beside_teacher, yes, said, all_)

    def result(self):
        hits, wrong, missed = self.counts
        figures = {"agreement": mean_f1(*self.beside_teacher)}
        if self.entries:
            totals = [np.array([each.sum()]) for each in self.counts]
            figures |= {
                "macro_f1": mean_f1(hits, wrong, missed),
                "micro_f1": mean_f1(*totals),
                "unit_accuracy": float(self.right / self.entries),
                "mean_average_precision": self._average_precision(),
            }
        return without_missing(figures)

    def _average_precision(self):
        from sklearn import metrics

        if not self.kept:
            return None
        scores, labels, weights = map(
            np.concatenate, zip(*self.kept, strict=True)
        )
        found = [
            metrics.average_precision_score(
                labels[known, unit] == 1,
                scores[known, unit],
                sample_weight=weights[known, unit],
            )
            for unit in range(scores.shape[-1])
            for known in [weights[:, unit] > 0]
            if (labels[known, unit] == 1).any()
        ]
        return float(np.mean(found)) if found else None


def _checked(labels, shape):
    if labels.shape == shape[:-1] and shape[-1] == 1:
        labels = labels[..., None]
    if labels.shape != shape or not np.isin(labels, (0, 1, UNLABELLED)).all():
        raise ValueError(
            f"Labels must be 0, 1 or {UNLABELLED} for each unit, in the "
            f"outputs' shape {shape}. Received: shape {labels.shape}, values "
            f"from {labels.min():g} to {labels.max():g}. For one class of "
            "several use kd.tasks.Classification."
        )
    return labels


def _added(counts, yes, truth, weights):
    """Adds hits, false alarms and misses `(3, units)`."""
    axes = tuple(range(yes.ndim - 1))
    yes = yes == 1
    events = (yes & truth, yes & ~truth, ~yes & truth)
    found = np.stack([(weights * event).sum(axis=axes) for event in events])
    return counts + found if counts.size else found
