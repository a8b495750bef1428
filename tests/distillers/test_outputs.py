# SPDX-License-Identifier: Apache-2.0
"""Heads of every kind: softmax, sigmoid, one unit, sequences, maps, several."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from distillers.tiny import nll
from selection import quick

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-np.asarray(z, "float64")))


def bernoulli_kl(teacher, student, temperature):
    """T^2 KL of yes/no units, one value a unit, without softmax."""
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    yes = p * np.log(p / q)
    no = (1.0 - p) * np.log((1.0 - p) / (1.0 - q))
    return temperature**2 * (yes + no)


def fit(teacher, student, loss, x=X, y=Y, losses=None, alpha=0.5, **fit_with):
    losses = losses or kd.losses.SoftTargets(4.0)
    distiller = kd.Distiller(
        teacher, student, alpha=alpha, distillation_losses=losses
    )
    compile_with = fit_with.pop("compile_with", {})
    distiller.compile(
        keras.optimizers.SGD(0.2), loss, run_eagerly=True, **compile_with
    )
    history = distiller.fit(x, y, **{**FIT, **fit_with}).history
    return {key: values[-1] for key, values in history.items()}


@functools.cache
def fitted(epochs=1):
    """The weights and logs of two models that end in logits."""
    student = mlp(seed=2)
    logs = fit(mlp(seed=1), student, cross_entropy(), epochs=epochs)
    return student.get_weights(), logs


def sparse(activation):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )


class Subclassed(keras.Model):
    """Any model, without a graph that could be read."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x, training=None):
        return self.model(x, training=training)


@pytest.mark.parametrize("student_head", quick(1, [None, "softmax"]))
@pytest.mark.parametrize("teacher_head", quick(1, ["softmax", None]))
def test_distiller_heads_of_softmax_and_logits_train_alike(
    teacher_head, student_head
):
    reference, expected = fitted(epochs=2)
    student = mlp(seed=2, activation=student_head)
    teacher = mlp(seed=1, activation=teacher_head)
    logs = fit(teacher, student, sparse(student_head), epochs=2)
    assert_same_weights(student, reference, 1e-4)
    for key, value in expected.items():
        assert logs[key] == pytest.approx(value, rel=1e-3), key


def test_distiller_softmax_head_keeps_the_loss_of_confident_models():
    """log(softmax) would have rounded a gap of 200 away."""

    def build(sign, activation):
        model = linear(units=2, activation=activation)
        kernel, bias = (np.zeros_like(w) for w in model.get_weights())
        model.set_weights([kernel, bias + np.array([sign * 100.0, 0.0])])
        return model

    logs = fit(
        build(1, "softmax"),
        build(-1, "softmax"),
        None,
        y=None,
        alpha=1.0,
        losses=kd.losses.SoftTargets(1.0),
        batch_size=len(X),
    )
    assert logs["loss"] == pytest.approx(100.0)


def test_distiller_subclassed_models_train_like_functional_ones():
    reference, expected = fitted(epochs=2)
    student = mlp(seed=2)
    logs = fit(
        Subclassed(mlp(seed=1)), Subclassed(student), cross_entropy(), epochs=2
    )
    assert_same_weights(student, reference, 1e-5)
    assert logs == pytest.approx(expected, rel=1e-4)


def test_distiller_subclassed_softmax_teacher_is_read_when_named():
    _, expected = fitted()
    teacher = Subclassed(mlp(seed=1, activation="softmax"))
    teacher = kd.teachers.FrozenTeacher(teacher, activation="softmax")
    logs = fit(teacher, mlp(seed=2), cross_entropy())
    assert logs == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("wrap", [lambda m: m, Subclassed])
def test_distiller_unbuilt_student_is_built_by_the_data(wrap):
    reference, expected = fitted()
    initializer = keras.initializers.GlorotUniform
    student = keras.Sequential(
        [
            layers.Dense(
                8, activation="relu", kernel_initializer=initializer(2)
            ),
            layers.Dense(3, kernel_initializer=initializer(102)),
        ]
    )
    logs = fit(mlp(seed=1), wrap(student), cross_entropy())
    assert_same_weights(student, reference, 1e-5)
    assert logs == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_distiller_unbuilt_student_gets_its_projector(run_eagerly):
    student = keras.Sequential([layers.Dense(5), layers.Dense(4)])
    distiller = kd.Distiller(
        mlp(seed=1),
        student,
        alpha=1.0,
        distillation_losses=kd.losses.FeatureMatching(),
    )
    distiller.compile("sgd", run_eagerly=run_eagerly)
    distiller.fit(X, **FIT)
    projector = distiller.projectors["feature_matching"]
    assert [w.shape for w in projector.weights] == [(4, 3)]
    assert len(distiller.trainable_weights) == 5


@pytest.mark.parametrize("head", [None, "sigmoid"])
@pytest.mark.parametrize("units", [1, 3])
def test_distiller_yes_or_no_units_are_distilled_one_by_one(units, head):
    def build(seed):
        return linear(seed, units=units, activation=head)

    student = build(2)
    logits = [dense(linear(seed, units=units), X) for seed in (1, 2)]
    y = (features(seed=5)[:, :units] > 0).astype("float32")
    logs = fit(
        build(1),
        student,
        keras.losses.BinaryCrossentropy(from_logits=head is None),
        y=y,
        batch_size=len(X),
    )
    expected = bernoulli_kl(*logits, 4.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)
    same = ((logits[0] > 0) == (logits[1] > 0)).mean()
    assert logs["teacher_agreement"] == pytest.approx(same)
    # One step of gradient descent by hand.
    p, q = (sigmoid(z / 4.0) for z in logits)
    gradient = 0.5 * 4.0 * (q - p) + 0.5 * (sigmoid(logits[1]) - y)
    gradient = gradient / gradient.size
    np.testing.assert_allclose(
        student.get_weights()[0],
        linear(2, units=units).get_weights()[0] - 0.2 * X.T @ gradient,
        atol=1e-5,
    )


@pytest.mark.parametrize("teacher_head", [None, "softmax"])
@pytest.mark.parametrize("student_head", [None, "sigmoid"])
def test_distiller_two_classes_may_teach_one_unit(teacher_head, student_head):
    two = dense(linear(1, units=2), X)
    one = dense(linear(2, units=1), X)
    y = labels() > 0
    logs = fit(
        linear(1, units=2, activation=teacher_head),
        linear(2, units=1, activation=student_head),
        keras.losses.BinaryCrossentropy(from_logits=student_head is None),
        y=y.astype("float32")[:, None],
        batch_size=len(X),
    )
    gap = two[:, 1:] - two[:, :1]
    expected = bernoulli_kl(gap, one, 4.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)
    assert logs["teacher_agreement"] == pytest.approx(
        ((gap > 0) == (one > 0)).mean()
    )


def tagger(seed, mask=True):
    initializer = keras.initializers.RandomNormal
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(
                7,
                4,
                mask_zero=mask,
                embeddings_initializer=initializer(0, 1, seed),
            ),
            layers.Dense(3, kernel_initializer=initializer(0, 1, seed + 1)),
        ]
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_distiller_sequences_leave_out_the_padding(weighted):
    tokens = np.random.default_rng(0).integers(1, 7, (6, 5))
    for row, length in enumerate((5, 2, 1, 4, 3, 5)):
        tokens[row, length:] = 0
    tags = np.random.default_rng(1).integers(0, 3, (6, 5))
    real = (tokens != 0).astype("float64")
    weight = np.linspace(0.0, 2.0, 6) if weighted else None
    teacher, student = tagger(10), tagger(20)
    logits = [m.predict(tokens, verbose=0) for m in (teacher, student)]
    logs = fit(
        teacher,
        student,
        cross_entropy(),
        tokens,
        tags,
        sample_weight=None if weight is None else weight[:, None],
        batch_size=6,
    )
    share = real if weight is None else real * weight[:, None]
    soft = (kl(*logits, 4.0) * share).sum() / real.sum()
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    hard = (nll(tags, logits[1]) * share).sum() / real.sum()
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    same = np.argmax(logits[0], -1) == np.argmax(logits[1], -1)
    expected = (same * real).sum() / real.sum()
    assert logs["teacher_agreement"] == pytest.approx(expected)


def test_distiller_padding_has_no_influence():
    """A sequence of any padding trains the same student."""
    tokens = np.random.default_rng(0).integers(1, 7, (6, 3))
    tags = np.random.default_rng(1).integers(0, 3, (6, 5))
    students = []
    for filler_tag in (0, 2):
        padded = np.pad(tokens, ((0, 0), (0, 2)))
        tags[:, 3:] = filler_tag
        students.append(tagger(20))
        fit(tagger(10), students[-1], cross_entropy(), padded, tags)
    assert_same_weights(*students)


def segmenter(seed, width):
    initializer = keras.initializers.GlorotUniform
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(
        width, 3, padding="same", kernel_initializer=initializer(seed)
    )(inputs)
    x = layers.Conv2D(3, 1, kernel_initializer=initializer(seed + 1))(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("axis", [False, True])
def test_distiller_segmentation_with_unlabelled_pixels(axis):
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 2)).astype("float32")
    y = np.random.default_rng(1).integers(0, 3, (5, 4, 4))
    known = np.random.default_rng(2).uniform(size=y.shape) < 0.6
    teacher, student = segmenter(1, 6), segmenter(2, 3)
    logits = [m.predict(x, verbose=0) for m in (teacher, student)]
    given = np.where(known, y, -1)
    logs = fit(
        teacher,
        student,
        cross_entropy(),
        x,
        given[..., None] if axis else given,
        batch_size=5,
        compile_with={"metrics": ["accuracy"]},
    )
    soft = kl(*logits, 4.0).mean()
    hard = (nll(y, logits[1]) * known).mean()
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-4)
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-4)
    assert logs["loss"] == pytest.approx((soft + hard) / 2, rel=1e-4)
    right = (np.argmax(logits[1], -1) == y)[known]
    assert logs["accuracy"] == pytest.approx(right.mean())


def two_outputs(seed, as_dict=False):
    initializer = keras.initializers.GlorotUniform
    inputs = keras.Input((4,))
    kind = layers.Dense(3, kernel_initializer=initializer(seed), name="kind")(
        inputs
    )
    size = layers.Dense(
        1, kernel_initializer=initializer(seed + 1), name="size"
    )(inputs)
    outputs = {"kind": kind, "size": size} if as_dict else [kind, size]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("as_dict", [False, True])
def test_distiller_named_outputs_of_both_models(as_dict):
    teacher, student = two_outputs(1, as_dict), two_outputs(5, as_dict)
    pairs = [
        [keras.tree.flatten(m.predict(X, verbose=0))[i] for i in (0, 1)]
        for m in (teacher, student)
    ]
    (kind, size), (student_kind, student_size) = pairs
    logs = fit(
        teacher,
        student,
        {"kind": cross_entropy(), "size": "mse"},
        y={"kind": Y, "size": X[:, :1]},
        losses=[
            kd.losses.SoftTargets(4.0, teacher="kind", student="kind"),
            kd.losses.FeatureMatching("size", "size", weight=2.0),
        ],
        batch_size=len(X),
    )
    soft = kl(kind, student_kind, 4.0).mean()
    match = np.square(size - student_size).mean()
    kind_loss = nll(Y, student_kind).mean()
    size_loss = np.square(student_size - X[:, :1]).mean()
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-4)
    assert logs["feature_matching"] == pytest.approx(match, rel=1e-4)
    assert logs["kind_loss"] == pytest.approx(kind_loss, rel=1e-4)
    total = 0.5 * (soft + 2.0 * match) + 0.5 * (kind_loss + size_loss)
    assert logs["loss"] == pytest.approx(total, rel=1e-4)


def test_distiller_regression_by_feature_matching_of_outputs():
    teacher, student = linear(1, units=2), linear(2, units=2)
    before = [dense(m, X) for m in (teacher, student)]
    logs = fit(
        teacher,
        student,
        "mse",
        y=X[:, :2],
        losses=kd.losses.FeatureMatching(),
        batch_size=len(X),
    )
    expected = np.square(before[0] - before[1]).mean()
    assert logs["feature_matching"] == pytest.approx(expected, rel=1e-5)
    assert "teacher_agreement" not in logs


def test_distiller_softmax_layer_at_the_end_counts_as_a_head():
    _, expected = fitted()
    logits = mlp(seed=1)
    teacher = keras.Model(logits.inputs, layers.Softmax()(logits.outputs[0]))
    functional = keras.Model(logits.inputs, ops.softmax(logits.outputs[0]))
    for model in (teacher, functional):
        logs = fit(model, mlp(seed=2), cross_entropy())
        assert logs == pytest.approx(expected, rel=1e-4)
