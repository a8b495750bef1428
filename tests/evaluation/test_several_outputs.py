# SPDX-License-Identifier: Apache-2.0
"""A task that reads several outputs itself is given those of the teacher."""

from __future__ import annotations

import keras
import numpy as np

import keras_kd as kd
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.teachers import FrozenTeacher

NAMES = ("boxes", "classes", "scores")


def test_detector_of_several_outputs_is_judged_and_compared():
    boxes, one = keras.Input((1, 4), name="boxes"), (1,)
    inputs = [boxes, *(keras.Input(one, name=name) for name in NAMES[1:])]
    outputs = {
        name: part * 1.0 for name, part in zip(NAMES, inputs, strict=True)
    }
    detector = keras.Model(dict(zip(NAMES, inputs, strict=True)), outputs)
    truth = {
        "boxes": np.array([[[0, 0, 8, 8]], [[4, 4, 20, 20]]], "float32"),
        "classes": np.array([[0], [1]], "float32"),
    }
    x = {**truth, "scores": np.array([[0.9], [0.8]], "float32")}
    evaluator = Evaluator(
        FrozenTeacher(detector),
        kd.Data(train=(x, truth), validation=(x, truth)),
        kd.tasks.Detection(),
    )
    teacher = evaluator.teacher_record().metrics
    for figure in ("val_ap", "ap", "agreement"):
        np.testing.assert_allclose(teacher[figure], 1.0)
