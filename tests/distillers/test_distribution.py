# SPDX-License-Identifier: Apache-2.0
"""Two replicas train the model that one trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp
from keras_kd.targets.attached import attach_targets
from replicas import two_replicas
from selection import quick

X, Y = features(), labels()


def train(
    scope,
    alpha=0.6,
    y=Y,
    x=X,
    sample_weight=None,
    attach=False,
    run_eagerly=False,
):
    """Trains a student with all there is to scale, for three epochs."""
    with scope:
        teacher = mlp(width=12, seed=1)
        l2 = keras.regularizers.L2(0.1)
        middle = layers.Dense(
            5,
            kernel_initializer=keras.initializers.GlorotUniform(7),
            kernel_regularizer=l2,
            activity_regularizer=l2,
        )
        student = mlp(middle, seed=2)
        keras.utils.set_random_seed(3)
        distiller = kd.Distiller(
            None if attach else teacher,
            student,
            alpha=alpha,
            distillation_losses=[
                kd.losses.SoftTargets(3.0, weight=0.8),
                kd.losses.FeatureMatching("hidden", "hidden"),
            ],
        )
        distiller.compile(
            keras.optimizers.SGD(0.1),
            cross_entropy(),
            metrics=["accuracy"],
            run_eagerly=run_eagerly,
        )
    if attach:
        taps = kd.tap(teacher, ["output", "hidden"]).predict(X, verbose=0)
        x = attach_targets(X, taps)
    history = distiller.fit(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=None if y is None else (X, Y),
    ).history
    return distiller, history


def one():
    return tf.distribute.get_strategy().scope()


def two():
    return two_replicas().scope()


@pytest.mark.parametrize(
    "case",
    quick(
        1,
        [
            pytest.param({}, id="labels"),
            pytest.param({"y": None, "alpha": 1.0}, id="no_labels"),
            pytest.param({"y": np.where(Y == 1, -1, Y)}, id="some_labels"),
            pytest.param(
                {"sample_weight": np.linspace(0.0, 2.0, len(X))},
                id="sample_weight",
            ),
            pytest.param({"attach": True}, id="attached_targets"),
        ],
    ),
)
def test_distiller_two_replicas_train_the_model_of_one(case):
    single, history = train(one(), run_eagerly=True, **case)
    mirrored, history_2 = train(two(), **case)
    assert mirrored.distribute_strategy.num_replicas_in_sync == 2
    assert_same_weights(mirrored, single, tolerance=2e-6)
    assert set(history_2) == set(history)
    for key, values in history.items():
        assert history_2[key] == pytest.approx(values, rel=1e-5), key


@pytest.mark.slow
def test_distiller_two_replicas_report_a_bad_label():
    wrong = np.where(np.arange(len(Y)) == 5, 7, Y)
    distiller, _ = train(two())
    with pytest.raises(ValueError, match="1 label.* of batch 0 .*range"):
        distiller.evaluate(X, wrong, batch_size=8, verbose=0)
