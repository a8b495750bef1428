# SPDX-License-Identifier: Apache-2.0
"""Losses that need the label get class ids, whatever form the labels have."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_kd as kd
from distillers.tiny import CLASSES
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import log_softmax
from keras_kd.distillers.class_ids import class_ids
from keras_kd.distillers.per_output import Output
from keras_kd.distillers.per_output import labels_of_tap
from keras_kd.targets.attached import attach_targets
from reference import decoupled
from selection import quick

X, Y = features(), labels()
HAS_LABEL = np.arange(len(X)) % 3 != 0
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}


class AtLabel(kd.losses.DistillationLoss):
    """Squared difference of the two log-probabilities of the label."""

    logits = True
    label_aware = True

    def call(self, y_true, y_pred):
        teacher, ids = y_true
        at = ops.one_hot(ops.cast(ids, "int32"), y_pred.shape[-1])
        difference = ops.log_softmax(teacher) - ops.log_softmax(y_pred)
        return ops.square(ops.sum(at * difference, axis=-1))


def at_label(teacher, student, y):
    difference = log_softmax(teacher) - log_softmax(student)
    known = np.maximum(y, 0)[..., None]
    values = np.take_along_axis(difference, known, -1)[..., 0] ** 2
    return np.where(y >= 0, values, 0.0)


def fit(y=None, label_loss=None, losses=None, units=CLASSES, **options):
    """Returns the logs of one step on all examples."""
    distiller = kd.Distiller(
        linear(1, units),
        linear(2, units),
        alpha=options.pop("alpha", 0.5),
        distillation_losses=losses or AtLabel(),
    )
    label_loss = label_loss or cross_entropy()
    distiller.compile("sgd", label_loss, run_eagerly=True, **options)
    return distiller.fit(X, y, **ONCE).history


def scores(units=CLASSES):
    return dense(linear(1, units), X), dense(linear(2, units), X)


@pytest.mark.parametrize("form", ["ids", "column", "one_hot", "soft"])
def test_label_aware_loss_gets_class_ids(form):
    y, label_loss = {
        "ids": (Y, None),
        "column": (Y[:, None].astype("uint8"), None),
        "one_hot": (np.eye(CLASSES)[Y], "categorical"),
        "soft": (0.9 * np.eye(CLASSES)[Y] + 0.1 / CLASSES, "categorical"),
    }[form]
    if label_loss:
        label_loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    logs = fit(y, label_loss)
    expected = at_label(*scores(), Y).mean()
    assert expected > 0.1
    assert logs["at_label"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("units, flat", [(3, False), (1, False), (1, True)])
def test_label_aware_loss_gets_yes_or_no_of_binary_units(
    units, flat, smoothing
):
    y = np.random.default_rng(3).integers(0, 2, (len(X), units))
    given = (1.0 - smoothing) * y + smoothing / 2
    logs = fit(
        given[:, 0] if flat else given,
        keras.losses.BinaryCrossentropy(from_logits=True),
        units=units,
    )
    pairs = [np.stack([0.0 * z, z], axis=-1) for z in scores(units)]
    expected = at_label(*pairs, y).mean()
    assert logs["at_label"] == pytest.approx([expected], rel=1e-5)


def test_label_aware_loss_is_zero_without_a_label():
    y = np.where(HAS_LABEL, Y, -1)
    values = at_label(*scores(), y)
    assert values.mean() < at_label(*scores(), Y).mean()
    logs = fit(y, cross_entropy())
    assert logs["at_label"] == pytest.approx([values.mean()], rel=1e-5)
    # What the loss ignores is left out, of the mean as well.
    ignored = np.where(HAS_LABEL, Y, 255).astype("uint8")
    logs = fit(ignored, cross_entropy(ignore_class=255))
    expected = values[HAS_LABEL].mean()
    assert logs["at_label"] == pytest.approx([expected], rel=1e-5)


def test_label_aware_loss_adds_to_one_that_is_not():
    losses = [kd.losses.SoftTargets(2.0), AtLabel(weight=0.5)]
    logs = fit(Y, losses=losses, alpha=1.0)
    expected = kl(*scores(), 2.0).mean() + 0.5 * at_label(*scores(), Y).mean()
    assert logs["loss"] == pytest.approx([expected], rel=1e-5)


def test_label_aware_loss_of_the_package_equals_its_formula():
    logs = fit(Y, losses=kd.losses.Decoupled(temperature=2.0))
    expected = decoupled(*scores(), Y, temperature=2.0).mean()
    assert logs["decoupled"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("jit_compile", quick(1, [False, True]))
def test_label_aware_loss_trains_in_a_compiled_step(jit_compile):
    student = linear(2)
    distiller = kd.Distiller(
        linear(1),
        student,
        distillation_losses=[AtLabel(), kd.losses.Decoupled()],
    )
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    distiller.compile(optimizer, cross_entropy(), jit_compile=jit_compile)
    y = np.where(HAS_LABEL, Y, -1)
    history = distiller.fit(X, y, epochs=10, verbose=0).history
    for name in ("at_label", "decoupled"):
        assert history[name][-1] < 0.5 * history[name][0], name


def test_label_aware_loss_reads_the_labels_of_its_output():
    def two_heads(seed):
        inputs = keras.Input((4,))
        outputs = {
            name: keras.layers.Dense(
                CLASSES,
                kernel_initializer=keras.initializers.RandomNormal(seed=seed),
                name=name,
            )(inputs)
            for name in ("first", "second")
        }
        return keras.Model(inputs, outputs)

    teacher, student = two_heads(1), two_heads(2)
    before = [m.predict(X, verbose=0)["second"] for m in (teacher, student)]
    distiller = kd.Distiller(
        teacher,
        student,
        distillation_losses=AtLabel(teacher="second", student="second"),
    )
    both = {"first": cross_entropy(), "second": cross_entropy()}
    distiller.compile("sgd", both, run_eagerly=True)
    y = {"first": Y, "second": labels(seed=9)}
    logs = distiller.fit(X, y, **ONCE).history
    expected = at_label(*before, y["second"]).mean()
    assert logs["at_label"] == pytest.approx([expected], rel=1e-5)


def test_label_aware_loss_takes_targets_that_come_with_the_data():
    distiller = kd.Distiller(
        None, linear(2), distillation_losses=AtLabel(), alpha=1.0
    )
    distiller.compile("sgd", run_eagerly=True)
    x = attach_targets(X, {"output": scores()[0].astype("float32")})
    logs = distiller.fit(x, Y, **ONCE).history
    expected = at_label(*scores(), Y).mean()
    assert logs["at_label"] == pytest.approx([expected], rel=1e-5)


def test_label_aware_loss_without_labels_says_so():
    with pytest.raises(ValueError, match=r"'at_label' \(AtLabel\) needs label"):
        fit(alpha=1.0)


def test_class_ids_refuses_labels_of_another_shape():
    with pytest.raises(ValueError, match=r"shape \(6, 4\) .* \(6, 3\)"):
        class_ids(np.zeros((6, 4)), (6, 3))


def test_class_ids_counts_a_row_of_zeros_as_no_label():
    y = np.eye(CLASSES)[[2, 0, 1]]
    y[1] = 0.0
    assert class_ids(y, (None, CLASSES)).numpy().tolist() == [2, -1, 1]


def test_class_ids_of_each_pixel():
    y = np.random.default_rng(0).integers(-1, CLASSES, (2, 4, 4))
    for given in (y, y[..., None]):
        ids = class_ids(given, (None, 4, 4, CLASSES))
        np.testing.assert_array_equal(ids, y)


def test_labels_of_tap_refuses_to_guess():
    both = [Output("a", None, Y), Output("b", None, Y)]
    with pytest.raises(ValueError, match="no labels for the tap 'third'"):
        labels_of_tap(both, "third")
    assert labels_of_tap([Output("a", None, Y), Output("b", None)], "a") is Y
    assert labels_of_tap([Output("only", None, Y)], "output") is Y
    assert labels_of_tap([Output("only", None, Y)], "hidden") is Y
    assert labels_of_tap([Output("only", None)], "hidden") is None
