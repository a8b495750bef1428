# SPDX-License-Identifier: Apache-2.0
"""Classes: an answer in words, the likeliest labels with their scores."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.export.formats.tolerance import allowed_difference

CLASSES, SCORES = "classes", "scores"
LABELS_FILE = "labels.txt"


def check_classes(
    labels: Sequence[str] | None, top_k: int | None
) -> tuple[tuple[str, ...] | None, int | None]:
    """Returns labels and k, with their defaults; ValueError if one is bad."""
    if isinstance(labels, str):
        labels = [labels]
    if labels is not None:
        labels = tuple(labels)
        lines = [
            x for x in labels if isinstance(x, str) and x.splitlines() == [x]
        ]
        if not labels or len(set(lines)) < len(labels):
            raise ValueError(
                "`labels` must be the classes' names in the order of the "
                "model's units: different texts of one line each. "
                f"Received: {list(labels)[:10]}"
            )
        top_k = 1 if top_k is None else top_k
    most = len(labels) if labels else "the number of classes"
    fits = type(top_k) is int and 0 < top_k <= (most if labels else top_k)
    if top_k is not None and not fits:
        raise ValueError(
            "`top_k` must be how many classes to answer with, from 1 to "
            f"{most}. Received: {top_k!r}"
        )
    return labels, top_k


def add_classes(
    answers: dict[str, tf.Tensor],
    labels: Sequence[str] | None,
    top_k: int | None,
) -> dict[str, tf.Tensor]:
    """Returns answers with `classes` and `scores` of the likeliest classes.

    Both have shape `(batch, top_k)`, best first: `classes` the labels (the
    classes' numbers as text where there are no labels), `scores` their
    probabilities. One unit stands for two classes, the event second. A
    `top_k` of `None` changes nothing.

    Raises:
        ValueError: If the answers are not those of a classifier, or labels
            and units are not equally many.
    """
    if top_k is None:
        return answers
    logits = answers.get("logits")
    if logits is None or len(logits.shape) != 2:
        shapes = {name: tuple(t.shape) for name, t in answers.items()}
        raise ValueError(
            "`labels` and `top_k` need a classifier with one output of shape "
            "(batch, classes). If the model does not say which it is, pass "
            f"head='logits' or head='probabilities'. Received: {shapes}"
        )
    probabilities = answers["probabilities"]
    if logits.shape[-1] == 1:
        logits = tf.concat([tf.zeros_like(logits), logits], -1)
        probabilities = tf.concat([1 - probabilities, probabilities], -1)
    units = logits.shape[-1]
    names = labels or [str(index) for index in range(units)]
    if len(names) != units or top_k > units:
        raise ValueError(
            f"The model has {units} classes; expected a label for each, and a "
            f"`top_k` of at most as many. Received: {len(names)} "
            f"labels, top_k={top_k}"
        )
    # By logits: probabilities of unlikely classes are often equal, at zero.
    _, order = tf.math.top_k(logits, top_k)
    classes = tf.gather(tf.constant(names), order)
    scores = tf.gather(probabilities, order, batch_dims=1)
    return {**answers, CLASSES: classes, SCORES: scores}


def blank_ties(
    answers: dict[str, np.ndarray],
    tolerance: float,
    names: dict[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Returns answers without the classes that the model cannot rank.

    Where two logits differ by no more than an export may, either class is a
    right answer; an empty text stands there, which `verify` compares with
    nothing. `names` are the new names of renamed outputs.
    """
    names = names or {}
    key = names.get(CLASSES, CLASSES)
    if key not in answers:
        return answers
    logits = answers[names.get("logits", "logits")].astype("float64")
    if logits.shape[-1] == 1:
        logits = np.concatenate([0 * logits, logits], -1)
    slack = 2 * allowed_difference(logits, tolerance)
    ranked = -np.sort(-logits, axis=-1)
    close = ranked[:, :-1] - ranked[:, 1:] <= slack
    edge = np.zeros((len(close), 1), bool)
    tied = np.hstack([edge, close]) | np.hstack([close, edge])
    classes = answers[key].astype("S")
    classes[tied[:, : classes.shape[1]]] = b""
    return {**answers, key: classes}


def without_classes(
    answers: dict[str, Any], names: dict[str, str] | None
) -> dict[str, Any]:
    """Returns answers without what `add_classes` added; `names` renamed it."""
    added = {(names or {}).get(key, key) for key in (CLASSES, SCORES)}
    return {key: a for key, a in answers.items() if key not in added}


def attach_labels(path: str | os.PathLike, labels: Sequence[str]) -> None:
    """Puts `labels.txt` into a .tflite file, one label a line.

    It becomes an associated file, as LiteRT's metadata tools pack them: a
    zip archive after the model, which the interpreter does not read. `unzip`
    takes it out, and so does `read_labels`.
    """
    with zipfile.ZipFile(path, "a") as archive:
        # A fixed date: the same model gives the same bytes.
        info = zipfile.ZipInfo(LABELS_FILE)
        archive.writestr(info, "".join(f"{label}\n" for label in labels))


def read_labels(path: str | os.PathLike) -> list[str]:
    """Returns the labels in a .tflite file, none if it has no labels.

    Example:

    ```python
    read_labels("saved_models/student/student.tflite")[0]
    ```
    """
    file = pathlib.Path(path)
    if not zipfile.is_zipfile(file):
        return []
    inside = zipfile.Path(file, LABELS_FILE)
    return inside.read_text("utf-8").splitlines() if inside.exists() else []


def as_settings(labels: Any) -> list[str] | None:
    """Returns labels as plain JSON."""
    return None if labels is None else list(labels)
