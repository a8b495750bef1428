# SPDX-License-Identifier: Apache-2.0
"""Losses, labels, weights and agreement hold for each output, in any form."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import log_softmax
from keras_kd.distillers.guarded import GuardedLoss
from keras_kd.distillers.unlabelled import separate

X, Y = features(), labels()
HAS_LABEL = np.arange(len(X)) % 3 != 0
MIXED = np.where(HAS_LABEL, Y, -1)
SIZE = X[:, :1]
UNITS = (X[:, :3] > 0).astype("float32")
BCE = keras.losses.BinaryCrossentropy(from_logits=True)


def model(seed, *heads, form=list, units=3):
    """One hidden layer and a dense head for every name."""

    def dense(width, name, number, **options):
        draw = keras.initializers.RandomNormal(0.0, 1.0, seed=seed + number)
        return layers.Dense(
            width, kernel_initializer=draw, name=name, **options
        )

    inputs = keras.Input((4,))
    hidden = dense(5, "hidden", 0, activation="tanh")(inputs)
    sizes = {"kind": units, "size": 1}
    outputs = {
        name: dense(sizes[name], name, 10 * (1 + i))(hidden)
        for i, name in enumerate(heads)
    }
    if form is dict:
        return keras.Model(inputs, outputs)
    outputs = list(outputs.values())
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


def fit(student, teacher, loss, y, losses=None, alpha=0.5, x=X, **options):
    names = ("loss_weights", "metrics", "weighted_metrics", "jit_compile")
    given = {key: options.pop(key) for key in names if key in options}
    distiller = kd.Distiller(
        teacher, student, alpha=alpha, distillation_losses=losses
    )
    eager = not given.get("jit_compile")
    distiller.compile(
        keras.optimizers.SGD(0.1), loss, run_eagerly=eager, **given
    )
    once = {"batch_size": len(X), "shuffle": False, "verbose": 0}
    history = distiller.fit(x, y, **once, **options).history
    return {key: values[-1] for key, values in history.items()}


def one(loss, y, heads=("kind",), **options):
    student = model(2, *heads)
    logs = fit(student, model(1, *heads), loss, y, **options)
    return student, logs


@functools.cache
def reference_of(*metrics):
    """The weights and logs of a loss object on labels that partly miss."""
    student, logs = one(cross_entropy(), MIXED, metrics=list(metrics))
    return student.get_weights(), logs


def own_ids(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(
        y_true, y_pred, from_logits=True
    )


def class_id_losses():
    function = keras.losses.sparse_categorical_crossentropy
    return {
        "list": [cross_entropy()],
        "dict": {"kind": cross_entropy()},
        "function": own_ids,
        "partial": functools.partial(function, from_logits=True),
    }


@pytest.mark.parametrize("form", class_id_losses())
def test_missing_class_ids_are_passed_over_in_each_form_of_loss(form):
    metrics = ["sparse_categorical_accuracy"]
    reference, expected = reference_of(*metrics)
    loss = class_id_losses()[form]
    # Nothing else says what is trained by a function of one's own.
    said = kd.losses.SoftTargets() if form == "function" else None
    student, logs = one(loss, MIXED, metrics=metrics, losses=said)
    assert logs == pytest.approx(expected)
    assert_same_weights(student, reference, 1e-6)


@pytest.mark.parametrize("loss", ["crossentropy", ["crossentropy"]])
def test_missing_class_ids_are_passed_over_by_the_loss_keras_chooses(loss):
    wanted = "sparse_categorical_crossentropy"
    logits, probabilities = model(2, "kind"), model(2, "kind")
    ends = keras.Model(
        logits.inputs, layers.Softmax(name="kind_p")(logits.outputs[0])
    )
    other = keras.Model(
        probabilities.inputs,
        layers.Softmax(name="kind_p")(probabilities.outputs[0]),
    )
    expected = fit(ends, model(1, "kind"), wanted, MIXED)
    assert fit(other, model(1, "kind"), loss, MIXED) == pytest.approx(expected)


@pytest.mark.slow
def test_missing_class_ids_in_a_dict_leave_weights_finite_under_xla():
    student, logs = one({"kind": cross_entropy()}, MIXED, jit_compile=True)
    _, expected = one(cross_entropy(), MIXED)
    assert logs == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(w).all() for w in student.get_weights())


def binary_losses():
    function = keras.losses.binary_crossentropy
    return {
        "object": BCE,
        "list": [BCE],
        "dict": {"kind": BCE},
        "partial": functools.partial(function, from_logits=True),
    }


@pytest.mark.parametrize("form", binary_losses())
def test_yes_or_no_units_are_distilled_as_such_in_each_form_of_loss(form):
    _, logs = one(binary_losses()[form], UNITS)
    scores = [model(seed, "kind")(X).numpy() for seed in (1, 2)]
    p, q = (1.0 / (1.0 + np.exp(-z.astype("float64") / 4.0)) for z in scores)
    bernoulli = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert logs["soft_targets"] == pytest.approx(
        16.0 * bernoulli.mean(), rel=1e-4
    )


def test_missing_yes_or_no_labels_add_nothing():
    known = np.random.default_rng(0).uniform(size=UNITS.shape) < 0.6
    scores = model(2, "kind")(X).numpy().astype("float64")
    values = np.logaddexp(0.0, scores) - UNITS * scores
    metrics = [
        keras.metrics.BinaryAccuracy(threshold=0.0, name="right"),
        keras.metrics.AUC(from_logits=True, name="auc"),
        keras.metrics.BinaryCrossentropy(from_logits=True, name="whole"),
    ]
    _, logs = one(BCE, np.where(known, UNITS, -1.0), metrics=metrics)
    assert logs["student_loss"] == pytest.approx(
        (values * known).mean(), rel=1e-5
    )
    right = (scores > 0) == UNITS
    assert logs["right"] == pytest.approx(right[known].mean())
    # A figure of whole examples is that of those with all their labels.
    whole = values[known.all(axis=1)].mean()
    assert logs["whole"] == pytest.approx(whole, rel=1e-5)
    auc = keras.metrics.AUC(from_logits=True)
    auc.update_state(UNITS[known], scores[known])
    assert logs["auc"] == pytest.approx(float(auc.result()))


@pytest.mark.parametrize(
    "reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"]
)
def test_guarded_loss_weighs_what_keras_weighs(reduction):
    """A unit without a label is one with weight 0, in every reduction."""
    weight = np.linspace(0.5, 2.0, len(X)).astype("float32")
    scores = features(seed=3)[:, :1]
    y = np.where(HAS_LABEL[:, None], UNITS[:, :1], -1.0)
    loss = keras.losses.BinaryCrossentropy(
        from_logits=True, reduction=reduction
    )
    expected = loss(UNITS[:, :1], scores, weight * HAS_LABEL)
    found = GuardedLoss(loss)(y, scores, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_one_hot_rows_of_minus_1_are_no_labels():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    rows = np.eye(3, dtype="float32")[Y]
    given = np.where(HAS_LABEL[:, None], rows, -1.0)
    scores = features(seed=3)[:, :3]
    expected = -(log_softmax(scores)[np.arange(24), Y] * HAS_LABEL).mean()
    found = GuardedLoss(loss)(given, scores)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_labels_of_other_losses_are_values():
    for loss in ("mse", "hinge", None):
        assert separate(-np.ones((4, 1)), np.ones((4, 1)), loss).counts is None
    # Whole numbers of a loss of one's own may be values, where one unit is.
    assert separate(np.array([-1, 2]), np.ones((2, 1)), own_ids).counts is None


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8"])
def test_class_ids_of_small_dtypes_know_every_class(dtype):
    """128 classes are more than int8 can count, and a bool is no -1."""
    y = (Y > 0).astype(dtype)
    found = separate(y, np.zeros((len(y), 200)), cross_entropy())
    assert found.labelled.numpy().all()
    assert not found.out_of_range.numpy().any()
    np.testing.assert_array_equal(found.y, Y > 0)


BOTH = {"kind": cross_entropy(), "size": "mse"}
TEACHES_KIND = {"kind": kd.losses.SoftTargets(4.0)}


@functools.cache
def trained_alone():
    """The weights and logs of "kind" as the only output."""
    weight = X[:, 1] ** 2
    student, logs = one(cross_entropy(), MIXED, sample_weight=weight)
    return student.get_weights(), logs


@pytest.mark.parametrize("form", [list, dict])
@pytest.mark.parametrize("weights", [{"kind": 1.0, "size": 0.0}, [1.0, 0.0]])
def test_two_outputs_with_one_weight_0_equal_one_output(weights, form):
    losses = {"kind": [kd.losses.SoftTargets(4.0)], "size": "feature_matching"}
    student = model(2, "kind", "size", form=form)
    logs = fit(
        student,
        model(1, "kind", "size", form=form),
        BOTH,
        {"kind": MIXED, "size": SIZE},
        losses,
        loss_weights=weights,
        sample_weight={"kind": X[:, 1] ** 2, "size": X[:, 2] ** 2},
    )
    alone, expected = trained_alone()
    assert_same_weights(student.get_weights()[:4], alone, 1e-6)
    assert logs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert logs["kind_soft_targets"] == pytest.approx(
        expected["soft_targets"], rel=1e-5
    )
    assert "size_feature_matching" in logs


def trained_on_both(loss, y, weight):
    student = model(2, "kind", "size")
    logs = fit(
        student,
        model(1, "kind", "size"),
        loss,
        y,
        TEACHES_KIND,
        metrics=[["accuracy"], ["mae"]],
        weighted_metrics=[["accuracy"], ["mae"]],
        sample_weight=weight,
        validation_data=(X, y),
    )
    return student.get_weights(), logs


@functools.cache
def trained_on_dicts():
    return trained_on_both(BOTH, {"kind": MIXED, "size": SIZE}, X[:, 0] ** 2)


@pytest.mark.parametrize(
    "loss, y",
    [
        ([cross_entropy(), "mse"], [MIXED, SIZE]),
        (BOTH, [MIXED, SIZE]),
        ([cross_entropy(), "mse"], {"kind": MIXED, "size": SIZE}),
    ],
)
def test_each_form_of_two_losses_and_labels_gives_the_same_figures(loss, y):
    weight = X[:, 0] ** 2
    reference, expected = trained_on_dicts()
    # Keras takes weights in the form of the labels.
    weights = {"kind": weight, "size": weight}
    student, logs = trained_on_both(
        loss, y, weights if isinstance(y, dict) else [weight] * 2
    )
    assert logs == pytest.approx(expected, rel=1e-6)
    assert_same_weights(student, reference, 1e-6)
    scores = model(2, "kind", "size").predict(X, verbose=0)[0]
    right = (np.argmax(scores, axis=-1) == Y) * HAS_LABEL
    figures = right.sum() / HAS_LABEL.sum()
    assert logs["kind_accuracy"] == pytest.approx(figures)
    figures = (right * weight).sum() / (HAS_LABEL * weight).sum()
    assert logs["kind_weighted_accuracy"] == pytest.approx(figures, rel=1e-5)


def test_validation_figures_of_two_outputs_are_those_of_student_evaluate():
    student = model(2, "kind", "size")
    y = {"kind": Y, "size": SIZE}
    settings = {
        "loss_weights": {"kind": 1.0, "size": 0.3},
        "metrics": {"kind": ["accuracy"], "size": ["mae"]},
    }
    logs = fit(
        student,
        model(1, "kind", "size"),
        BOTH,
        y,
        TEACHES_KIND,
        validation_data=(X, y),
        **settings,
    )
    student.compile("sgd", BOTH, run_eagerly=True, **settings)
    alone = student.evaluate(X, y, verbose=0, return_dict=True)
    found = {key[4:]: logs[key] for key in logs if key.startswith("val_")}
    assert found == pytest.approx(alone, rel=1e-5)


def test_agreement_is_of_each_output_with_class_scores():
    losses = {"kind": kd.losses.SoftTargets(), "size": kd.losses.SoftTargets()}
    teacher, student = (model(seed, "kind", "size") for seed in (1, 2))
    before = [m.predict(X, verbose=0) for m in (teacher, student)]
    loss = {"kind": cross_entropy(), "size": BCE}
    logs = fit(student, teacher, loss, [Y, UNITS[:, :1]], losses)
    same = [np.argmax(z[0], -1) for z in before]
    expected = (same[0] == same[1]).mean()
    assert logs["kind_teacher_agreement"] == pytest.approx(expected)
    same = [z[1] > 0 for z in before]
    expected = (same[0] == same[1]).mean()
    assert logs["size_teacher_agreement"] == pytest.approx(expected)


def test_a_feature_loss_weighs_an_example_by_all_its_outputs():
    weights = {"kind": X[:, 1] ** 2, "size": X[:, 2] ** 2}
    losses = kd.losses.FeatureMatching("hidden", "hidden")
    logs = fit(
        model(2, "kind", "size"),
        model(1, "kind", "size"),
        BOTH,
        {"kind": Y, "size": SIZE},
        losses,
        loss_weights={"kind": 3.0, "size": 1.0},
        sample_weight=weights,
    )
    hidden = [
        kd.tap(model(seed, "kind"), ["hidden"])(X)["hidden"].numpy()
        for seed in (1, 2)
    ]
    values = np.square(hidden[0] - hidden[1]).mean(axis=-1)
    share = 0.75 * weights["kind"] + 0.25 * weights["size"]
    assert logs["feature_matching"] == pytest.approx(
        (values * share).mean(), rel=1e-5
    )


def test_positions_that_a_loss_ignores_are_not_distilled():
    ignored = np.where(HAS_LABEL, Y, 255)
    loss = {"kind": cross_entropy(ignore_class=255)}
    before = [model(seed, "kind")(X).numpy() for seed in (1, 2)]
    _, logs = one(loss, ignored, metrics=["accuracy"])
    expected = kl(*before, 4.0)[HAS_LABEL].mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-5)
    choices = [np.argmax(z, axis=-1)[HAS_LABEL] for z in before]
    agreement = (choices[0] == choices[1]).mean()
    assert logs["teacher_agreement"] == pytest.approx(agreement)
    right = (choices[1] == Y[HAS_LABEL]).mean()
    assert logs["accuracy"] == pytest.approx(right)


def test_losses_by_output_share_the_temperature_of_what_was_given():
    given = kd.losses.SoftTargets(2.0)
    found = kd.losses.get_all({"kind": given, "size": "feature_matching"})
    assert [loss.name for loss in found] == [
        "kind_soft_targets",
        "size_feature_matching",
    ]
    assert [loss.taps for loss in found] == [
        (("kind",), ("kind",)),
        (("size",), ("size",)),
    ]
    given.temperature = 7.0
    assert found[0].temperature == 7.0
    assert given.taps == (("output",), ("output",))
    saved = [kd.losses.deserialize(kd.losses.serialize(x)) for x in found]
    assert [(x.name, x.taps) for x in saved] == [
        (x.name, x.taps) for x in found
    ]


class Backwards(kd.tasks.Classification):
    def distillation_losses(self):
        return [kd.losses.SoftTargets(2.0, divergence="reverse_kl")]


@pytest.mark.parametrize(
    ("task", "y"),
    [(Backwards(), MIXED), (kd.tasks.MultiLabel(), UNITS)],
)
def test_a_dict_of_one_task_trains_as_that_task(task, y):
    """Under the same names, too: Keras has no prefix for a sole output."""

    def run(task):
        student = model(2, "kind")
        distiller = kd.Distiller(model(1, "kind"), student, 3.0, task=task)
        distiller.compile("sgd", run_eagerly=True)
        fitted = distiller.fit(X, y, shuffle=False, verbose=0)
        return student, [distiller.temperature, fitted.history]

    (alone, expected), (student, logs) = run(task), run({"kind": task})
    assert logs == expected
    assert logs[0] == 3.0
    assert "soft_targets" in logs[1]
    assert_same_weights(student, alone)


def test_losses_by_output_refuse_what_names_another_tap():
    with pytest.raises(ValueError, match="'size', but it names another tap"):
        kd.losses.get_all({"size": kd.losses.FeatureMatching("a", "b")})
    with pytest.raises(ValueError, match="is empty"):
        kd.losses.get_all({})
