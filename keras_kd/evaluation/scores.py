# SPDX-License-Identifier: Apache-2.0
"""Scores: from a model's outputs to accuracy and agreement."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_kd.data.splits import UNLABELLED


def decide(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns what a model decides, from its named outputs.

    Several classes: the index of the largest output. One sigmoid unit, or
    none to compare with: 1 where the output says yes, else 0.

    Args:
        outputs: `{name: array}` of shape `(n, ..., classes)`. `"logits"` is
            read in preference to `"probabilities"`, since quantised
            probabilities tie. One output of any other name is taken as
            probabilities if all its values lie in [0, 1].

    Returns:
        Integers of shape `(n, ...)`, or `(n, ..., 1)` for one unit.
    """
    scores, threshold = scores_and_threshold(outputs)
    if scores.shape[-1] > 1:
        return scores.argmax(axis=-1)
    return (scores > threshold).astype(np.int64)


def scores_and_threshold(
    outputs: dict[str, np.ndarray],
) -> tuple[np.ndarray, float]:
    """Picks the output that decides, and where its yes begins.

    Raises:
        ValueError: If there are several outputs and none has a known name.
    """
    for name, threshold in (("logits", 0.0), ("probabilities", 0.5)):
        if name in outputs:
            return _as_columns(outputs[name]), threshold
    if len(outputs) != 1:
        raise ValueError(
            "A model with several outputs must name one of them 'logits' or "
            f"'probabilities' to be measured. Received: {sorted(outputs)}"
        )
    (scores,) = outputs.values()
    is_probability = scores.min() >= 0 and scores.max() <= 1
    return _as_columns(scores), 0.5 if is_probability else 0.0


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a model decides beside what is right, decision by decision.

    Args:
        scores: What the decisions come from: `(n, ..., classes)`.
        decisions: Class numbers `(n, ...)`; or for sigmoid units zeros and
            ones, in the shape of the scores.
        labels: What is right, in the shape of the decisions.
        counts: Whether there is a label, in the same shape.
    """

    scores: np.ndarray
    decisions: np.ndarray
    labels: np.ndarray
    counts: np.ndarray

    @property
    def is_by_unit(self) -> bool:
        """Whether each output is a yes or no of its own."""
        return self.decisions.ndim == self.scores.ndim


def judge(outputs: dict[str, np.ndarray], labels: np.ndarray) -> Judged | None:
    """Puts a model's decisions beside the labels.

    What the labels are is read off them: class numbers (one per row of
    classes), one-hot or soft labels, zeros and ones for sigmoid units, or
    else numbers to be predicted.

    Args:
        outputs: `{name: array}`, see `decide`.
        labels: See `score`.

    Returns:
        What was `Judged`, or `None` for regression.

    Raises:
        ValueError: If labels and outputs do not fit each other.
    """
    scores, threshold = scores_and_threshold(outputs)
    labels = _fit_shape(np.asarray(labels), scores.shape)
    if labels.ndim < scores.ndim:
        classes = scores.argmax(-1)
        return Judged(scores, classes, labels, labels != UNLABELLED)
    is_labelled = (labels != UNLABELLED).all(axis=-1)
    rows = labels[is_labelled]
    if scores.shape[-1] > 1 and rows.size and _is_distribution(rows):
        return Judged(scores, scores.argmax(-1), labels.argmax(-1), is_labelled)
    if np.isin(labels, (0, 1, UNLABELLED)).all():
        is_yes = (scores > threshold).astype(np.int64)
        return Judged(scores, is_yes, labels, labels != UNLABELLED)
    return None


def score(
    outputs: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, float]:
    """Compares a model's outputs with the labels.

    Args:
        outputs: `{name: array}`, see `decide`.
        labels: `(n, ...)` class numbers, or the shape of the outputs. An
            entry of -1 (`keras_kd.data.UNLABELLED`) is left out, except
            where labels are numbers to be predicted. See `judge`.

    Returns:
        `{"accuracy": fraction}`, or `{"mean_absolute_error": value}` for
        regression. Empty if every example is unlabelled.

    Raises:
        ValueError: If labels and outputs do not fit each other.
    """
    judged = judge(outputs, labels)
    if judged is None:
        scores, _ = scores_and_threshold(outputs)
        labels = _fit_shape(np.asarray(labels), scores.shape)
        return {"mean_absolute_error": float(np.abs(scores - labels).mean())}
    if not judged.counts.any():
        return {}
    is_right = judged.decisions == judged.labels
    return {"accuracy": float(is_right[judged.counts].mean())}


def class_accuracy(judged: Judged) -> list[float | None] | None:
    """Returns for each class how often its examples are decided rightly.

    Returns:
        A fraction per class, `None` for a class without an example; or
        `None` for several sigmoid units, which are no classes of one choice.
    """
    width = judged.scores.shape[-1]
    if judged.is_by_unit and width > 1:
        return None
    labels = judged.labels[judged.counts].astype(np.int64)
    is_right = judged.decisions[judged.counts] == labels
    classes = 2 if judged.is_by_unit else width
    examples = np.bincount(labels, minlength=classes)
    right = np.bincount(labels, weights=is_right, minlength=classes)
    return [
        float(hits / count) if count else None
        for hits, count in zip(right, examples, strict=True)
    ]


def agreement(decisions: np.ndarray, teacher_predictions: np.ndarray) -> float:
    """Returns how often a model decides as its teacher does.

    Args:
        decisions: What the model decides, see `decide`.
        teacher_predictions: The teacher's outputs on the same examples in
            the same order, or its decisions as integers.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: If the two differ in length or shape.
    """
    theirs = np.asarray(teacher_predictions)
    if not np.issubdtype(theirs.dtype, np.integer):
        theirs = decide({"teacher": theirs})
    if theirs.size != decisions.size or len(theirs) != len(decisions):
        raise ValueError(
            "`teacher_predictions` must hold the teacher's outputs (or "
            "class numbers) for exactly the measured examples: expected "
            f"decisions of shape {decisions.shape}. "
            f"Received: {theirs.shape}"
        )
    return float((theirs.reshape(decisions.shape) == decisions).mean())


def _as_columns(scores: np.ndarray) -> np.ndarray:
    return scores[:, None] if scores.ndim == 1 else scores


def _fit_shape(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if labels.shape == shape or labels.shape == shape[:-1]:
        has_column = labels.shape == shape or shape[-1] > 1
        return labels if has_column else labels[..., None]
    if labels.shape == (*shape[:-1], 1):
        return labels[..., 0]
    raise ValueError(
        f"Labels must be class numbers of shape {shape[:-1]} or have the "
        f"outputs' shape {shape}. Received: {labels.shape}"
    )


def _is_distribution(rows: np.ndarray) -> bool:
    return bool((rows >= 0).all() and np.allclose(rows.sum(-1), 1, atol=1e-3))
