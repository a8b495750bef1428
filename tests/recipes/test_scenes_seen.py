# SPDX-License-Identifier: Apache-2.0
"""The two models; their scenes are tested with the recipe scenes."""

from __future__ import annotations

from keras_kd.recipes import scenes
from keras_kd.recipes import scenes_seen


def test_teacher_sees_and_reads_and_the_student_only_sees():
    teacher, student = scenes_seen.build_teacher(), scenes_seen.build_student()
    assert set(teacher.input) == {"picture", "name"}
    assert student.input.name == "picture"
    for model in (teacher, student):
        assert model.output_shape == (None, len(scenes.KINDS))
    assert 10 * student.count_params() < teacher.count_params()
