# SPDX-License-Identifier: Apache-2.0
"""One small set of outputs and labels for each task."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_kd import tasks

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
ALPHABET = ("", "a", "b", "c", " ")


@dataclasses.dataclass(frozen=True)
class TaskCase:
    """A task, a model's outputs, its teacher's, and labels."""

    task: tasks.Task
    outputs: Any
    teacher: Any
    labels: Any
    x: Any = None


def _noisy(rng, labels, classes, strength=2.0):
    """Scores that often, but not always, favour the label."""
    scores = rng.normal(size=(*labels.shape, classes))
    return scores + strength * np.eye(classes)[np.maximum(labels, 0)]


def _classes(task, shape, classes):
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, classes, shape)
    logits = [_noisy(rng, labels, classes) for _ in range(2)]
    return TaskCase(task, *({"logits": each} for each in logits), labels)


def _units():
    rng = np.random.default_rng(1)
    labels = (rng.random((12, 4)) < 0.4).astype("int32")
    labels[0, 1] = -1
    logits = [3 * labels - 1 + rng.normal(size=(12, 4)) for _ in range(2)]
    task = tasks.MultiLabel(metric="mean_average_precision")
    return TaskCase(task, *({"logits": each} for each in logits), labels)


def _values():
    rng = np.random.default_rng(2)
    labels = rng.normal(3.0, 5.0, (12, 3))
    values = [labels + rng.normal(size=labels.shape) for _ in range(2)]
    return TaskCase(tasks.Regression(unit="km"), *values, labels)


def _boxes():
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 50, (12, 5, 2))
    truth = np.concatenate(
        [corner, corner + rng.uniform(5, 40, (12, 5, 2))], -1
    )
    classes = rng.integers(-1, 3, (12, 5))

    def found():
        return {
            "boxes": truth + rng.normal(0, 2, truth.shape),
            "scores": rng.random((12, 5)),
            "classes": np.where(rng.random((12, 5)) < 0.8, classes, 2),
        }

    labels = {"boxes": truth, "classes": classes}
    return TaskCase(
        tasks.Detection(), found(), found(), labels, np.zeros((8, 8, 3))
    )


def _items():
    rng = np.random.default_rng(4)
    labels = rng.integers(-1, 20, (12, 3))
    scores = [rng.normal(size=(12, 20)) for _ in range(2)]
    return TaskCase(tasks.Recommendation(top_k=5), *scores, labels)


def _embeddings():
    rng = np.random.default_rng(5)
    labels = rng.integers(-1, 4, 12)
    centres = rng.normal(size=(5, 6))
    teacher = centres[labels] + rng.normal(0, 0.5, (12, 6))
    student = teacher[:, :3] + rng.normal(0, 0.3, (12, 3))
    return TaskCase(tasks.Retrieval(), student, teacher, labels)


def _speech():
    rng = np.random.default_rng(6)
    labels = rng.integers(1, 5, (12, 4))
    labels[3, 2:] = 0
    frames = np.repeat(labels, 2, axis=1)
    logits = [_noisy(rng, frames, 5, 1.5) for _ in range(2)]
    task = tasks.Transcription(alphabet=ALPHABET)
    return TaskCase(task, *({"logits": each} for each in logits), labels)


CASES = {
    "classification": _classes(tasks.Classification(), (12,), 3),
    "two classes": _classes(tasks.Classification(metric="auc"), (12,), 2),
    "multi-label": _units(),
    "regression": _values(),
    "segmentation": _classes(tasks.Segmentation(), (12, 4, 5), 3),
    "tagging": _classes(tasks.Tagging(tags=TAGS), (12, 6), 5),
    "language model": _classes(tasks.LanguageModel(), (12, 6), 9),
    "detection": _boxes(),
    "recommendation": _items(),
    "retrieval": _embeddings(),
    "transcription": _speech(),
}
