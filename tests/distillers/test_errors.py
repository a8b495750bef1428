# SPDX-License-Identifier: Apache-2.0
"""What a distiller refuses, and in which words."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp
from keras_kd.targets.attached import attach_targets

X, Y = features(), labels()
FIT = {"batch_size": 8, "verbose": 0}


def distil(teacher=None, student=None, losses=None, **kwargs):
    return kd.Distiller(
        teacher or mlp(seed=1),
        student or mlp(seed=2),
        distillation_losses=losses,
        **kwargs,
    )


def match(teacher="hidden", student="hidden", **kwargs):
    return kd.losses.FeatureMatching(teacher, student, **kwargs)


def same_model():
    model = mlp()
    return kd.Distiller(model, model)


def same_model_in_a_teacher():
    model = mlp()
    return kd.Distiller(kd.teachers.FrozenTeacher(model), model)


def subclassed():
    class Plain(keras.Model):
        def call(self, x):
            return x

    return Plain()


def old_keras():
    return tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,))])


def two_outputs():
    inputs = keras.Input((4,))
    outputs = [layers.Dense(3, name=name)(inputs) for name in ("a", "b")]
    return keras.Model(inputs, outputs)


# (what is done, what the message must say)
CONSTRUCTION = {
    "student_is_teacher": (same_model, "same object.*clone_model"),
    "student_is_in_teacher": (same_model_in_a_teacher, "same object"),
    "student_is_missing": (
        lambda: kd.Distiller(mlp()),
        "`student` must be a keras.Model.*NoneType",
    ),
    "student_is_text": (
        lambda: kd.Distiller(mlp(), "student.keras"),
        "`student` must be a keras.Model.*builtins.str",
    ),
    "student_is_of_old_keras": (
        lambda: kd.Distiller(mlp(), old_keras()),
        r"`student` must be a keras.Model \(Keras 3\).*tf_keras",
    ),
    "teacher_is_text": (
        lambda: kd.Distiller("teacher.keras", mlp()),
        "`teacher` must be a trained keras.Model.*builtins.str",
    ),
    "teacher_is_of_old_keras": (
        lambda: kd.Distiller(old_keras(), mlp()),
        "`teacher` must be a trained keras.Model.*tf_keras",
    ),
    "teacher_of_old_keras_is_wrapped": (
        lambda: kd.teachers.FrozenTeacher(old_keras()),
        "tf_keras model has to be converted",
    ),
    "activation_is_unknown": (
        lambda: kd.teachers.FrozenTeacher(mlp(), activation="relu"),
        "`activation` must be 'auto' or.*softmax.*'relu'",
    ),
    "temperature_is_zero": (
        lambda: distil(temperature=0.0),
        r"`temperature` must be a finite number in \(0, inf\).*0.0",
    ),
    "temperature_is_negative": (
        lambda: distil(temperature=-1),
        "`temperature` must be.*temperature=-1",
    ),
    "temperature_is_nan": (
        lambda: distil(temperature=float("nan")),
        "`temperature` must be a finite number.*nan",
    ),
    "temperature_is_text": (
        lambda: distil(temperature="warm"),
        "`temperature` must be a finite number.*'warm'",
    ),
    "alpha_is_too_large": (
        lambda: distil(alpha=1.1),
        r"`alpha` must be a finite number in \[0, 1\].*alpha=1.1",
    ),
    "alpha_is_negative": (lambda: distil(alpha=-0.1), "`alpha` must.*-0.1"),
    "alpha_is_nan": (lambda: distil(alpha=float("nan")), "`alpha` must.*nan"),
    "temperature_and_losses": (
        lambda: distil(temperature=2.0, losses=kd.losses.SoftTargets()),
        "either `temperature` or `distillation_losses`.*temperature=2.0",
    ),
    "losses_are_empty": (
        lambda: distil(losses=[]),
        "`distillation_losses` is empty.*alpha=0",
    ),
    "loss_is_of_keras": (
        lambda: distil(losses=keras.losses.MeanSquaredError()),
        "Expected a distillation loss.*mean_squared_error",
    ),
    "loss_is_unknown": (
        lambda: distil(losses="soft_target"),
        "Expected a distillation loss.*SoftTargets.*'soft_target'",
    ),
    "weight_is_negative": (
        lambda: kd.losses.SoftTargets(weight=-1.0),
        "`weight` must be a finite number.*-1.0",
    ),
    "tap_of_student_is_misspelt": (
        lambda: distil(losses=match(student="hiden")),
        "No layer or output named 'hiden'.*Did you mean.*'hidden'",
    ),
    "tap_of_teacher_is_misspelt": (
        lambda: distil(losses=match(teacher="hiden")),
        "No layer or output named 'hiden'.*Did you mean.*'hidden'",
    ),
    "tap_in_a_model_without_graph": (
        lambda: distil(student=subclassed(), losses=match()),
        "Functional or Sequential.*without a graph",
    ),
    "tap_of_a_teacher_with_output_only": (
        lambda: distil(teacher=OnlyOutput(), losses=match()),
        "OnlyOutput gives its output only.*'hidden'",
    ),
    "output_is_one_of_several": (
        lambda: distil(student=two_outputs()),
        r"'output' is ambiguous.*\['a', 'b'\]",
    ),
    "classes_differ": (
        lambda: distil(teacher=mlp(units=5)),
        r"same classes.*\(None, 5\).*\(None, 3\)",
    ),
    "features_differ_without_projector": (
        lambda: distil(teacher=mlp(width=12), losses=match(projector=None)),
        r"same shape.*\(\w+, 12\).*\(\w+, 8\).*projector='auto'",
    ),
    "projector_is_text": (
        lambda: match(projector="dense"),
        "`projector` must be None, 'auto' or a Keras layer.*'dense'",
    ),
    "projector_gives_another_shape": (
        lambda: distil(
            teacher=mlp(width=12), losses=match(projector=layers.Dense(7))
        ),
        r"same shape.*\(None, 12\).*\(None, 7\)",
    ),
}


class OnlyOutput(kd.teachers.Teacher):
    def __call__(self, x):
        return {"output": x[:, :3]}


def fit(distiller, *data, loss=True):
    loss = cross_entropy() if loss is True else loss
    distiller.compile("sgd", loss, run_eagerly=True)
    return distiller.fit(*data, **FIT)


def load_and_fit(path):
    distiller = distil()
    distiller.compile("sgd", cross_entropy(), run_eagerly=True)
    distiller.save(path / "distiller.keras")
    keras.models.load_model(path / "distiller.keras").fit(X, Y, **FIT)


TRAINING = {
    "no_labels": (
        lambda path: fit(distil(alpha=0.7), X),
        r"1 - alpha = 0.3, but labels was not given.*alpha=1",
    ),
    "no_label_loss": (
        lambda path: fit(distil(alpha=0.5, temperature=4.0), X, Y, loss=None),
        r"1 - alpha = 0.5, but compile\(loss=...\) was not given",
    ),
    "no_teacher": (
        lambda path: fit(kd.Distiller(None, mlp()), X, Y),
        "There is no teacher. Set `distiller.teacher",
    ),
    "no_teacher_after_loading": (
        load_and_fit,
        "There is no teacher.*saved distiller does not contain it",
    ),
    "missing_tap_in_attached_targets": (
        lambda path: fit(
            kd.Distiller(None, mlp(), distillation_losses=match()),
            attach_targets(X, {"output": np.ones((len(X), 3))}),
            Y,
        ),
        r"teacher's tap 'hidden'.*Received taps: \['output'\]",
    ),
    "attached_targets_in_a_list": (
        lambda path: attach_targets(X, [np.ones((len(X), 3))]),
        "one array, or a dict.*Received: a list of 1",
    ),
    "attached_targets_of_other_classes": (
        lambda path: fit(
            kd.Distiller(None, mlp()),
            attach_targets(X, np.ones((len(X), 4)), "logits"),
            Y,
        ),
        r"same classes.*\(8, 4\).*\(8, 3\)",
    ),
    "fit_before_compile": (
        lambda path: distil().fit(X, Y, **FIT),
        "call `compile",
    ),
}


@pytest.mark.parametrize(
    "call, message", CONSTRUCTION.values(), ids=CONSTRUCTION
)
def test_distiller_refuses(call, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        call()


@pytest.mark.parametrize("call, message", TRAINING.values(), ids=TRAINING)
def test_distiller_refuses_to_train(call, message, tmp_path):
    with pytest.raises(ValueError, match="(?s)" + message):
        call(tmp_path)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("alpha", 1.5, "`alpha` must"),
        ("temperature", 0.0, "`temperature` must"),
        ("teacher", "teacher.keras", "`teacher` must"),
        ("teacher", mlp(units=5), "same classes"),
    ],
)
def test_distiller_refuses_an_assignment_and_keeps_the_old_value(
    name, value, message
):
    distiller = distil(temperature=3.0, alpha=0.4)
    old = getattr(distiller, name)
    with pytest.raises(ValueError, match=message):
        setattr(distiller, name, value)
    assert getattr(distiller, name) is old or getattr(distiller, name) == old
    history = fit(distiller, X, Y).history
    assert np.isfinite(history["loss"]).all()


def test_distiller_without_temperatures_says_so():
    distiller = distil(losses=match())
    with pytest.raises(ValueError, match="None of the.*has a temperature"):
        distiller.temperature = 2.0
