# SPDX-License-Identifier: Apache-2.0
"""SavedModelTeacher: what is served can teach."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from keras_kd.teachers import SavedModelTeacher
from selection import quick
from teachers.learning import learned_agreement
from teachers.learning import trained

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def write(path, answer, **inputs):
    """Writes a SavedModel of a function of named inputs."""
    module = tf.Module()
    module.model = linear(1)
    specs = {
        name: tf.TensorSpec((None, 4), dtype, name)
        for name, dtype in (inputs or {"x": tf.float32}).items()
    }
    function = tf.function(lambda **x: answer(module.model, **x))
    tf.saved_model.save(
        module, path, signatures=function.get_concrete_function(**specs)
    )
    return path


def both(model, x):
    logits = model(x)
    return {"probabilities": tf.nn.softmax(logits), "logits": logits}


def fit(teacher, **mode):
    student = linear(2)
    distiller = kd.Distiller(teacher, student, alpha=0.5)
    distiller.compile(keras.optimizers.SGD(0.1), cross_entropy(), **mode)
    distiller.fit(X, Y, **FIT)
    return student


@pytest.mark.parametrize("output", quick(1, [None, "logits", "probabilities"]))
def test_saved_model_teacher_equals_the_model_that_was_saved(tmp_path, output):
    teacher = SavedModelTeacher(write(tmp_path / "1", both), output)
    assert teacher.output == (output or "logits")
    kd.testing.check_teacher(teacher, X)
    expected = fit(linear(1), run_eagerly=True)
    assert_same_weights(fit(teacher), expected, 1e-5)


def test_saved_model_teacher_reads_what_keras_exports(tmp_path):
    linear(1).export(tmp_path / "1", verbose=False)
    teacher = SavedModelTeacher(tmp_path / "1", activation="linear")
    expected = fit(linear(1), run_eagerly=True)
    assert_same_weights(fit(teacher, run_eagerly=True), expected, 1e-5)


def test_saved_model_teacher_knows_probabilities_by_their_name(tmp_path):
    def only(name, units):
        return lambda model, x: {name: tf.nn.sigmoid(model(x)[:, :units])}

    for name, units, expected in (
        ("probabilities", 3, ("probabilities", None)),  # of classes or units
        ("probabilities", 1, ("probabilities", "units")),
        ("logits", 3, ("logits", None)),
        ("scores", 3, (None, None)),
    ):
        path = write(tmp_path / f"{name}{units}", only(name, units))
        assert SavedModelTeacher(path).kind_of("output") == expected
    teacher = SavedModelTeacher(path, outputs="values")
    assert teacher.kind_of("output") == ("values", None)


def test_saved_model_teacher_is_fed_by_name_and_dtype(tmp_path):
    def answer(model, left, right):
        return {"logits": model(left - tf.cast(right, "float32"))}

    path = write(tmp_path / "1", answer, left=tf.float32, right=tf.int32)
    teacher = SavedModelTeacher(
        path, preprocess=lambda x: {"right": 2.0 * x, "left": x, "other": x}
    )
    x = np.round(3 * X)
    given = teacher(tf.constant(x))["output"]
    np.testing.assert_allclose(given, linear(1)(x - 2 * x), rtol=1e-5)
    with pytest.raises(ValueError, match=r"\['left', 'right'\].*`preprocess`"):
        SavedModelTeacher(path)(tf.constant(x))


@pytest.mark.slow
def test_saved_model_teacher_teaches_digits_from_its_published_file(tmp_path):
    kd.export(trained(1), tmp_path, name="digits", formats=("saved_model",))
    teacher = SavedModelTeacher(tmp_path / "digits" / "1")
    before, after = learned_agreement(teacher)
    assert before < 0.3
    assert after > 0.9


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"signature": "predict"}, r"one of \['serving_default'\].*'predict'"),
        ({"output": "scores"}, r"one of \['logits', 'prob.*'scores'"),
        ({"activation": "relu"}, "`activation` must be 'auto'"),
    ],
)
def test_saved_model_teacher_refuses(tmp_path, arguments, message):
    write(tmp_path / "1", both)
    with pytest.raises(ValueError, match=message):
        SavedModelTeacher(tmp_path / "1", **arguments)


def test_saved_model_teacher_refuses_other_directories(tmp_path):
    with pytest.raises(ValueError, match="directory that holds saved_model"):
        SavedModelTeacher(tmp_path)


def test_saved_model_teacher_refuses_to_guess_an_output(tmp_path):
    path = write(tmp_path / "1", lambda model, x: {"a": x, "b": model(x)})
    with pytest.raises(ValueError, match=r"one of \['a', 'b'\]"):
        SavedModelTeacher(path)
