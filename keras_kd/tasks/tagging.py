# SPDX-License-Identifier: Apache-2.0
"""Tagging: entities in a text, by a tag for each token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.base import TEMPERATURE
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.class_meter import ClassMeter
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline


@dataclasses.dataclass(frozen=True)
class Tagging(Task):
    """Each token has a tag, and tags mark entities.

    Outputs: `(batch, tokens, tags)`.
    Labels: tag numbers `(batch, tokens)`, -1 for what is not a token of its
    own,
    such as padding and the later pieces of a word.
    Headline: entity F1, micro-averaged, as conlleval counts: an entity is
    found if its kind, its first and its last token are right. Accuracy by
    token is high where most tokens are outside of entities.
    Agreement: entity F1 between both models.
    Distils: `SoftTargets(1)` by token.
    Memory: flat.

    Args:
        tags: Names of the tags, in label order: `"O"`, `"B-kind"`, `"I-kind"`
            and, where used, `"E-kind"` and `"S-kind"`.
        ignore_class: Tag number of tokens that count nowhere.

    Raises:
        ValueError: If a name is not one of these.

    Example:

    ```python
    task = kd.tasks.Tagging(tags=("O", "B-PER", "I-PER"))
    meter = task.meter()
    meter.update({"logits": np.eye(3)[[[1, 2, 0]]]}, [[1, 2, 0]])
    meter.result()["entity_f1"]  # 1.0
    ```
    """

    squash = "softmax"

    tags: tuple[str, ...] = ()
    ignore_class: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "tags", tuple(self.tags))
        wrong = [t for t in self.tags if t != "O" and t[:2] not in _PREFIXES]
        if wrong or len(self.tags) < 2:
            raise ValueError(
                "`tags` must name every tag in label order, such as ('O', "
                f"'B-PER', 'I-PER'). Received: tags={wrong or self.tags}"
            )

    @property
    def headline(self):
        return Headline("entity_f1")

    def label_loss(self, student, output=None):
        ignored = self.ignore_class
        return cross_entropy(student, output, ignore_class=ignored)

    def metrics(self, student, output=None):
        name = "token_accuracy"
        return [keras.metrics.SparseCategoricalAccuracy(name=name)]

    def distillation_losses(self):
        return [losses.SoftTargets(TEMPERATURE)]

    def meter(self, outputs=None, teacher_outputs=None):
        return TaggingMeter(
            self.tags, outputs, teacher_outputs, self.ignore_class
        )

    def draw(self, axes, x, label, teacher, student):
        rows = [[drawing.name_of(i, self.tags) for i in np.ravel(label)]]
        for outputs in (teacher, student):
            scores = self.meter().reader.array(drawing.batch_of_one(outputs))
            chosen = scores[0].argmax(axis=-1)
            rows.append([drawing.name_of(i, self.tags) for i in chosen])
        drawing.token_rows(axes[0], *rows, x=x)


class TaggingMeter(ClassMeter):
    """Counts entities that are right, found and there.

    What counts is a token of positive weight; a sentence's first token says
    what its entities weigh.
    """

    def __init__(
        self, tags, outputs=None, teacher_outputs=None, ignore_class=None
    ):
        super().__init__(outputs, teacher_outputs, ignore_class)
        self.tags = tags
        # Entities that are right, that the model finds, that are there.
        self.beside_labels, self.beside_teacher = np.zeros((2, 3))
        self.right = self.tokens = 0.0

    def count(self, batch):
        if batch.scores.shape[-1] != len(self.tags) or batch.labels.ndim != 2:
            raise ValueError(
                f"The outputs must be (batch, tokens, {len(self.tags)}), a "
                f"score for each of `tags`. Received: {batch.scores.shape}"
            )
        decisions = self.reader.decisions(batch.scores)
        weights = batch.label_weights
        self.right += (weights * (decisions == batch.labels)).sum()
        self.tokens += weights.sum()
        for row, weight in enumerate(weights):
            counts = weight > 0
            if not counts.any():
                continue
            first = weight[counts][0]
            said = self._entities(decisions[row, counts])
            true = self._entities(batch.labels[row, counts])
            self.beside_labels += first * _overlap(said, true)
            if batch.teacher is not None:
                theirs = batch.teacher[row, counts].argmax(axis=-1)
                overlap = _overlap(said, self._entities(theirs))
                self.beside_teacher += first * overlap

    def result(self):
        right, found, there = self.beside_labels
        return without_missing(
            {
                "entity_f1": _f1(self.beside_labels),
                "entity_precision": right / found if found else None,
                "entity_recall": right / there if there else None,
                "token_accuracy": float(self.right / self.tokens)
                if self.tokens
                else None,
                "agreement": _f1(self.beside_teacher),
            }
        )

    def _entities(self, numbers):
        return entities(self.tags[number] for number in numbers)


# seqeval, the usual library, counts the same, but has not been released since
# 2020, comes as source only and keeps all sentences.
def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """Returns the entities that a sentence's tags mark.

    As conlleval does: an I that follows no entity of its kind begins one.

    Args:
        tags: One tag per token.

    Returns:
        `{(kind, first token, last token)}`.

    Example:

    ```python
    entities(["B-PER", "I-PER", "O"])  # {("PER", 0, 1)}
    ```
    """
    found, kind, start, previous = set(), "", 0, "O"
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, now = tag.partition("-")
        goes_on = (
            prefix in ("I", "E") and now == kind and previous in ("B", "I")
        )
        if previous != "O" and not goes_on:
            found.add((kind, start, place - 1))
        if prefix != "O" and not goes_on:
            kind, start = now, place
        previous = prefix
    return found


_PREFIXES = ("B-", "I-", "E-", "S-")


def _overlap(said, true):
    return np.array([len(said & true), len(said), len(true)], np.float64)


def _f1(counts):
    right, found, there = counts
    return float(2 * right / (found + there)) if found + there else None
