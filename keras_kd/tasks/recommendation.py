# SPDX-License-Identifier: Apache-2.0
"""Recommendation: the items a user will like come first."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import cross_entropy
from keras_kd.tasks.class_meter import without_missing
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import same_length
from keras_kd.tasks.reading import weights_of

_LEFT_OUT = -1e9


@dataclasses.dataclass(frozen=True)
class Recommendation(Task):
    """Items are ranked for a user, or for a query.

    Outputs: scores `(batch, items)`; those of -1e9 or less, such as items
    that the user knows already, are ranked last.
    Labels: the item liked `(batch,)`; several `(batch, n)`, filled up with
    -1; or how much each is liked, in the shape of the outputs.
    Headline: NDCG among the first `top_k`, the mean over users who like
    anything.
    Agreement: share of the first `top_k` that both models have in common.
    Distils: `Ranking(top_k)`.
    Memory: flat.

    Args:
        top_k: How many items a user is shown.
        names: Names of the items.

    Example:

    ```python
    meter = kd.tasks.Recommendation(top_k=2).meter()
    meter.update([[3.0, 2.0, 1.0]], [0])
    meter.result()["ndcg_at_2"]  # 1.0
    ```
    """

    top_k: int = 10
    names: tuple[str, ...] = ()

    @property
    def headline(self):
        return Headline(f"ndcg_at_{self.top_k}")

    def label_loss(self, student, output=None):
        return cross_entropy(student, output)

    def distillation_losses(self):
        return [losses.Ranking(self.top_k)]

    def meter(self, outputs=None, teacher_outputs=None):
        return RecommendationMeter(self.top_k)

    def draw(self, axes, x, label, teacher, student):
        liked = set(np.ravel(label).astype(int))
        lists = [
            best(Reader().array(drawing.batch_of_one(outputs)), self.top_k)[0]
            for outputs in (teacher, student)
        ]
        scores = Reader().array(drawing.batch_of_one(student))
        if np.shape(label) == scores.shape[1:]:
            liked = set(np.flatnonzero(np.asarray(label) > 0))
        axes[0].set_axis_off()
        for place, title in enumerate(("teacher", "student")):
            axes[0].text(place / 2, 1, title, fontsize=8, va="top")
            for rank, item in enumerate(lists[place]):
                axes[0].text(
                    place / 2,
                    0.9 - 0.9 * rank / max(len(lists[place]), 1),
                    f"{rank + 1}. {drawing.name_of(item, self.names)}",
                    fontsize=7,
                    va="top",
                    color=drawing.RIGHT if item in liked else "black",
                )


class RecommendationMeter(Meter):
    """Sums of what each user's list is worth."""

    def __init__(self, top_k):
        self.top_k = top_k
        self.reader, self.teacher_reader = Reader(), Reader()
        self.gain = self.recall = self.users = 0.0
        self.shared = self.compared = 0.0

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        from sklearn import metrics

        scores = self.reader.array(outputs).astype(np.float64)
        likes = relevance(np.asarray(labels), scores.shape)
        weights = weights_of(scores.shape[:1], sample_weight, mask)
        first = best(scores, self.top_k)
        knows = (likes.sum(axis=-1) > 0) & (weights > 0)
        if knows.any():
            counted, total = weights[knows], weights[knows].sum()
            # Scikit-learn refuses infinite scores.
            ranked = np.maximum(scores[knows], 10 * _LEFT_OUT)
            gain = metrics.ndcg_score(
                likes[knows], ranked, k=self.top_k, sample_weight=counted
            )
            self.gain += gain * total
            is_liked = likes[knows] > 0
            hits = np.take_along_axis(is_liked, first[knows], axis=-1)
            shares = hits.sum(axis=-1) / is_liked.sum(axis=-1)
            self.recall += (counted * shares).sum()
            self.users += total
        if teacher_outputs is not None:
            theirs = self.teacher_reader.array(teacher_outputs)
            same_length(scores, theirs)
            shares = shared(first, best(theirs, self.top_k))
            self.shared += (weights * shares).sum()
            self.compared += weights.sum()

    def result(self):
        figures = {
            "agreement": float(self.shared / self.compared)
            if self.compared
            else None
        }
        if self.users:
            figures |= {
                f"ndcg_at_{self.top_k}": float(self.gain / self.users),
                f"recall_at_{self.top_k}": float(self.recall / self.users),
            }
        return without_missing(figures)


def relevance(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns how much each user likes each item: `(users, items)`.

    Raises:
        ValueError: If the labels are neither items nor likings.
    """
    if len(shape) != 2:
        raise ValueError(
            f"Scores of items must be (batch, items). Received: {shape}"
        )
    if labels.shape == shape:
        return np.maximum(labels, 0).astype(np.float64)
    items = labels[:, None] if labels.ndim == 1 else labels
    if (
        items.ndim != 2
        or len(items) != shape[0]
        or (items != items.astype(np.int64)).any()
        or items.max(initial=-1) >= shape[1]
        or items.min(initial=0) < -1
    ):
        raise ValueError(
            f"Labels must be item numbers below {shape[1]} (-1 for none), of "
            f"shape ({shape[0]},) or ({shape[0]}, n), or likings of shape "
            f"{shape}. Received: shape {labels.shape}, values from "
            f"{labels.min():g} to {labels.max():g}"
        )
    likes = np.zeros((shape[0], shape[1] + 1))
    np.put_along_axis(likes, items.astype(np.int64), 1.0, axis=1)
    return likes[:, :-1]  # the last column is that of -1


def best(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Returns the numbers of the first items, best first."""
    return np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]


def shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the share of each row that the other's row has too."""
    return (first[:, :, None] == second[:, None]).any(axis=2).mean(axis=1)
