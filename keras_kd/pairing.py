# SPDX-License-Identifier: Apache-2.0
"""Pairing: whether teacher, student and losses can work together at all."""

from __future__ import annotations

import keras

from keras_kd import heads
from keras_kd import losses as losses_module
from keras_kd import teachers

_RESERVED = ("loss", "student_loss", "teacher_agreement")


def check_known_shapes(loss, source, student_pass) -> None:
    """Compares shapes before the first step, where they are known."""
    teacher = source.shape(loss.teacher)
    student = student_pass.shape(loss.student)
    if loss.projector is not None or not teacher or not student:
        return
    if loss.logits:
        scores = map(keras.KerasTensor, (teacher, student))
        teacher, student = (s.shape for s in heads.comparable(*scores))
    loss.check_shapes(teacher, student)


def check_not_itself(loss, own_tap) -> None:
    """Raises if a loss compares a tap of the student with itself."""
    if own_tap == loss.student:
        raise ValueError(
            f"{type(loss).__name__} would compare the student's tap "
            f"'{own_tap}' with itself. Name the shallower one that has to "
            f"learn, as in {type(loss).__name__}(student='early_exit')."
        )


def check_pair(teacher, student) -> None:
    """Raises unless `student` is a model of its own."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "`student` must be a keras.Model (Keras 3). Received: "
            f"{type(student).__module__}.{type(student).__name__}"
        )
    if any(student is model for model in _models_of(teacher)):
        raise ValueError(
            "Student and teacher are the same object, so there is nothing to "
            "learn. Build a second model, or copy it with "
            "keras.models.clone_model."
        )


def _models_of(teacher) -> list:
    if isinstance(teacher, (list, tuple)):
        return [model for each in teacher for model in _models_of(each)]
    is_teacher = isinstance(teacher, teachers.Teacher)
    return list(teacher.models) if is_teacher else [teacher]


def losses_by_name(losses) -> dict:
    """Returns a loss or list of losses by the keys they have in logs."""
    if not isinstance(losses, (list, tuple)):
        losses = [losses]
    if not losses:
        raise ValueError(
            "`distillation_losses` is empty. Give at least one loss, or leave "
            "it out for SoftTargets; alpha=0 turns distillation off."
        )
    named: dict = {}
    for loss in map(losses_module.get, losses):
        name, count = loss.name, 1
        while name in named or name in _RESERVED:
            count += 1
            name = f"{loss.name}_{count}"
        named[name] = loss
    return named
