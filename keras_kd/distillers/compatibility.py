# SPDX-License-Identifier: Apache-2.0
"""Pairing: whether teacher, student and losses can work together at all."""

from __future__ import annotations

import re
import warnings

import keras

from keras_kd import losses as losses_module
from keras_kd import teachers
from keras_kd.core import output_heads
from keras_kd.core.taps import for_taps
from keras_kd.distillers.own_step import check_own_step

_RESERVED = ("loss", "student_loss", "teacher_agreement")


def check_known_shapes(loss, source, student_pass) -> None:
    """Compares shapes before the first step, where they are known."""
    if loss.projector is not None:
        return
    teacher = for_taps(loss.teacher, source.shape)
    student = for_taps(loss.student, student_pass.shape)
    if teacher is None or student is None:
        return
    if loss.logits:
        scores = map(keras.KerasTensor, (teacher, student))
        teacher, student = (s.shape for s in output_heads.comparable(*scores))
    loss.check_shapes(teacher, student)


def check_alike(loss, heads: tuple) -> None:
    """Raises if a loss of Keras' would compare logits with probabilities.

    Args:
        loss: Any distillation loss.
        heads: What teacher and student end in, `None` where unknown.
    """
    as_given = getattr(loss, "as_given", False)
    if as_given and None not in heads and heads[0] != heads[1]:
        raise ValueError(
            f"{type(loss.loss).__name__} of keras.distillation compares "
            "outputs as they are, and these cannot be compared. Expected two "
            "that end alike; stored targets and ensembles are logits "
            "('linear'). Received: a teacher that ends in '{}', a student "
            "that ends in '{}'. Use keras_kd.losses.SoftTargets, which reads "
            "each side for what it is.".format(*heads)
        )


def check_not_itself(loss, own_taps: dict) -> None:
    """Raises if a loss compares a tap of the student with itself."""
    for theirs, ours in zip(*loss.taps, strict=False):
        if own_taps.get(theirs) == ours:
            name = type(loss).__name__
            raise ValueError(
                f"{name} would compare the student's tap '{ours}' with "
                "itself. Name the shallower one that has to learn, as in "
                f"{name}(student='early_exit')."
            )


def check_pair(teacher, student) -> None:
    """Raises unless `student` is a model of its own."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "`student` must be a keras.Model (Keras 3). Received: "
            f"{type(student).__module__}.{type(student).__name__}"
        )
    check_own_step(student)
    if any(student is model for model in _models_of(teacher)):
        raise ValueError(
            "Student and teacher are the same object, so there is nothing to "
            "learn. Build a second model, or copy it with "
            "keras.models.clone_model."
        )

    _check_not_shared(_models_of(teacher), student)
    _warn_of_augmentation(student)


def _check_not_shared(models, student) -> None:
    """Raises if training the student would change its teacher."""
    theirs = {
        id(weight)
        for model in models
        if isinstance(model, keras.Model)
        for weight in model.weights
    }
    shared = [
        layer.name
        for layer in student._flatten_layers()
        if layer.trainable
        and not any(layer._flatten_layers(recursive=False, include_self=False))
        and theirs & set(map(id, layer.weights))
    ]
    if shared:
        raise ValueError(
            f"The student '{student.name}' trains layers that are the "
            f"teacher's own, which would change the teacher: {shared}. Freeze "
            "them with `layer.trainable = False`, or build the student on "
            "copies: layer.from_config(layer.get_config()), then set_weights."
        )


_AUGMENTS = re.compile(
    "Random[A-Z].*|RandAugment|AugMix|CutMix|MixUp|Solarization"
)


def _warn_of_augmentation(student) -> None:
    layers = [
        layer.name
        for layer in student._flatten_layers()
        if _AUGMENTS.fullmatch(type(layer).__name__)
    ]
    if layers:
        warnings.warn(
            f"The student '{student.name}' augments its inputs itself, by "
            f"{layers}, so the teacher answers to another picture than it "
            "sees. Augment the data instead, as in `dataset.map(augment)`, "
            "which shows both the same.",
            stacklevel=4,
        )


def _models_of(teacher) -> list:
    if isinstance(teacher, (list, tuple)):
        return [model for each in teacher for model in _models_of(each)]
    is_teacher = isinstance(teacher, teachers.Teacher)
    return list(teacher.models) if is_teacher else [teacher]


def losses_by_name(losses) -> dict:
    """Returns losses in any form by the keys they have in logs."""
    named: dict = {}
    for loss in losses_module.get_all(losses):
        name, count = loss.name, 1
        while name in named or name in _RESERVED:
            count += 1
            name = f"{loss.name}_{count}"
        named[name] = loss
    return named
