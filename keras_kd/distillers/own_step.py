# SPDX-License-Identifier: Apache-2.0
"""What a student's own `fit` would minimise, and whether it can be told."""

from __future__ import annotations

import keras


def check_own_step(student: keras.Model) -> None:
    """Raises if a student trains by a step of its own, which would not run.

    Raises:
        ValueError: If its class overrides `train_step` or `test_step`.
    """
    for step in ("train_step", "test_step"):
        if getattr(type(student), step) is not getattr(keras.Model, step):
            raise ValueError(
                f"The student '{student.name}' is a {type(student).__name__} "
                f"with a `{step}` of its own, which a distiller would pass "
                "by: it takes the steps itself. Move what the step minimises "
                "into `compute_loss(x, y, y_pred, sample_weight, training)`, "
                "which is used as it is, or give the inner model as student."
            )


def has_own_loss(student: keras.Model) -> bool:
    """Whether a student says itself what its `fit` minimises."""
    return type(student).compute_loss is not keras.Model.compute_loss


def learns_labels(distiller, y) -> bool:
    """Whether a batch has a label loss: its labels, and what takes them."""
    compiled = y is not None and distiller.loss is not None
    return compiled or has_own_loss(distiller.student)


def measured(distiller, data, step) -> dict:
    """Returns the logs of a batch that a student is evaluated on.

    Args:
        distiller: The distiller.
        data: The batch.
        step: Keras' `test_step`. Its loss is left out where there is none.

    Raises:
        ValueError: If the batch holds nothing to evaluate a student on.
    """
    _, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    if y is None and not has_own_loss(distiller.student):
        raise ValueError(
            "There are no labels to evaluate on, and evaluation never runs "
            "the teacher, so there is no figure. Give labels, (x, y), or "
            "leave out `validation_data` and let callbacks watch what "
            "training reports, such as monitor='loss'."
        )
    logs = step(data)
    if not learns_labels(distiller, y):
        logs.pop("loss", None)  # 0 for ever: EarlyStopping would go by it
    return logs


def own_loss(compiled, x, y, y_pred, sample_weight, training):
    """Returns a student's own `compute_loss`.

    Args:
        compiled: The distiller. While the loss is computed the student is
            lent what that was compiled with.
        x: As Keras gives it to `compute_loss`, and so on.
        y: Labels, or `None`.
        y_pred: The student's prediction.
        sample_weight: Sample weights, or `None`.
        training: Whether it is a training step.
    """
    student = compiled.student
    before = {name: getattr(student, name, None) for name in _LENT}
    try:
        for name in _LENT:
            setattr(student, name, getattr(compiled, name))
        return student._compute_loss(x, y, y_pred, sample_weight, training)
    finally:
        for name, value in before.items():
            setattr(student, name, value)


_LENT = ("loss", "_compile_loss")
