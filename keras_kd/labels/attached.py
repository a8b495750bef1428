# SPDX-License-Identifier: Apache-2.0
"""Targets that come with the data, instead of from a teacher in the step.

They travel beside the inputs, as `{"inputs": x, "teacher_targets": {...}}`,
so labels, class weights and sample weights stay what Keras expects.
"""

from __future__ import annotations

INPUTS = "inputs"
TARGETS = "teacher_targets"


def attach_targets(x, targets: dict) -> dict:
    """Returns inputs that carry a teacher's taps.

    Args:
        x: A batch of the student's inputs (or all of them).
        targets: `{tap: tensor}`, each of shape `(batch, ...)`; `"output"` as
            logits.

    Example:

    ```python
    x = attach_targets(images, {"output": teacher.predict(images)})
    kd.Distiller(teacher=None, student=student).compile(...).fit(x, y)
    ```
    """
    return {INPUTS: x, TARGETS: targets}


def split_targets(x):
    """Returns `(inputs, targets)`; targets are `None` if `x` has none."""
    if isinstance(x, dict) and set(x) == {INPUTS, TARGETS}:
        return x[INPUTS], x[TARGETS]
    return x, None
