# SPDX-License-Identifier: Apache-2.0
"""Outputs, inputs, labels and tasks by name, in lists, or as they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.teachers import FrozenTeacher
from keras_kd.training.task_of import headline_of

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


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("task", ["alone", "in a dict"])
def test_sole_output_is_judged_alone_or_by_name(by_name, task):
    inputs = keras.Input((3,))
    kind = keras.layers.Identity(name="kind")(inputs)
    model = keras.Model(inputs, {"kind": kind} if by_name else kind)
    z = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    y, weight = np.arange(20) % 3, np.arange(20.0)
    right = ((z.argmax(axis=-1) == y) * weight).sum() / weight.sum()
    one = kd.tasks.Classification()
    given = one if task == "alone" else {"kind": one}
    forms = [(z, y, weight), (z, {"kind": y}, {"kind": weight})]
    for data in forms:
        found = kd.measure(model, data, task=given, latency=False)
        assert found["accuracy"] == pytest.approx(right)
        judged = headline_of(kd.tasks.get(given), model, data)
        assert judged == pytest.approx(right)


def test_inputs_in_a_list_are_several_inputs():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = keras.Model(inputs, keras.layers.Subtract()(inputs))
    a, b = np.random.default_rng(0).normal(size=(2, 20, 3)).astype("float32")
    y = np.arange(20) % 3
    task = kd.tasks.Classification()
    found = kd.measure(model, ([a, b], y), task=task, latency=False)
    right = (np.argmax(a - b, axis=-1) == y).mean()
    assert found["accuracy"] == pytest.approx(right)


def test_labels_of_several_outputs_in_a_list_have_no_names():
    inputs = keras.Input((3,))
    ends = {n: keras.layers.Identity(name=n)(inputs) for n in ("a", "b")}
    model = keras.Model(inputs, ends)
    z, y = np.eye(3, dtype="float32"), np.arange(3)
    task = dict.fromkeys("ab", kd.tasks.Classification())
    with pytest.raises(ValueError, match="`labels` must be a dict with 'a'"):
        kd.measure(model, (z, [y, y]), task=task, headline="a", latency=False)
