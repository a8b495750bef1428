# SPDX-License-Identifier: Apache-2.0
"""Targets that come with the data, instead of from a teacher in the step.

They travel beside the inputs, as `{"inputs": x, "teacher_targets": {...}}`,
so labels, class weights and sample weights stay what Keras expects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_kd.core.output_kinds import check_outputs
from keras_kd.core.progress import progress_bar
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.parts import check_one_size
from keras_kd.data.splits import as_dataset
from keras_kd.targets.build.labelling import target_keys
from keras_kd.targets.build.labelling import teacher_call
from keras_kd.teachers.base import Teacher

INPUTS = "inputs"
TARGETS = "teacher_targets"
SAMPLE_INDEX = "sample_index"
"""Key among the targets: which sample of the data set each example is."""


def attach_targets(
    x: Arrays, targets: Arrays, outputs: str | dict | None = None
) -> dict:
    """Returns inputs that carry a teacher's taps.

    Args:
        x: A batch of the student's inputs (or all of them).
        targets: The teacher's output `(batch, ...)`, or `{tap: tensor}`, each
            of such a shape. One of them may be a dict that says what it is,
            as in `{"output": {"logits": tensor}}`; see
            `keras_kd.core.output_kinds.TARGETS`. `"sample_index"`, integers
            `(batch,)` that tell samples apart, is for losses that remember
            them; it may come alone, beside a teacher.
        outputs: What all of the targets are, `"logits"`, `"probabilities"` or
            `"values"`, or a dict of these by tap. Class scores of which it is
            not said are looked at in the first batches, and are an error
            unless these show for certain what they are.

    Raises:
        ValueError: If `outputs` is none of the above, or `targets` is a list.

    Example:

    ```python
    logits = teacher.predict(images)   # or np.load(...)
    distiller = kd.Distiller(teacher=None, student=student)
    distiller.compile("adam", loss=cross_entropy)
    distiller.fit(kd.attach_targets(images, logits, "logits"), labels)
    ```
    """
    check_outputs(outputs)
    if isinstance(targets, list | tuple):
        raise ValueError(
            "Expected the teacher's output as one array, or a dict "
            "{name of the output or tap: array}. Received: a "
            f"{type(targets).__name__} of {len(targets)}"
        )
    if not isinstance(targets, dict):
        targets = {"output": targets}
    return {
        INPUTS: x,
        TARGETS: {
            tap: _saying(target, tap, outputs)
            for tap, target in targets.items()
        },
    }


def _saying(target, tap, outputs):
    kind = outputs.get(tap) if isinstance(outputs, dict) else outputs
    if kind is None or tap == SAMPLE_INDEX or isinstance(target, dict):
        return target
    return {kind: target}


def split_targets(x):
    """Returns `(inputs, targets)`; targets are `None` if `x` has none."""
    if isinstance(x, dict) and set(x) == {INPUTS, TARGETS}:
        return x[INPUTS], x[TARGETS]
    return x, None


def outputs_of(
    teacher: Teacher,
    split: Split,
    batch_size: int = 256,
    verbose: bool = True,
    names: Sequence[str] | None = None,
) -> np.ndarray | dict[str, np.ndarray]:
    """Runs a teacher over a split once.

    Args:
        teacher: Any teacher.
        split: Arrays `(x, y)` or a batched `tf.data.Dataset`.
        batch_size: Examples per batch, where `split` holds arrays.
        verbose: Whether to show a progress bar.
        names: Which of several outputs to return, in a dict.

    Returns:
        Its output as float32 logits `(examples, ..., classes)`, in the order
        of the split; as it is where it is not known to be class scores.
    """
    taps = tuple(names or ("output",))
    batches = as_dataset(split, batch_size)
    length = int(batches.cardinality())
    compiled = first = None
    found = []
    total = length if length > 0 else None
    with progress_bar("teacher", total, "batches", verbose) as advance:
        for x, *_ in batches:
            first = first or tf.nest.flatten(x)
            for parts in zip(first, tf.nest.flatten(x), strict=True):
                check_one_size(parts, "inputs")  # so are the answers
            compiled = compiled or teacher_call(teacher, taps, x)
            answers = compiled(x)
            found.append([answers[tap].numpy() for tap in taps])
            advance()
    whole = map(np.concatenate, zip(*found, strict=True))
    by_tap = dict(zip(taps, whole, strict=True))
    return by_tap if names else by_tap["output"]


def target_of(teacher: Teacher, output: np.ndarray) -> dict | np.ndarray:
    """Returns what `outputs_of` gave as a target that says what it is."""
    key = target_keys(teacher, ("output",))["output"]
    return output if key is None else {key: output}
