# SPDX-License-Identifier: Apache-2.0
"""MutualDistiller: students that learn from each other, and nothing else."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from distillers.test_equals_plain_fit import Subclassed
from distillers.test_equals_plain_fit import penalised
from distillers.tiny import Count
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from distillers.tiny import nll
from distillers.tiny import softmax
from keras_kd.distillers.mutual_students import peer_losses
from keras_kd.losses import SoftTargets
from keras_kd.recipes import digits
from replicas import two_replicas
from selection import quick

X, Y = features(), labels()
RATE = 0.5
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
ONCE = {**FIT, "batch_size": len(X)}


def noisy():
    return mlp(layers.BatchNormalization(), layers.Dropout(0.3, seed=3), seed=4)


def momentum():
    """With a state, as Adam, but of a third of the operations."""
    return keras.optimizers.SGD(0.1, momentum=0.9)


def compiled(model, optimizer=None, **compile_with):
    return model.compile(
        optimizer or momentum(),
        **{"loss": cross_entropy(), "metrics": ["accuracy"], **compile_with},
    )


def fit_once(mutual, *data, **fit_with):
    mutual.compile(
        keras.optimizers.SGD(RATE), loss=cross_entropy(), run_eagerly=True
    )
    history = mutual.fit(*data, **{**ONCE, **fit_with}).history
    return {key: values[0] for key, values in history.items()}


# What a step computes.


@pytest.mark.parametrize(
    ("alpha", "temperature"),
    quick(
        3,
        [(0.0, 3.0), (0.3, 3.0), (1.0, 1.0)]
        + [(0.0, 1.0), (0.3, 1.0), (1.0, 3.0)],
    ),
)
def test_mutual_step_equals_a_step_by_hand(alpha, temperature):
    students = [linear(seed=seed) for seed in (1, 2, 3)]
    z = [dense(student, X) for student in students]
    before = [student.get_weights() for student in students]
    mutual = kd.MutualDistiller(students, temperature, alpha)

    logs = fit_once(mutual, X, Y)

    totals = []
    for i, student in enumerate(students):
        peers = [j for j in range(3) if j != i]
        # The peer is the target: KL(p_j || p_i), not the other way round.
        soft = np.mean([kl(z[j], z[i], temperature).mean() for j in peers])
        totals.append(alpha * soft + (1 - alpha) * nll(Y, z[i]).mean())
        key = f"student_{i + 1}_"
        assert logs[f"{key}soft_targets"] == pytest.approx(soft, rel=1e-5)
        assert logs[f"{key}loss"] == pytest.approx(totals[i], rel=1e-5)

        # Only its own loss moves a student: peers are constant in it.
        q = softmax(z[i] / temperature)
        p = np.mean([softmax(z[j] / temperature) for j in peers], axis=0)
        pull = alpha * temperature * (q - p)
        push = (1 - alpha) * (softmax(z[i]) - np.eye(3)[Y])
        gradient = (pull + push) / len(X)
        kernel, bias = student.get_weights()
        np.testing.assert_allclose(
            kernel, before[i][0] - RATE * X.T @ gradient, atol=1e-5
        )
        np.testing.assert_allclose(
            bias, before[i][1] - RATE * gradient.sum(0), atol=1e-5
        )
    assert logs["loss"] == pytest.approx(np.mean(totals), rel=1e-5)


def test_peer_losses_let_no_gradient_into_the_peers():
    first, second = (tf.Variable(features(seed=seed)) for seed in (1, 2))
    with tf.GradientTape() as tape:
        losses = peer_losses([first, second], SoftTargets(1.0))
    own, peer = tape.gradient(losses[0], [first, second])
    assert np.abs(own).max() > 0.0
    assert peer is None


def test_mutual_weighs_examples_in_every_term():
    weight = np.linspace(0.0, 2.0, len(X))
    students = [linear(seed=1), linear(seed=2)]
    z = [dense(student, X) for student in students]
    logs = fit_once(
        kd.MutualDistiller(students, alpha=0.5), X, Y, sample_weight=weight
    )
    soft = (kl(z[1], z[0], 1.0) * weight).mean()
    hard = (nll(Y, z[0]) * weight).mean()
    assert logs["student_1_soft_targets"] == pytest.approx(soft, rel=1e-5)
    assert logs["student_1_loss"] == pytest.approx((soft + hard) / 2, rel=1e-5)


def test_mutual_learns_unlabelled_examples_from_peers_only():
    some = np.where(np.arange(len(Y)) < 10, Y, -1)
    students = [linear(seed=1), linear(seed=2)]
    z = [dense(student, X) for student in students]
    mutual = kd.MutualDistiller(students, alpha=0.4)
    compiled(mutual, run_eagerly=True)
    logs = mutual.fit(X, some, **ONCE).history
    soft = kl(z[0], z[1], 1.0).mean()
    hard = nll(Y, z[1])[:10].sum() / len(Y)
    total = 0.4 * soft + 0.6 * hard
    assert logs["student_2_loss"][0] == pytest.approx(total, rel=1e-5)
    right = (z[1].argmax(-1) == Y)[:10].mean()
    assert logs["student_2_accuracy"][0] == pytest.approx(right)
    probability = (softmax(z[0]) + softmax(z[1])) / 2
    right = (probability.argmax(-1) == Y)[:10].mean()
    assert logs["accuracy"][0] == pytest.approx(right)


def test_mutual_alpha_and_temperature_are_read_by_the_compiled_step():
    students = [linear(seed=1), linear(seed=2)]
    mutual = kd.MutualDistiller(students, alpha=0.2)
    mutual.compile(keras.optimizers.SGD(0.0), cross_entropy(), jit_compile=True)
    mutual.fit(X, Y, **ONCE)
    step = mutual.train_function
    mutual.alpha, mutual.temperature = 1.0, 4.0
    logs = mutual.fit(X, Y, **ONCE).history
    z = [dense(student, X) for student in students]
    soft = kl(z[1], z[0], 4.0).mean()
    assert logs["student_1_loss"][0] == pytest.approx(soft, rel=1e-5)
    assert mutual.train_function is step


@pytest.mark.parametrize(
    "mode",
    quick(1, [{"run_eagerly": True}] + [{"jit_compile": x} for x in (1, 0)]),
    ids=str,
)
def test_mutual_binary_students_learn_unit_by_unit(mode):
    students = [
        linear(seed=seed, units=1, activation="sigmoid") for seed in (1, 2)
    ]
    z = [dense(student, X) for student in students]
    y = (Y == 1).astype("float32")[:, None]
    mutual = kd.MutualDistiller(students, temperature=2.0, alpha=1.0)
    mutual.compile("sgd", "binary_crossentropy", **mode)
    logs = mutual.fit(X, y, **ONCE).history
    pairs = [np.concatenate([np.zeros_like(a), a], -1) for a in z]
    soft = kl(pairs[1], pairs[0], 2.0).mean()
    assert logs["student_1_soft_targets"][0] == pytest.approx(soft, rel=1e-4)


# The two extremes.


@pytest.mark.parametrize(
    ("policy", "eagerly"),
    quick(1, [("float32", True), ("float32", False), ("mixed_float16", True)]),
)
def test_mutual_alpha_0_equals_independent_fits(policy, eagerly):
    def build():
        keras.utils.set_random_seed(7)
        keras.config.set_dtype_policy(policy)
        # Keras itself cannot add a penalty of float16 to a float32 loss.
        first = penalised() if policy == "float32" else mlp()
        students = [first, noisy(), Subclassed()]
        keras.config.set_dtype_policy("float32")
        return students

    fit_with = {
        "epochs": 2,
        "batch_size": 12,
        "verbose": 0,
        "sample_weight": np.linspace(0.0, 2.0, len(X)),
        "validation_data": (X[:9] + 1.0, Y[:9]),
    }
    together, apart = build(), build()
    mode = {"run_eagerly": eagerly}
    mutual = compiled(kd.MutualDistiller(together, alpha=0.0), **mode)
    keras.utils.set_random_seed(11)
    history = mutual.fit(X, Y, **fit_with).history
    for i, (one, two) in enumerate(zip(together, apart, strict=True)):
        compiled(two, **mode)
        keras.utils.set_random_seed(11)
        alone = two.fit(X, Y, **fit_with).history
        assert_same_weights(one, two)
        for key, values in alone.items():
            prefix = f"val_student_{i + 1}_" if "val_" in key else ""
            prefix = prefix or f"student_{i + 1}_"
            assert history[prefix + key.removeprefix("val_")] == values, key
    assert len(set(history["loss"])) == 2


@pytest.mark.slow
def test_mutual_alpha_above_0_differs_from_independent_fits():
    one, two = mlp(seed=2), mlp(seed=2)
    mutual = compiled(kd.MutualDistiller([one, mlp(seed=1)], alpha=0.01))
    mutual.fit(X, Y, **FIT)
    two.compile(momentum(), cross_entropy())
    two.fit(X, Y, **FIT)
    with pytest.raises(AssertionError):
        assert_same_weights(one, two)


# Costs and optimizers.


def test_mutual_runs_every_student_once_a_step():
    counts = [Count(), Count(), Count()]
    students = [mlp(count, seed=i) for i, count in enumerate(counts)]
    mutual = compiled(kd.MutualDistiller(students), run_eagerly=True)
    mutual.fit(X, Y, **FIT)
    assert [count.calls for count in counts] == [3, 3, 3]
    assert all(count.training_flags == [True] * 3 for count in counts)
    mutual.evaluate(X, Y, batch_size=8, verbose=0)
    mutual.predict(X, batch_size=8, verbose=0)
    assert [count.calls for count in counts] == [9, 9, 9]
    assert not any(counts[0].training_flags[3:])


def test_mutual_gives_each_student_its_own_optimizer():
    given = keras.optimizers.Adam(0.25, beta_1=0.5)
    mutual = compiled(kd.MutualDistiller([mlp(), mlp()]), given)
    first, second = (student.optimizer for student in mutual.students)
    assert first is not second
    assert first.beta_1 == second.beta_1 == 0.5
    assert float(second.learning_rate) == 0.25

    pair = [keras.optimizers.SGD(0.1), "adam"]
    mutual = kd.MutualDistiller([mlp(), mlp()])
    compiled(mutual, pair, run_eagerly=True)
    assert mutual.students[0].optimizer is pair[0]
    assert type(mutual.students[1].optimizer) is keras.optimizers.Adam
    mutual.fit(X, Y, **FIT)
    assert [int(o.iterations) for o in mutual.optimizer.optimizers] == [3, 3]


def test_mutual_learning_rate_callbacks_act_on_every_student():
    mutual = kd.MutualDistiller([mlp(), mlp(seed=1)])
    compiled(mutual, run_eagerly=True)
    schedule = keras.callbacks.LearningRateScheduler(
        lambda epoch: 0.5 / 2**epoch
    )
    logs = mutual.fit(X, Y, epochs=2, callbacks=[schedule], **FIT).history
    assert logs["learning_rate_student_1"] == [0.5, 0.25]
    assert logs["learning_rate_student_2"] == [0.5, 0.25]
    mutual.optimizer.learning_rate = 0.125
    assert float(mutual.students[1].optimizer.learning_rate) == 0.125


@pytest.mark.slow
def test_mutual_averaged_weights_are_put_in_place():
    one, two = mlp(), mlp()
    average = {"use_ema": True, "ema_momentum": 0.5}
    mutual = kd.MutualDistiller([one, mlp(seed=1)], alpha=0.0)
    compiled(mutual, keras.optimizers.Adam(0.1, **average))
    mutual.fit(X, Y, **FIT)
    two.compile(keras.optimizers.Adam(0.1, **average), cross_entropy())
    two.fit(X, Y, **FIT)
    assert_same_weights(one, two)


def test_mutual_frozen_peer_teaches_and_stays():
    frozen = mlp(seed=1)
    frozen.trainable = False
    before = frozen.get_weights()
    mutual = kd.MutualDistiller([frozen, mlp()], alpha=0.5)
    compiled(mutual, run_eagerly=True)
    logs = mutual.fit(X, Y, epochs=2, **FIT).history
    assert_same_weights(frozen, before)
    assert (
        logs["student_2_soft_targets"][0] != logs["student_2_soft_targets"][1]
    )


@pytest.mark.slow
def test_mutual_two_replicas_train_the_students_of_one():
    def run(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(3)
            mutual = kd.MutualDistiller([penalised(), mlp(seed=2)], alpha=0.6)
            compiled(mutual, keras.optimizers.SGD(0.1))
        some = np.where(Y == 1, -1, Y)
        data = {"epochs": 2, "validation_data": (X, Y), **FIT}
        return mutual, mutual.fit(X, some, **data).history

    one, history = run(tf.distribute.get_strategy())
    two, history_2 = run(two_replicas())
    assert two.distribute_strategy.num_replicas_in_sync == 2
    assert_same_weights(one, two, tolerance=2e-6)
    assert set(history) == set(history_2)
    for key, values in history.items():
        assert history_2[key] == pytest.approx(values, rel=1e-5), key


# The ensemble.


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_mutual_predicts_the_mean_of_probabilities(activation):
    students = [linear(seed=s, activation=activation) for s in (1, 2, 3)]
    mean = np.mean([softmax(dense(student, X)) for student in students], 0)
    mutual = kd.MutualDistiller(students)
    prediction = mutual.predict(X, verbose=0)
    if activation is None:
        np.testing.assert_allclose(prediction, np.log(mean), atol=1e-5)
    else:
        np.testing.assert_allclose(prediction, mean, atol=1e-6)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )
    compiled(mutual, loss=loss, run_eagerly=True)
    logs = mutual.evaluate(X, Y, verbose=0, return_dict=True)
    hard = -np.log(mean[np.arange(len(Y)), Y]).mean()
    assert logs["loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((mean.argmax(-1) == Y).mean())
    for i, student in enumerate(students):
        own = nll(Y, dense(student, X)).mean()
        assert logs[f"student_{i + 1}_loss"] == pytest.approx(own, rel=1e-5)


def test_mutual_best_student_has_the_highest_accuracy():
    x, y = X, X[:, :3].argmax(-1)
    right, wrong = linear(seed=1), linear(seed=2)
    right.set_weights([np.eye(4, 3), np.zeros(3)])
    wrong.set_weights([-np.eye(4, 3), np.zeros(3)])
    mutual = kd.MutualDistiller([wrong, right])
    compiled(mutual, run_eagerly=True)
    assert mutual.best_student((x, y)) is right
    # Where not all have an accuracy, by the loss.
    mutual = kd.MutualDistiller([wrong, linear(seed=3), right])
    mutual.students[1].set_weights([9 * np.eye(4, 3), np.ones(3)])
    loss_only = compiled(mutual, metrics=None, run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    losses = [nll(y, dense(student, x)).mean() for student in mutual.students]
    assert loss_only.best_student(data) is mutual.students[np.argmin(losses)]


# Saving.


def build(**compile_with):
    keras.utils.set_random_seed(5)
    students = [mlp(seed=1), mlp(width=5, seed=2)]
    mutual = kd.MutualDistiller(students, temperature=2.0, alpha=0.6)
    return compiled(mutual, **compile_with)


@pytest.mark.slow
def test_mutual_trains_on_after_loading_as_if_never_saved(tmp_path):
    reference, mutual = build(), build()
    expected = [reference.fit(X, Y, **FIT).history for _ in range(2)][1]
    mutual.fit(X, Y, **FIT)
    mutual.save(tmp_path / "mutual.keras")
    loaded = keras.models.load_model(tmp_path / "mutual.keras")
    assert (loaded.alpha, loaded.temperature) == (0.6, 2.0)
    assert_same_weights(loaded, mutual)
    assert loaded.fit(X, Y, **FIT).history == expected
    assert_same_weights(loaded, reference)
    assert_same_weights(loaded.students[1], reference.students[1])


def test_mutual_config_round_trip():
    mutual = build()
    config = json.loads(json.dumps(mutual.get_config()))
    copy = kd.MutualDistiller.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config
    assert copy.name == mutual.name


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if len(self.model.history.epoch) == 2 and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_mutual_resumes_from_a_backup_to_the_same_weights(tmp_path):
    reference = build()
    reference.fit(X, Y, epochs=4, **FIT)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        build().fit(X, Y, epochs=4, callbacks=[backup(), Stop()], **FIT)
    resumed = build()
    history = resumed.fit(X, Y, epochs=4, callbacks=[backup()], **FIT)
    assert history.epoch == [2, 3]
    assert_same_weights(resumed, reference)


def test_mutual_student_is_saved_as_a_plain_model(tmp_path):
    mutual = build(run_eagerly=True)
    mutual.fit(X, Y, **FIT)
    mutual.students[1].save(tmp_path / "student.keras")
    student = keras.models.load_model(tmp_path / "student.keras")
    assert type(student) is keras.Sequential
    assert_same_weights(student, mutual.students[1])


# Errors.

SAME = mlp()
SHARED = layers.Dense(3)


def sharing():
    return keras.Sequential([keras.Input((4,)), SHARED])


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(
        inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)]
    )


def in_a_dict():
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"scores": layers.Dense(3)(inputs)})


@pytest.mark.parametrize(
    "students, options, message",
    [
        (lambda: [], {}, "at least one"),
        (lambda: [mlp()], {}, "at least two.*Received: 1"),
        (lambda: [SAME, SAME], {}, "same object"),
        (lambda: [sharing(), sharing()], {}, "share weights"),
        (lambda: [mlp(), mlp(units=4)], {}, "same classes.*3.*4"),
        (lambda: [mlp(), mlp(activation="softmax")], {}, "end in the same way"),
        (lambda: [mlp(), two_outputs()], {}, "one output each"),
        (lambda: [mlp(), in_a_dict()], {}, "gives a dict of one"),
        (lambda: [mlp(), "teacher"], {}, "builtins.str"),
        (lambda: [mlp(), mlp()], {"alpha": 1.5}, "alpha=1.5"),
        (lambda: [mlp(), mlp()], {"temperature": 0.0}, "temperature=0"),
    ],
)
def test_mutual_refuses(students, options, message):
    with pytest.raises(ValueError, match=message):
        kd.MutualDistiller(students(), **options)


@pytest.mark.parametrize(
    "optimizer, message",
    [
        ([keras.optimizers.Adam()], "list of 2.*Received: 1"),
        ([keras.optimizers.Adam()] * 2, "same object twice"),
        (["adam", None], "needs an optimizer"),
    ],
)
def test_mutual_compile_refuses(optimizer, message):
    with pytest.raises(ValueError, match=message):
        compiled(kd.MutualDistiller([mlp(), mlp()]), optimizer)


def test_mutual_reports_bad_labels():
    mutual = kd.MutualDistiller([mlp(), mlp(seed=1)])
    compiled(mutual, run_eagerly=True)
    wrong = np.where(np.arange(len(Y)) == 5, 7, Y)
    batches = tf.data.Dataset.from_tensor_slices((X, wrong)).batch(8)
    with pytest.raises(ValueError, match="1 label.* of batch 0 .*range"):
        mutual.fit(batches, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match="`y`: a label .* example 5"):
        mutual.fit(X, wrong, **FIT)
    with pytest.raises(ValueError, match="needs labels"):
        mutual.fit(X, **FIT)


# The whole of it.


@pytest.mark.slow
def test_mutual_two_students_learn_the_digits():
    data = digits.load_data(labelled=None)
    students = [digits.build_student(), digits.build_student()]
    mutual = kd.MutualDistiller(students)
    compiled(mutual, keras.optimizers.Adam(0.01))
    mutual.fit(*data.train, epochs=8, batch_size=32, verbose=0)
    logs = mutual.evaluate(*data.test, verbose=0, return_dict=True)
    assert min(logs["student_1_accuracy"], logs["student_2_accuracy"]) > 0.9
    best = mutual.best_student(data.validation)
    assert best in students
    x, y = data.validation
    figures = [
        (student.predict(x, verbose=0).argmax(-1) == y).mean()
        for student in students
    ]
    assert best is students[int(np.argmax(figures))]
