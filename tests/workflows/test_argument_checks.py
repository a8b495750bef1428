# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a run is said in words, before its first step."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.training.trainer import train
from keras_kd.workflows import argument_checks
from saved_before import made_by

X, Y = made_by.split(16)
NAN = X.copy()
NAN[11, 2] = np.nan
INFINITE = X.copy()
INFINITE[3] = np.inf


def build(classes=3, features=4, width=2):
    layers = [keras.layers.Dense(width), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input((features,)), *layers])


def data(x=X, y=Y, **options):
    return kd.Data(train=(X, Y), validation=(x, y), **options)


def text():
    return "student"


MODEL = build()

WRONG = {
    "epochs": ({"epochs": 0}, "`epochs` must be a whole number of at least 1"),
    "batch_size": ({"batch_size": 0}, "`batch_size` must be a whole number"),
    "prune_epochs": ({"prune_epochs": 0}, "`prune_epochs` must be a whole"),
    "seeds": ({"seeds": 3}, "For 3 seeds write seeds=(0, 1, 2)"),
    "seed 0": ({"seeds": 0}, "For seed 0 alone write seeds=(0,)."),
    "no seeds": ({"seeds": ()}, "`seeds` must hold at least one seed"),
    "same seeds": ({"seeds": (1, 1)}, "each a different whole number"),
    "rate": (
        {"learning_rate": -1e-3},
        "`learning_rate` must be a number",
    ),
    "percent": ({"prune": 50}, "For 50 % write 0.5"),
    "formats": ({"formats": "tflight"}, "Did you mean 'tflite'"),
    "quantize": ({"quantize": ("int8", "flaot16")}, "Did you mean 'float16'"),
    "alpha": ({"alpha": 70}, "`alpha` must be a number from 0 to 1"),
    "temperature": ({"temperature": 0}, "`temperature` must be a number above"),
    "schedule": (
        {"temperature": kd.callbacks.linear(4.0, 1.0, 3)},
        "callbacks=[kd.callbacks.Schedule(...)]",
    ),
    "search": ({"search": 0}, "`search` must be a whole number"),
    "nothing built": ({"build_student": lambda: None}, "lack a `return`"),
    "text built": ({"build_student": text}, "Received: 'student'"),
    "one student": ({"build_student": lambda: MODEL}, "the same model twice"),
    "a student": ({"build_student": build()}, "must be a function"),
    "no data": ({"data": (X, Y)}, "kd.Data(train=(x, y), validation="),
    "infinity": ({"data": data(INFINITE)}, "inf in example 3"),
    "head": ({"head": "logit"}, "`head` must be None, one of"),
    "tolerance": ({"tolerance": -1}, "`tolerance` must be a number"),
    "nan": ({"data": data(NAN)}, "`validation`: input values must be finite"),
    "names": (
        {"data": data(class_names=("a", "b"))},
        "Received: 2 names",
    ),
    "strings": ({"data": data(y=Y.astype(str))}, "np.unique(y, return_inverse"),
    "classes": ({"data": data(y=Y + 1)}, "and values from 1 to 3"),
    "training classes": (
        {"data": kd.Data(train=(X, Y + 1), validation=(X, Y))},
        "Labels of `train`: Labels must be class numbers from 0 to 2",
    ),
    "shapes": (
        {"data": data(), "build_student": lambda: build(features=5)},
        "Expected: (5,). Received: (4,)",
    ),
    "teacher": ({"teacher": build(classes=7)}, "must have the same classes"),
    "no teacher": ({"teacher": None}, "must be a trained keras.Model"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_compress_says_what_is_wrong_before_any_training(
    tmp_path, monkeypatch, change, message
):
    monkeypatch.setattr("keras_kd.workflows.seeds.train", None)
    given = {
        "teacher": build(),
        "build_student": build,
        "data": data(),
        "directory": tmp_path / "run",
        "verbose": 0,
        **change,
    }
    with pytest.raises(ValueError) as caught:
        kd.compress(**given)
    assert message in str(caught.value)
    assert not (tmp_path / "run" / "stages").exists()


def test_labels_and_inputs_are_by_name():
    """As they are in the files that are made."""
    pair = kd.tasks.get(
        {"a": kd.tasks.Regression(), "b": kd.tasks.Regression()}, headline="a"
    )
    for labels, task in (((Y, Y), pair), ({"a": Y}, pair), (Y, pair)):
        given = kd.Data(train=(X, labels), validation=(X, labels))
        with pytest.raises(ValueError, match="of `train` must be a dict"):
            argument_checks.check_label_names(given, task)
    both = kd.Data(
        train=(X, {"a": Y, "b": Y}), validation=(X, {"a": Y, "b": Y})
    )
    argument_checks.check_label_names(both, pair)
    argument_checks.check_label_names(data(), kd.tasks.Classification())
    with pytest.raises(ValueError, match="inputs of `test` must be a dict"):
        argument_checks.check_input_names((X, X), build(), "test")
    argument_checks.check_input_names({"x": X}, build(), "test")


def test_student_larger_than_its_teacher_is_warned_of():
    found = argument_checks.check_lesson(
        build(), lambda: build(width=9), data()
    )
    assert "more than its teacher" in found[0]
    assert argument_checks.check_lesson(build(), build, data()) == []


def test_one_hot_labels_are_of_their_classes():
    hot = np.eye(3, dtype="float32")[Y]
    splits = kd.Data((X, hot), (X, hot))
    task = kd.tasks.Classification(one_hot=True)
    argument_checks.check_lesson(build(), build, splits, task=task)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1.0}]
)
def test_training_and_pruning_refuse_wrong_numbers(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        train(build, data(), title=None, **wrong)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        kd.prune(build(), (X, Y), **wrong)
    if name != "learning_rate":
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            kd.search(build(), build, data(), **wrong)


def test_teacher_that_answers_nan_to_a_stream_is_told():
    stream = kd.data.as_dataset((NAN, Y), 8)
    splits = kd.Data(train=(X, Y), validation=stream)
    evaluator = Evaluator(kd.teachers.get(build()), splits)
    with pytest.raises(ValueError, match="example 11 of `"):
        evaluator.teacher_record()
