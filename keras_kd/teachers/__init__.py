# SPDX-License-Identifier: Apache-2.0
"""Teachers: one source of targets, one file."""

from __future__ import annotations

from typing import overload

import keras

from keras_kd.core.type_aliases import TeacherLike
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.callable import CallableTeacher
from keras_kd.teachers.ema import EMATeacher
from keras_kd.teachers.ensemble import EnsembleTeacher
from keras_kd.teachers.frozen import FrozenTeacher
from keras_kd.teachers.last_epoch import LastEpochTeacher
from keras_kd.teachers.mapped import ClassMapping
from keras_kd.teachers.own_exit import OwnExitTeacher
from keras_kd.teachers.saved_model import SavedModelTeacher

__all__ = [
    "CallableTeacher",
    "ClassMapping",
    "EMATeacher",
    "EnsembleTeacher",
    "FrozenTeacher",
    "LastEpochTeacher",
    "OwnExitTeacher",
    "SavedModelTeacher",
    "Teacher",
    "get",
]


@overload
def get(identifier: None) -> None: ...
@overload
def get(identifier: TeacherLike) -> Teacher: ...
def get(identifier: TeacherLike | None) -> Teacher | None:
    """Returns the teacher that `identifier` stands for.

    Args:
        identifier: A `Teacher`, a trained `keras.Model`, a list of them (an
            ensemble), or `None` (the targets come with the data).
    """
    if identifier is None or isinstance(identifier, Teacher):
        return identifier
    if isinstance(identifier, keras.Model):
        return FrozenTeacher(identifier)
    if isinstance(identifier, (list, tuple)):
        return EnsembleTeacher(identifier)
    raise ValueError(
        "`teacher` must be a trained keras.Model, a keras_kd.teachers.Teacher, "
        "a list of them, or None if the targets come with the data. "
        f"Received: {type(identifier).__module__}.{type(identifier).__name__}"
    )
