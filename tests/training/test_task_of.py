# SPDX-License-Identifier: Apache-2.0
"""The task is known before the first step, and chooses the epoch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.training.task_of import JudgeEpochs
from keras_kd.training.task_of import task_of
from keras_kd.training.trainer import train
from keras_kd.training.trainer import validation_value
from selection import quick

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")


def build(units, activation=None):
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units, activation)]
    )


def data_of(y):
    return kd.Data(train=(X, y), validation=(X, y))


def test_task_is_inferred_of_validation_labels_or_refused():
    data = data_of(np.arange(16) % 2)
    with pytest.raises(ValueError, match="Pass `task`"):
        task_of(None, None, build(1), data, None)
    found = task_of(None, None, build(1), data, "mse")
    assert found == kd.tasks.Regression()
    found = task_of(None, None, build(1, "sigmoid"), data, None)
    assert found == kd.tasks.Classification()
    given = {"it": kd.tasks.Classification()}
    assert task_of(given, None, build(1), data, None) == kd.tasks.get(given)


@pytest.mark.parametrize(
    ("task", "units", "y"),
    quick(
        1,
        [
            # Less is better; by a metric that Keras has; that it has not.
            (kd.tasks.Regression(), 1, np.arange(16.0)),
            (kd.tasks.Classification(), 3, np.arange(16) % 3),
            (kd.tasks.Recommendation(top_k=2), 5, np.arange(16) % 5),
        ],
    ),
)
def test_best_epoch_is_that_of_the_headline(task, units, y):
    model, facts = train(
        lambda: build(units), data_of(y), title=None, task=task, epochs=3
    )
    name = f"val_{task.headline.name}"
    best = max if task.headline.direction == "max" else min
    assert facts[name] == pytest.approx(best(facts["history"][name]))
    meter = task.meter(outputs="logits" if units > 1 else None)
    meter.update(model.predict(X, verbose=0), y)
    found = meter.result()[task.headline.name]
    assert facts[name] == pytest.approx(found, rel=1e-4)
    value = validation_value(facts, task.headline)
    sign = 1 if best is max else -1
    assert value == pytest.approx(sign * task.headline.scale * facts[name])


def test_epochs_need_labels_to_be_chosen_by():
    task = kd.tasks.Recommendation(top_k=2)
    judging = JudgeEpochs(task, (X, np.full(16, -1)))
    judging.set_model(build(5))
    with pytest.raises(ValueError, match="gives no ndcg_at_2"):
        judging.on_epoch_end(0, {})
