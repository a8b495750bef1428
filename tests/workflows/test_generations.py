# SPDX-License-Identifier: Apache-2.0
"""born_again() and teach_through(): loops over train(), and nothing more."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import softmax
from keras_kd.core import output_heads
from keras_kd.data.splits import Data
from keras_kd.models.ensemble import ensemble
from keras_kd.recipes import digits
from keras_kd.targets.attached import outputs_of
from keras_kd.training.trainer import train
from keras_kd.workflows import chain as module

LEARN = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
# Of a third of Adam's operations.
LEARN["optimizer"] = "sgd"


def build(width=8, activation=None):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(3, activation),
        ],
        name="student",
    )


def build_middle():
    return build(16)


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    return Data(train=(x[:60], y[:60]), validation=(x[60:], y[60:]))


def trained(data, builder=build, **options):
    return train(builder, data, title="", **LEARN, **options)[0]


def targets_of(model, data):
    teacher = kd.teachers.FrozenTeacher(model)
    return outputs_of(teacher, data.train, verbose=False)


# Generations.


def test_born_again_one_generation_equals_train(eager):
    data = make_data()
    result = kd.born_again(build, data, generations=1, seed=3, **LEARN)
    assert len(result.students) == len(result.records) == 1
    assert result.best is result.students[0]
    assert_same_weights(result.best, trained(data, seed=3))


@pytest.mark.slow
def test_born_again_each_generation_learns_from_the_one_before():
    data = make_data()
    result = kd.born_again(
        build, data, 3, temperature=2.0, alpha=0.6, patience=3, seed=5, **LEARN
    )
    assert len(result.students) == 3
    for number in (1, 2):
        before = result.students[number - 1]
        expected = trained(
            data,
            targets=targets_of(before, data),
            temperature=2.0,
            alpha=0.6,
            seed=5 + number,
        )
        assert_same_weights(result.students[number], expected)
    with pytest.raises(AssertionError):
        assert_same_weights(result.students[1], trained(data, seed=6))


@pytest.mark.slow
def test_born_again_first_generation_may_have_a_teacher():
    data = make_data()
    teacher = build_middle()
    result = kd.born_again(build, data, 1, teacher=teacher, **LEARN)
    expected = trained(
        data, targets=targets_of(teacher, data), temperature=1.0, alpha=0.5
    )
    assert_same_weights(result.best, expected)


@pytest.mark.slow
def test_born_again_records_what_was_done():
    data = make_data()
    result = kd.born_again(
        build,
        data,
        2,
        patience=2,
        loss=cross_entropy(),
        distillation_losses=[kd.losses.SoftTargets(3.0)],
        **LEARN,
    )
    x, y = data.test
    for number, record in enumerate(result.records):
        json.dumps(record.to_json())
        assert record.name == f"generation {number}"
        assert record.settings["seed"] == number
        assert record.settings["alpha"] == 0.5
        assert record.settings["epochs"] == LEARN["epochs"]
        assert record.metrics["steps"] == 2 * 4
        predicted = result.students[number].predict(x, verbose=0).argmax(-1)
        assert record.metrics["accuracy"] == pytest.approx(
            (predicted == y).mean()
        )
        assert record.seconds > 0.0


@pytest.mark.parametrize(
    "watched, values, patience, count, best",
    [
        ("val_accuracy", [0.5, 0.6, 0.7, 0.8], 1, 4, 3),
        ("val_accuracy", [0.5, 0.6, 0.6, 0.9], 1, 3, 1),
        ("val_accuracy", [0.5, 0.4, 0.9, 0.8], 1, 2, 0),
        ("val_accuracy", [0.5, 0.4, 0.9, 0.8], 2, 4, 2),
        ("val_loss", [0.5, 0.4, 0.9, 0.1], 1, 3, 1),
    ],
)
def test_born_again_stops_when_validation_does_not_improve(
    eager, monkeypatch, watched, values, patience, count, best
):
    left = iter(values)

    def fake(builder, data, **options):
        facts = {watched: next(left), "seconds": 1.0, "history": {}}
        return builder(), facts

    monkeypatch.setattr(module, "train", fake)
    result = kd.born_again(build, make_data(), 4, patience=patience)
    assert len(result.students) == len(result.records) == count
    assert result.best is result.students[best]


@pytest.mark.parametrize("name", ["generations", "patience"])
def test_born_again_refuses(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        kd.born_again(build, make_data(), **{name: 0})


# Chains.


@pytest.mark.slow
def test_teach_through_one_builder_equals_plain_distillation():
    data, teacher = make_data(), build_middle()
    student, records = kd.teach_through(
        teacher, [build], data, temperature=3.0, alpha=0.8, seed=2, **LEARN
    )
    expected = trained(
        data,
        targets=targets_of(teacher, data),
        temperature=3.0,
        alpha=0.8,
        seed=2,
    )
    assert_same_weights(student, expected)
    assert len(records) == 1


@pytest.mark.slow
def test_teach_through_passes_on_what_each_link_learned():
    data, teacher = make_data(), build(32)
    student, records = kd.teach_through(
        teacher, [build_middle, build], data, **LEARN
    )
    middle = trained(data, build_middle, targets=targets_of(teacher, data))
    expected = trained(data, targets=targets_of(middle, data))
    assert_same_weights(student, expected)
    assert [r.name for r in records] == ["link 1 of 2", "link 2 of 2"]
    assert records[0].metrics["parameters"] == middle.count_params()


@pytest.mark.parametrize(
    "teacher, builders, message",
    [(None, [build], "teacher=None"), (build(), [], r"builders=\[\]")],
)
def test_teach_through_refuses(teacher, builders, message):
    with pytest.raises(ValueError, match=message):
        kd.teach_through(teacher, builders, make_data())


# Ensembles.


def probabilities(model, x):
    outputs = model.predict(x, verbose=0)
    ends_in_logits = model.layers[-1].activation.__name__ == "linear"
    return softmax(outputs) if ends_in_logits else outputs


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("count", [1, 3])
def test_ensemble_gives_the_mean_of_probabilities(eager, count, activation):
    x, _ = make_data().test
    members = [build(activation=activation) for _ in range(count)]
    together = ensemble(members)
    mean = np.mean([probabilities(member, x) for member in members], axis=0)
    np.testing.assert_allclose(probabilities(together, x), mean, atol=1e-6)
    # What it ends in can be read, so losses and exports find it.
    assert output_heads.activation_of(together) == (activation or "linear")


def test_ensemble_is_saved_with_its_members(tmp_path):
    x, _ = make_data().test
    together = ensemble([build(), build(16)])
    together.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), together.predict(x, verbose=0)
    )


def test_ensemble_of_binary_logits_averages_their_probabilities():
    x, _ = make_data().test
    members = [
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        for _ in range(2)
    ]
    mean = np.mean(
        [1 / (1 + np.exp(-m.predict(x, verbose=0))) for m in members], axis=0
    )
    logits = ensemble(members, binary=True).predict(x, verbose=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), mean, atol=1e-6)


def test_ensemble_refuses_members_that_differ():
    with pytest.raises(ValueError, match="end in the same way"):
        ensemble([build(), build(activation="softmax")])
    with pytest.raises(ValueError, match="at least one"):
        ensemble([])


# On real data.


@pytest.mark.slow
def test_born_again_learns_the_digits():
    data = digits.load_data(labelled=None)
    result = kd.born_again(
        digits.build_student,
        data,
        2,
        patience=2,
        epochs=6,
        batch_size=32,
        learning_rate=1e-2,
    )
    x, y = data.test
    together = result.ensemble().predict(x, verbose=0).argmax(-1)
    assert (together == y).mean() > 0.9
    assert min(r.metrics["accuracy"] for r in result.records) > 0.85
    figures = [record.metrics["val_accuracy"] for record in result.records]
    assert result.best is result.students[int(np.argmax(figures))]


# Kept in a folder.


def stopped_at(count, monkeypatch):
    """Lets the training of that number, from 0, and all later ones fail."""
    real, calls = module.train, []

    def counted(*args, **options):
        if len(calls) == count:
            raise KeyboardInterrupt
        calls.append(options["title"])
        return real(*args, **options)

    monkeypatch.setattr(module, "train", counted)
    return calls


def an_old_one():
    keras.utils.set_random_seed(7)
    return build_middle()


CHAINS = {
    "born_again": lambda data, folder: (
        kd.born_again(
            *(build, data, 2), directory=folder, verbose=0, patience=2, **LEARN
        ).students
    ),
    "teach_through": lambda data, folder: [
        kd.teach_through(
            *(an_old_one(), [build_middle, build], data),
            **{"directory": folder, "verbose": 0, **LEARN},
        )[0]
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_chain_in_a_folder_trains_what_is_missing(name, tmp_path, monkeypatch):
    def fake(builder, data, **options):
        return builder(), {"val_accuracy": 0.5, "seconds": 1.0, "history": {}}

    monkeypatch.setattr(module, "train", fake)
    with monkeypatch.context() as patch:
        stopped_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            CHAINS[name](make_data(), tmp_path)
    trainings = stopped_at(9, monkeypatch)
    first = CHAINS[name](make_data(), tmp_path)
    again = CHAINS[name](make_data(), tmp_path)
    assert len(trainings) == 1  # the second student, once
    for student, expected in zip(again, first, strict=True):
        assert_same_weights(student, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_chain_in_a_folder_goes_on_from_its_last_student(
    name, tmp_path, monkeypatch
):
    run, data = CHAINS[name], make_data()
    whole = run(data, None)
    with monkeypatch.context() as patch:
        stopped_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path)
    trainings = stopped_at(9, monkeypatch)
    for students in (run(data, tmp_path), run(data, tmp_path)):
        for student, expected in zip(students, whole, strict=True):
            assert_same_weights(student, expected)
        assert len(trainings) == 1  # the second, once
    # A label is another: all that depends on it is done again.
    data.train[1][0] = (data.train[1][0] + 1) % 3
    run(data, tmp_path)
    assert len(trainings) == 3
