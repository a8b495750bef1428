# SPDX-License-Identifier: Apache-2.0
"""Teachers: one source of targets, one file."""

from __future__ import annotations

import keras

from keras_kd.teachers.base import Teacher
from keras_kd.teachers.frozen import FrozenTeacher

__all__ = ["FrozenTeacher", "Teacher", "get"]


def get(identifier) -> Teacher | None:
    """Returns the teacher that `identifier` stands for.

    Args:
        identifier: A `Teacher`, a trained `keras.Model`, or `None` (the
            targets come with the data).
    """
    if identifier is None or isinstance(identifier, Teacher):
        return identifier
    if isinstance(identifier, keras.Model):
        return FrozenTeacher(identifier)
    raise ValueError(
        "`teacher` must be a trained keras.Model, a keras_kd.teachers.Teacher, "
        "or None if the targets come with the data. "
        f"Received: {type(identifier).__module__}.{type(identifier).__name__}"
    )
