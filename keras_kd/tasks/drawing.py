# SPDX-License-Identifier: Apache-2.0
"""Drawing: what the pictures of several tasks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.data.splits import UNLABELLED

RIGHT, WRONG = "#009e73", "#d55e00"
LETTERS = 160
TOKENS = 24
SIGNAL = 64  # values from which a row of numbers is drawn as a curve


def batch_of_one(outputs: Any) -> Any:
    """Returns one example's outputs as a batch."""
    if isinstance(outputs, Mapping):
        return {name: np.asarray(v)[None] for name, v in outputs.items()}
    return np.asarray(outputs)[None]


def name_of(number: Any, names: Sequence[str]) -> str:
    """Returns what a class is called; a dash for none."""
    number = int(number)
    if number == UNLABELLED:
        return "\N{EN DASH}"
    return str(names[number]) if number < len(names) else str(number)


def show_input(axis: Any, x: Any) -> None:
    """Draws an input: an image if it is one, a signal, or text."""
    axis.set_axis_off()
    parts = x.values() if isinstance(x, Mapping) else [x]
    arrays = [np.asarray(part) for part in parts]
    images = [array for array in arrays if is_image(array)]
    if len(images) == 1:
        axis.imshow(as_picture(images[0]), cmap="gray")
        return
    if len(arrays) == 1 and arrays[0].dtype.kind == "f":
        signal = arrays[0].squeeze()
        if signal.ndim == 1 and len(signal) >= SIGNAL:
            axis.plot(signal, linewidth=0.4)
            return
    lines = [_text(array) for array in arrays]
    axis.text(0, 0.5, "\n".join(lines), wrap=True, fontsize=7, va="center")


def is_image(array: np.ndarray) -> bool:
    """Whether an input is a picture: `(height, width)` and 1 or 3 colours."""
    if array.dtype.kind not in "uif" or min(array.shape[:2], default=0) < 4:
        return False
    if array.ndim == 3:
        return array.shape[-1] in (1, 3)
    return array.ndim == 2


def as_picture(image: np.ndarray) -> np.ndarray:
    """Returns an image in the range that matplotlib draws."""
    image = image[..., 0] if image.shape[-1] == 1 else image
    if image.dtype == np.uint8:
        return image
    image = np.nan_to_num(image.astype(np.float64))
    span = image.max() - image.min()
    return (image - image.min()) / (span or 1)


def decisions(axis: Any, label: str, teacher: str, student: str) -> None:
    """Writes above an input what is right and what both models say."""
    text = f"label {label}\nteacher {teacher}\nstudent {student}"
    color = RIGHT if student == label else WRONG
    axis.set_title(text, fontsize=7, loc="left", color=color)


def input_with_decisions(axis, x, label, teacher, student, meter, names):
    """Draws an input and, above it, the classes of label and models."""
    show_input(axis, x)
    texts = []
    numbers = np.asarray(label)
    for outputs in (teacher, student):
        counter = meter()
        scores = counter._scores(counter.reader, batch_of_one(outputs))
        chosen = counter.reader.decisions(scores).ravel()
        texts.append(" ".join(name_of(i, names) for i in chosen[:TOKENS]))
        if (
            numbers.ndim
            and numbers.shape == scores.shape[1:]
            and (scores.shape[-1] > 1)
        ):
            numbers = numbers.argmax(axis=-1)
    label = " ".join(name_of(i, names) for i in numbers.ravel()[:TOKENS])
    decisions(axis, label, *texts)


def mask(axis: Any, classes_at: np.ndarray, classes: int, ignored: Any) -> None:
    """Draws a map of class numbers; what is ignored stays white."""
    left_out = classes_at < 0
    if ignored is not None:
        left_out = left_out | (classes_at == ignored)
    shown = np.ma.masked_where(left_out, classes_at)
    axis.set_axis_off()
    axis.imshow(
        shown,
        cmap="tab20",
        vmin=0,
        vmax=max(classes - 1, 1),
        interpolation="none",
    )


def token_rows(
    axis: Any,
    label: Sequence[str],
    teacher: Sequence[str],
    student: Sequence[str],
    x: Any = None,
) -> None:
    """Writes label and models in rows, position below position.

    Above them stands the input, if it has a value for each position. What a
    position says is turned, so that long words find room.
    """
    axis.set_axis_off()
    rows = [("label", label), ("teacher", teacher), ("student", student)]
    values = np.empty(0) if x is None or isinstance(x, Mapping) else x
    if np.size(values) == len(label):
        rows.insert(
            0, ("input", [_text(np.asarray(v)) for v in np.ravel(values)])
        )
    shown = min(len(label), TOKENS)
    for place_of_row, (title, tokens) in enumerate(rows):
        y = 1 - (place_of_row + 0.5) / len(rows)
        axis.text(-0.02, y, title, fontsize=7, ha="right", va="center")
        for place, token in enumerate(tokens[:shown]):
            color = RIGHT if token == label[place] else WRONG
            is_given = title in ("input", "label")
            axis.text(
                (place + 0.5) / shown,
                y,
                token,
                fontsize=6,
                rotation=60 if shown > 8 else 0,
                ha="center",
                va="center",
                color="black" if is_given else color,
            )


def _text(array):
    values = array.ravel()[:TOKENS]
    if array.dtype.kind in "OSU":
        words = [
            v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)
            for v in values
        ]
        return " ".join(words)[:LETTERS]
    return ", ".join(f"{value:.4g}" for value in values)[:LETTERS]
