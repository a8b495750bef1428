# SPDX-License-Identifier: Apache-2.0
"""Reading: outputs and labels as arrays whose meaning is certain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd.data.splits import UNLABELLED

LOGITS = "logits"
PROBABILITIES = "probabilities"
VALUES = "values"
FORMS = (LOGITS, PROBABILITIES, VALUES)
SUM_TOLERANCE = 1e-3


class Reader:
    """Reads the outputs of one model, batch after batch.

    Args:
        form: What they are, one of `FORMS`, if that is known.
        whose: What errors call them.
    """

    def __init__(self, form: str | None = None, whose: str = "outputs"):
        if form not in (None, *FORMS):
            raise ValueError(
                f"`{whose}` must be one of {FORMS}, or None where names or "
                f"values make it clear. Received: {form!r}"
            )
        self.form = form
        self.whose = whose

    def array(self, outputs: Any) -> np.ndarray:
        """Returns the output that counts, at least `(batch, units)`.

        Of several, `"logits"` is read in preference to `"probabilities"`,
        since quantised probabilities tie.

        Raises:
            ValueError: If there are several and none has a known name.
        """
        if isinstance(outputs, Mapping):
            name = next((n for n in FORMS[:2] if n in outputs), None)
            if name is None and len(outputs) != 1:
                raise ValueError(
                    "A model with several outputs needs one named 'logits' "
                    "or 'probabilities', or a dict of tasks by output. "
                    f"Received: {sorted(outputs)}"
                )
            if name is not None and self.form is None:
                self.form = name
            outputs = outputs[name or next(iter(outputs))]
        values = np.asarray(outputs)
        return values[:, None] if values.ndim == 1 else values

    def scores(self, outputs: Any, certain: bool = True) -> np.ndarray:
        """Returns `array`, after which `form` says what it is.

        Where nothing else says it, the first batch decides: values outside
        [0, 1] are logits, rows in [0, 1] that sum to 1 are probabilities.

        Raises:
            ValueError: If the values contradict the form, or it stays
                unknown and `certain` is asked for.
        """
        values = self.array(outputs)
        if not values.size:
            return values
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        in_range = low >= 0 and high <= 1 + SUM_TOLERANCE
        if self.form is None:
            if not in_range:
                self.form = LOGITS
            elif values.shape[-1] > 1 and sums_to_one(values):
                self.form = PROBABILITIES
        elif self.form == PROBABILITIES and not in_range:
            raise ValueError(
                f"The {self.whose} are read as probabilities, but lie "
                f"between {low:g} and {high:g}. Pass {self.whose}='logits'."
            )
        if certain and self.form not in (LOGITS, PROBABILITIES):
            raise ValueError(
                f"Cannot tell whether the {self.whose} are logits or "
                f"probabilities: they lie between {low:g} and {high:g}. Pass "
                f"{self.whose}='logits' or 'probabilities'."
            )
        return values

    def decisions(self, scores: np.ndarray) -> np.ndarray:
        """Returns the class numbers `(batch, ...)` that scores decide."""
        if scores.shape[-1] > 1:
            return scores.argmax(axis=-1)
        return self.yes(scores)[..., 0]

    def yes(self, scores: np.ndarray) -> np.ndarray:
        """Returns for each unit 1 where it says yes, else 0."""
        threshold = 0.5 if self.form == PROBABILITIES else 0.0
        return (scores > threshold).astype(np.int64)

    def log_probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Returns the log-probabilities of classes `(..., classes)`."""
        from scipy import special

        if self.form == LOGITS:
            return special.log_softmax(scores.astype(np.float64), axis=-1)
        # Quantised probabilities do not sum to one.
        tiny = np.finfo(np.float32).tiny
        logs = np.log(np.maximum(scores.astype(np.float64), tiny))
        return logs - special.logsumexp(logs, axis=-1, keepdims=True)


def sums_to_one(values: np.ndarray) -> bool:
    """Whether rows add up as probabilities do."""
    sums = values.sum(axis=-1, dtype=np.float64)
    return bool(np.allclose(sums, 1.0, atol=SUM_TOLERANCE))


def class_numbers(
    labels: Any, scores: np.ndarray, ignore_class: int | None = None
) -> np.ndarray:
    """Returns labels as int64 class numbers `(batch, ...)`; -1 means none.

    Args:
        labels: Class numbers of shape `(batch, ...)` or `(batch, ..., 1)`,
            or rows of classes in the shape of the scores (one-hot or soft).
        scores: `(batch, ..., classes)`; a single unit has the classes 0, 1.
        ignore_class: A class number that stands for no label.

    Raises:
        ValueError: If they have another shape, or are no class numbers.
    """
    labels, shape = np.asarray(labels), scores.shape
    classes = max(shape[-1], 2)
    if labels.dtype == bool:
        labels = labels.astype(np.int64)
    if shape[-1] > 1 and labels.shape == shape:
        none = (labels == UNLABELLED).all(axis=-1)
        if not sums_to_one(labels[~none]) or (labels[~none] < 0).any():
            raise ValueError(
                "Labels in the shape of the outputs must be rows of classes "
                "that sum to 1. Received: rows that do not. For yes/no units "
                "use kd.tasks.MultiLabel, for values kd.tasks.Regression."
            )
        return np.where(none, UNLABELLED, labels.argmax(axis=-1))
    if labels.shape == (*shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"Labels must be class numbers of shape {shape[:-1]} or have the "
            f"outputs' shape {shape}. Received: {labels.shape}"
        )
    if labels.dtype.kind not in "iuf":
        raise ValueError(
            "Labels must be class numbers. Received: labels of dtype "
            f"{labels.dtype}. Number the classes first, in the order of the "
            "outputs."
        )
    numbers = labels.astype(np.int64)
    is_whole = bool((numbers == labels).all())
    if ignore_class is not None:
        numbers = np.where(numbers == ignore_class, UNLABELLED, numbers)
    in_range = (numbers >= UNLABELLED) & (numbers < classes)
    if not is_whole or not in_range.all():
        raise ValueError(
            f"Labels must be class numbers from 0 to {classes - 1}, or "
            f"{UNLABELLED} for none. Received: values from {labels.min():g} "
            f"to {labels.max():g}. For values to be predicted use "
            "kd.tasks.Regression."
        )
    return numbers


def ignored(labels: Any, shape: tuple[int, ...], ignore_class: Any) -> Any:
    """Returns where labels are `ignore_class`, in a shape; else `None`."""
    if ignore_class is None:
        return None
    labels = np.asarray(labels)
    if labels.shape == (*shape, 1):
        labels = labels[..., 0]
    return labels == ignore_class if labels.shape == shape else None


def weights_of(
    shape: tuple[int, ...], sample_weight: Any = None, mask: Any = None
) -> np.ndarray:
    """Returns what each position counts, as float64 of this shape.

    Args:
        shape: `(batch, ...)`.
        sample_weight: `None`, or of shape `(batch,)` up to `shape`.
        mask: Likewise.

    Raises:
        ValueError: If one of them has another shape.
    """
    weights = np.ones(shape)
    for name, part in (("sample_weight", sample_weight), ("mask", mask)):
        if part is None:
            continue
        part = np.asarray(part)
        while part.ndim > len(shape) and part.shape[-1] == 1:
            part = part[..., 0]
        if part.shape != shape[: part.ndim]:
            raise ValueError(
                f"`{name}` must have the shape {shape}, or its first axes. "
                f"Received: {part.shape}"
            )
        missing = len(shape) - part.ndim
        weights = weights * part.reshape(part.shape + (1,) * missing)
    return weights


def same_length(outputs: np.ndarray, teacher: np.ndarray) -> None:
    """Raises unless a teacher's outputs are of the same examples."""
    if outputs.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            "`teacher_outputs` must be of exactly the measured examples: "
            f"expected {outputs.shape[:-1]} and units. Received: "
            f"{teacher.shape}"
        )
