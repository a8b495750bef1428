# SPDX-License-Identifier: Apache-2.0
"""Caches say what their targets are, and keep large vocabularies as top-k."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import linear
from keras_kd.targets.attached import outputs_of
from keras_kd.targets.attached import target_of
from selection import quick

X = features()
Y = np.arange(len(X)) % 3
UNITS = np.eye(3, dtype="float32")[Y]


def headed(activation, name="kind", units=3):
    """A teacher with a named head."""
    inputs = keras.Input((4,))
    initializer = keras.initializers.RandomNormal(0.0, 1.0, seed=1)
    head = layers.Dense(
        units, activation, name=name, kernel_initializer=initializer
    )
    return keras.Model(inputs, {name: head(inputs)})


def cache_of(directory, teacher, **options):
    cache = kd.TeacherCache(directory / "cache", dtype="float32", **options)
    return cache.build(teacher, (X, Y), verbose=0)


def first_values(teacher, data, losses, head=None):
    """Returns the logs of one step on arrays `(x, y)` or a data set."""
    distiller = kd.Distiller(
        teacher, linear(2, activation=head), distillation_losses=losses
    )
    loss = keras.losses.BinaryCrossentropy() if head else cross_entropy()
    distiller.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    if isinstance(data, tuple):
        fit = {"x": data[0], "y": data[1], "batch_size": 24}
    else:
        fit = {"x": data, "shuffle": False}
    history = distiller.fit(**fit, verbose=0).history
    return {key: values[0] for key, values in history.items()}


def losses_on(tap):
    return [
        kd.losses.SoftTargets(2.0, teacher=tap),
        kd.losses.FeatureMatching(tap, projector=None),
    ]


@pytest.mark.parametrize(
    ("activation", "tap"),
    quick(
        4,
        [
            *((None, "output"), ("softmax", "output"), ("sigmoid", "output")),
            *(("softmax", "kind"), (None, "kind"), ("sigmoid", "kind")),
        ],
    ),
)
def test_cached_heads_teach_as_live_ones(tmp_path, activation, tap):
    """Class scores as logits, features as the model gives them."""
    teacher = headed(activation)
    head = "sigmoid" if activation == "sigmoid" else None
    data = X, (UNITS if head else Y)
    live = first_values(teacher, data, losses_on(tap), head)
    cache = cache_of(tmp_path, teacher, taps=(tap,))
    attached = cache.attach(data, batch_size=24)
    cached = first_values(None, attached, losses_on(tap), head)
    assert cached == pytest.approx(live, rel=1e-4)


def test_cached_softmax_teaches_sigmoid_units_as_a_live_one(tmp_path):
    teacher = linear(1, activation="softmax")
    losses = kd.losses.SoftTargets(2.0)
    live = first_values(teacher, (X, UNITS), losses, "sigmoid")
    attached = cache_of(tmp_path, teacher).attach((X, UNITS), batch_size=24)
    cached = first_values(None, attached, losses, "sigmoid")
    assert cached == pytest.approx(live, rel=1e-4)


def averaged():
    inputs = keras.Input((4,))
    parts = [linear(i, activation="softmax")(inputs) for i in (1, 3)]
    return keras.Model(inputs, keras.ops.mean(keras.ops.stack(parts), axis=0))


@pytest.mark.parametrize(
    ("outputs", "top_k"),
    quick(
        2,
        [(None, None), ("probabilities", 2), (None, 2)]
        + [("probabilities", None)],
    ),
)
def test_cache_of_an_unknown_end_teaches_as_a_live_one(
    tmp_path, outputs, top_k
):
    losses = kd.losses.SoftTargets(2.0)
    live = first_values(averaged(), (X, Y), losses)
    cache = cache_of(tmp_path, averaged(), outputs=outputs, top_k=top_k)
    attached = cache.attach((X, Y), batch_size=24)
    cached = first_values(None, attached, losses)
    assert cached["soft_targets"] == pytest.approx(
        live["soft_targets"], rel=1e-3
    )
    assert kd.TeacherCache.open(cache.directory).options.outputs == outputs


def test_outputs_in_memory_say_what_they_are():
    teacher = kd.teachers.FrozenTeacher(linear(1, activation="softmax"))
    output = outputs_of(teacher, (X,), verbose=False)
    assert list(target_of(teacher, output)) == ["softmax_logits"]
    unknown = kd.teachers.CallableTeacher(lambda x: x[:, :3], (3,))
    output = outputs_of(unknown, (X,), verbose=False)
    assert target_of(unknown, output) is output


def wide(classes, activation=None):
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(classes, activation)]
    )


@pytest.mark.parametrize(
    "classes, activation, top_k, expected",
    [
        (3, None, "auto", "Dense"),
        (1000, None, "auto", "TopK"),
        (1000, "softmax", "auto", "TopK"),
        (1000, "sigmoid", "auto", "Dense"),
        (1000, None, None, "Dense"),
        (3, None, 2, "TopK"),
    ],
)
def test_large_vocabularies_are_kept_as_top_k(
    tmp_path, classes, activation, top_k, expected
):
    cache = cache_of(tmp_path, wide(classes, activation), top_k=top_k)
    assert type(cache.encodings["output"]).__name__ == expected


def test_top_k_is_refused_for_yes_or_no_units(tmp_path):
    with pytest.raises(ValueError, match="`top_k` and `sampled` are for"):
        cache_of(tmp_path, wide(4, "sigmoid"), top_k=2)


def test_values_loss_on_a_few_classes_is_refused(tmp_path):
    attached = cache_of(tmp_path, linear(1), top_k=2).attach((X, Y), 24)
    with pytest.raises(ValueError, match="needs all values.*top_k=None"):
        first_values(None, attached, kd.losses.Regression())
