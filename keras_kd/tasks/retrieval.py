# SPDX-License-Identifier: Apache-2.0
"""Retrieval: embeddings in which like is near like."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_kd import losses
from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import VALUES
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import weights_of
from keras_kd.tasks.recommendation import shared

NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True)
class Retrieval(Task):
    """The output is an embedding; what is alike lies near by cosine.

    Outputs: embeddings `(batch, features)`.
    Labels: numbers of classes, or of things, `(batch,)`; -1 for none.
    Headline: recall at `top_k`: how often one of the nearest others has the
    example's own label, over examples that have a like one at all.
    Agreement: share of the 10 nearest neighbours that an example has in both
    models' embeddings, whose widths may differ.
    Distils: `Relational`, distances and angles between examples.
    Memory: not flat; all embeddings are kept, as float32, since any of them
    may be the nearest.

    Args:
        top_k: Number of neighbours that are looked at.
        loss: Loss on the labels; Keras has none for embeddings alone.

    Example:

    ```python
    meter = kd.tasks.Retrieval().meter()
    meter.update([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [0, 0, 1])
    meter.result()["recall_at_1"]  # 1.0
    ```
    """

    top_k: int = 1
    loss: Any = None

    @property
    def headline(self):
        return Headline(f"recall_at_{self.top_k}")

    def label_loss(self, student, output=None):
        if self.loss is None:
            raise ValueError(
                "Keras has no loss between class numbers and embeddings, so "
                "kd.tasks.Retrieval needs one, such as a triplet loss, as "
                "`loss`. Received: loss=None"
            )
        return self.loss

    def distillation_losses(self):
        return [losses.Relational()]

    def meter(self, outputs=None, teacher_outputs=None):
        return RetrievalMeter(self.top_k)

    def draw(self, axes, x, label, teacher, student):
        drawing.show_input(axes[0], x)
        axes[0].set_title(f"label {np.ravel(label)[0]}", fontsize=7, loc="left")


class RetrievalMeter(Meter):
    """Keeps embeddings, and compares them at the end."""

    def __init__(self, top_k):
        self.top_k = top_k
        self.reader, self.teacher_reader = Reader(VALUES), Reader(VALUES)
        self.kept, self.labels, self.weights, self.teachers = [], [], [], []

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        embeddings = self.reader.array(outputs)
        labels = np.asarray(labels)
        count = len(embeddings)
        if embeddings.ndim != 2 or labels.shape not in ((count,), (count, 1)):
            raise ValueError(
                "Retrieval needs embeddings (batch, features) and one label "
                f"number each. Received: {embeddings.shape}, {labels.shape}"
            )
        self.kept.append(embeddings.astype(np.float32))
        self.labels.append(labels.reshape(count))
        self.weights.append(weights_of((count,), sample_weight, mask))
        if teacher_outputs is not None:
            theirs = self.teacher_reader.array(teacher_outputs)
            if len(theirs) != count:
                raise ValueError(
                    "`teacher_outputs` must be of exactly the measured "
                    f"examples: {count}. Received: {len(theirs)}"
                )
            self.teachers.append(theirs.astype(np.float32))

    def result(self):
        if sum(map(len, self.kept)) < 2:
            return {}
        labels = np.concatenate(self.labels)
        weights = np.concatenate(self.weights)
        embeddings = np.concatenate(self.kept)
        nearest = neighbours(embeddings, max(self.top_k, NEIGHBOURS))
        figures = {}
        alike = (labels[:, None] == labels[nearest[:, : self.top_k]]).any(1)
        _, place, counts = np.unique(
            labels, return_inverse=True, return_counts=True
        )
        weights_ = weights * ((counts[place] > 1) & (labels != UNLABELLED))
        if weights_.any():
            value = float((weights_ * alike).sum() / weights_.sum())
            figures[f"recall_at_{self.top_k}"] = value
        if self.teachers and weights.any():
            theirs = neighbours(np.concatenate(self.teachers), NEIGHBOURS)
            shares = shared(nearest[:, :NEIGHBOURS], theirs)
            agreement = (weights * shares).sum() / weights.sum()
            figures["agreement"] = float(agreement)
        return figures


def neighbours(embeddings: np.ndarray, count: int) -> np.ndarray:
    """Returns the numbers of each row's nearest others, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(embeddings) - 1)
    found = NearestNeighbors(
        n_neighbors=count, metric="cosine", algorithm="brute"
    ).fit(embeddings)
    return found.kneighbors(return_distance=False)
