# SPDX-License-Identifier: Apache-2.0
"""One student on two workers learns what it learns in one process."""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.engines import one_student

pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")
OPTIONS = {"batch_size": 8, "seed": 5, "epochs": 3}


def network(width, seed):
    start = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, "relu", kernel_initializer=start(seed)),
            keras.layers.Dense(2, kernel_initializer=start(seed + 1)),
        ]
    )


def build():
    distiller = kd.Distiller(network(16, 1), network(4, 2), temperature=2.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return distiller.compile("adam", loss, metrics=["accuracy"])


def alone(epochs=3):
    """The same steps in this process."""
    keras.utils.set_random_seed(5)
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    batches = data.shuffle(40, seed=5).batch(8, drop_remainder=True)
    return build().fit(batches, epochs=epochs, verbose=0).history


@pytest.mark.slow
def test_two_workers_learn_what_one_process_does(tmp_path):
    died = tmp_path / "died"

    class Dies(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            rank = '"index": 1' in os.environ["TF_CONFIG"]
            if epoch == 2 and rank and not died.exists():
                died.touch()
                os._exit(9)

    engine = kd.engines.Ray(workers=2)
    given = OPTIONS | {"backup": tmp_path / "backup", "callbacks": [Dies()]}
    expected = alone()
    with pytest.raises(kd.engines.TaskLostError, match="goes on from.*backup"):
        engine.fit(build, (X, Y), **given)
    _, rest = engine.fit(build, (X, Y), **given)
    # The last epoch alone, of examples in another order.
    assert rest["loss"] == pytest.approx(expected["loss"][2:], rel=0.05)
    content, history = engine.fit(build, (X, Y), **OPTIONS)
    assert set(history) == set(expected)
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, abs=1e-6), name
    path = pathlib.Path(tmp_path / "student.keras")
    path.write_bytes(content)
    student = keras.saving.load_model(path)
    assert student(X).shape == (40, 2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EOFError("gone"), kd.engines.TaskLostError),
        (RuntimeError("UnavailableError: peer"), kd.engines.TaskLostError),
        (ValueError("no such width"), ValueError),
    ],
)
def test_errors_of_a_training_are_not_taken_for_deaths(error, kind):
    with pytest.raises(kind, match="from there|no such width"):
        one_student.raise_plainly(error, (EOFError,), "there")
