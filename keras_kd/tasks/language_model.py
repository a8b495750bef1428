# SPDX-License-Identifier: Apache-2.0
"""LanguageModel: the next token, or those that were masked."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.base import ends_in_logits
from keras_kd.tasks.class_meter import ClassMeter
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.keras_metrics import Perplexity

VALUES_AT_ONCE = 2**22


@dataclasses.dataclass(frozen=True)
class LanguageModel(Task):
    """Each position gives probabilities of a token.

    Outputs: `(batch, positions, tokens)`.
    Labels: token ids `(batch, positions)`, -1 where there is none, as where a
    masked language model was shown the token.
    Headline: perplexity, less is better: the exponential of the mean
    cross-entropy of a token. Gains are also told in percent of the control.
    Agreement: mean KL divergence from the teacher in nats per token; less is
    nearer.
    Distils: `SoftTargets(1)`; higher temperatures do worse with many tokens.
    Memory: flat.

    Args:
        ignore_class: Token id that counts nowhere, such as padding's.
        names: The tokens, for pictures.

    Example:

    ```python
    meter = kd.tasks.LanguageModel(ignore_class=0).meter()
    meter.update({"logits": np.zeros((1, 2, 50))}, [[7, 0]])
    meter.result()["perplexity"]  # 50.0
    ```
    """

    squash = "softmax"

    ignore_class: int | None = None
    names: tuple[str, ...] = ()

    @property
    def headline(self):
        return Headline("perplexity", "min", "")

    @property
    def agreement(self):
        return Headline("agreement", "min", "nats")

    def label_loss(self, student, output=None):
        ignored = self.ignore_class
        return cross_entropy(student, output, ignore_class=ignored)

    def metrics(self, student, output=None):
        from_logits = ends_in_logits(student, output)
        return [
            Perplexity(from_logits=from_logits, ignore_class=self.ignore_class)
        ]

    def distillation_losses(self):
        return [losses.SoftTargets(1.0)]

    def meter(self, outputs=None, teacher_outputs=None):
        return LanguageModelMeter(outputs, teacher_outputs, self.ignore_class)

    def draw(self, axes, x, label, teacher, student):
        label = np.asarray(label).ravel()
        rows = [[drawing.name_of(i, self.names) for i in label]]
        for outputs in (teacher, student):
            meter = self.meter()
            scores = meter._scores(meter.reader, drawing.batch_of_one(outputs))
            chosen = meter.reader.decisions(scores)[0]
            rows.append([drawing.name_of(i, self.names) for i in chosen])
        drawing.token_rows(axes[0], *rows)


class LanguageModelMeter(ClassMeter):
    """Sums of cross-entropies and divergences, token by token."""

    def __init__(self, outputs=None, teacher_outputs=None, ignore_class=None):
        super().__init__(outputs, teacher_outputs, ignore_class, certain=True)
        self.entropy = self.right = self.tokens = 0.0
        self.divergence = self.compared = 0.0

    def count(self, batch):
        width = batch.scores.shape[-1]
        rows = np.flatnonzero(batch.weights)
        # A batch of long texts as float64 at once would fill the memory.
        step = max(1, VALUES_AT_ONCE // width)
        for start in range(0, len(rows), step):
            self._count_rows(batch, rows[start : start + step])

    def _count_rows(self, batch, rows):
        width = batch.scores.shape[-1]
        logs = self.reader.log_probabilities(
            batch.scores.reshape(-1, width)[rows]
        )
        labels = batch.labels.ravel()[rows]
        weights = batch.label_weights.ravel()[rows]
        chosen = logs[np.arange(len(rows)), np.maximum(labels, 0)]
        self.entropy -= (weights * chosen).sum()
        self.right += (weights * (logs.argmax(axis=-1) == labels)).sum()
        self.tokens += weights.sum()
        if batch.teacher is not None:
            theirs = self.teacher_reader.log_probabilities(
                batch.teacher.reshape(-1, width)[rows]
            )
            between = (np.exp(theirs) * (theirs - logs)).sum(axis=-1)
            weights = batch.weights.ravel()[rows]
            self.divergence += (weights * between).sum()
            self.compared += weights.sum()

    def result(self):
        figures = {}
        if self.compared:
            figures["agreement"] = float(self.divergence / self.compared)
        if self.tokens:
            entropy = float(self.entropy / self.tokens)
            figures |= {
                "perplexity": float(np.exp(entropy)),
                "cross_entropy": entropy,
                "token_accuracy": float(self.right / self.tokens),
            }
        return without_missing(figures)
