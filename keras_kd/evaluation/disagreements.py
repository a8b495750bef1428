# SPDX-License-Identifier: Apache-2.0
"""Disagreements: test examples that student and teacher decide otherwise."""

from __future__ import annotations

import dataclasses
import operator
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.array_files import load_arrays
from keras_kd.core.records import replacing
from keras_kd.core.seals import MALFORMED
from keras_kd.evaluation.examples import as_images
from keras_kd.evaluation.examples import as_texts
from keras_kd.tasks.reading import LOGITS
from keras_kd.tasks.reading import Reader

FILE = "disagreements.npz"
KEPT = 12


@dataclasses.dataclass(frozen=True)
class Disagreements:
    """How often two models differ, and a few examples to look at.

    Args:
        student_name: Row of the report that is compared with the teacher.
        class_names: Names of the classes; empty if not known.
        examples: Examples that were compared.
        total: How many of them the two decide otherwise.
        teacher_right: How many of these the teacher alone has right.
        student_right: How many of these the student alone has right.
        numbers: Places in the test split of the examples kept: `(k,)`.
        labels: Their labels; -1 means none.
        teacher: What the teacher says.
        student: What the student says.
        images: Pictures, uint8 `(k, height, width, 3)`; or empty.
        columns: Names of the columns of `texts`.
        texts: First values of each input as text `(k, columns)`; or empty.
    """

    student_name: str
    class_names: tuple[str, ...]
    examples: int
    total: int
    teacher_right: int
    student_right: int
    numbers: np.ndarray
    labels: np.ndarray
    teacher: np.ndarray
    student: np.ndarray
    images: np.ndarray
    columns: tuple[str, ...]
    texts: np.ndarray

    def _check(self):
        """Raises ValueError unless the arrays can be shown."""
        count = np.shape(self.numbers)
        whole = (self.numbers, self.labels, self.teacher, self.student)
        kinds = [
            (part.dtype.kind, part.shape) for part in map(np.asarray, whole)
        ]
        images, texts = np.asarray(self.images), np.asarray(self.texts)
        seen = images.ndim == 4 and images.dtype == np.uint8
        if (
            any(kind not in "biu" or shape != count for kind, shape in kinds)
            or not (seen or not images.size)
            or texts.dtype.kind not in "Uf"
        ):
            raise ValueError(f"{kinds}, {images.dtype}, {texts.dtype}")

    def save(self, path: str | os.PathLike) -> None:
        """Writes one .npz file, atomically."""
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike) -> Disagreements:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is another or a damaged file.
        """
        try:
            # Numbers and text come back as arrays without an axis.
            found: dict[str, Any] = {
                name: array if array.ndim else array.item()
                for name, array in load_arrays(path).items()
            }
            for name in ("class_names", "columns"):
                found[name] = tuple(found[name].tolist())
            loaded = cls(**found)
            loaded._check()
            return loaded
        except MALFORMED as error:
            raise ValueError(
                f"{path} holds no disagreements. Expected the file that "
                "Disagreements.save writes. Delete it and measure again. "
                f"Received: {error!r}"
            ) from error


def find_disagreements(
    split: Any,
    labels: np.ndarray,
    teacher_logits: np.ndarray,
    student_outputs: dict[str, np.ndarray],
    student_name: str = "student",
    class_names: tuple[str, ...] = (),
) -> Disagreements | None:
    """Finds where a student decides otherwise than its teacher.

    The examples kept are those of which the teacher is surest.

    Args:
        split: What both were run on, in a fixed order: arrays `(x, y)` or a
            batched `tf.data.Dataset`.
        labels: Labels of the split.
        teacher_logits: The teacher's logits on it.
        student_outputs: The student's outputs on it, by name.
        student_name: Row of the report that the student is.
        class_names: Names of the classes, if known.

    Returns:
        The `Disagreements`; `None` unless there is one decision per example
        and one class number as its label.
    """
    theirs = _decisions(teacher_logits, LOGITS)
    ours = _decisions(student_outputs)
    labels = np.asarray(labels)
    sizes = {len(ours), theirs.size, ours.size, labels.size}
    if len(sizes) != 1 or not np.equal(np.mod(labels, 1), 0).all():
        return None
    ours, theirs = ours.ravel(), theirs.ravel()
    labels = labels.ravel().astype(np.int64)
    differ = ours != theirs
    top = np.sort(teacher_logits.reshape(len(ours), -1), axis=-1)
    is_unit = top.shape[-1] == 1
    lead = np.abs(top[:, 0]) if is_unit else top[:, -1] - top[:, -2]
    found = np.flatnonzero(differ)
    kept = found[np.argsort(-lead[found], kind="stable")][:KEPT]
    inputs = inputs_at(split, kept)
    images = as_images(inputs)
    columns, texts = as_texts(inputs) if images is None else ((), [])
    return Disagreements(
        student_name=student_name,
        class_names=tuple(map(str, class_names)),
        examples=len(ours),
        total=len(found),
        teacher_right=int((differ & (theirs == labels)).sum()),
        student_right=int((differ & (ours == labels)).sum()),
        numbers=kept,
        labels=labels[kept],
        teacher=theirs[kept],
        student=ours[kept],
        images=np.zeros((0,), np.uint8) if images is None else images,
        columns=tuple(columns),
        texts=np.asarray(texts, dtype=np.str_),
    )


def _decisions(outputs, form=None):
    reader = Reader(form)
    is_unit = reader.array(outputs).shape[-1] == 1
    return reader.decisions(reader.scores(outputs, certain=is_unit))


def inputs_at(split: Any, numbers: np.ndarray) -> Any:
    """Returns the inputs of examples, in the order of `numbers`."""
    if not isinstance(split, tf.data.Dataset):
        return tf.nest.map_structure(lambda a: np.asarray(a)[numbers], split[0])
    ascending = np.sort(numbers)
    start, parts = 0, []
    for x, *_ in split.as_numpy_iterator():
        end = start + len(tf.nest.flatten(x)[0])
        rows = ascending[(ascending >= start) & (ascending < end)] - start
        parts.append(tf.nest.map_structure(operator.itemgetter(rows), x))
        start = end
    order = np.searchsorted(ascending, numbers)
    return tf.nest.map_structure(lambda *a: np.concatenate(a)[order], *parts)
