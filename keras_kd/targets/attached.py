# SPDX-License-Identifier: Apache-2.0
"""Targets that come with the data, instead of from a teacher in the step.

They travel beside the inputs, as `{"inputs": x, "teacher_targets": {...}}`,
so labels, class weights and sample weights stay what Keras expects.
"""

from __future__ import annotations

import numpy as np

from keras_kd.core.progress import progress_bar
from keras_kd.core.type_aliases import Arrays
from keras_kd.data.splits import as_dataset
from keras_kd.targets.build.labelling import teacher_call
from keras_kd.teachers.base import Teacher

INPUTS = "inputs"
TARGETS = "teacher_targets"
SAMPLE_INDEX = "sample_index"
"""Key among the targets: which sample of the data set each example is."""


def attach_targets(x: Arrays, targets: dict) -> dict:
    """Returns inputs that carry a teacher's taps.

    Args:
        x: A batch of the student's inputs (or all of them).
        targets: `{tap: tensor}`, each of shape `(batch, ...)`; `"output"` as
            logits. `"sample_index"`, integers `(batch,)` that tell samples
            apart, is for losses that remember them; it may come alone, beside
            a teacher.

    Example:

    ```python
    logits = teacher.predict(images)   # or np.load(...)
    distiller = kd.Distiller(teacher=None, student=student)
    distiller.compile("adam", loss=cross_entropy)
    distiller.fit(kd.attach_targets(images, {"output": logits}), labels)
    ```
    """
    return {INPUTS: x, TARGETS: targets}


def split_targets(x):
    """Returns `(inputs, targets)`; targets are `None` if `x` has none."""
    if isinstance(x, dict) and set(x) == {INPUTS, TARGETS}:
        return x[INPUTS], x[TARGETS]
    return x, None


def outputs_of(
    teacher: Teacher, split, batch_size: int = 256, verbose: bool = True
) -> np.ndarray:
    """Runs a teacher over a split once.

    Args:
        teacher: Any teacher.
        split: Arrays `(x, y)` or a batched `tf.data.Dataset`.
        batch_size: Examples per batch, where `split` holds arrays.
        verbose: Whether to show a progress bar.

    Returns:
        Its output as float32 logits `(examples, ..., classes)`, in the order
        of the split.
    """
    batches = as_dataset(split, batch_size)
    length = int(batches.cardinality())
    compiled = None
    found = []
    total = length if length > 0 else None
    with progress_bar("teacher", total, "batches", verbose) as advance:
        for x, *_ in batches:
            compiled = compiled or teacher_call(teacher, ("output",), x)
            found.append(compiled(x)["output"].numpy())
            advance()
    return np.concatenate(found)
