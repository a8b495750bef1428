# SPDX-License-Identifier: Apache-2.0
"""HyperDistiller under KerasTuner's own tuners."""

from __future__ import annotations

import h5py
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers import tiny
from distillers.tiny import assert_same_weights
from selection import quick
from tuning.tiny_search import VALIDATION
from tuning.tiny_search import X
from tuning.tiny_search import Y
from tuning.tiny_search import build_student
from tuning.tiny_search import settings
from tuning.tiny_search import train

FIT = {"validation_data": VALIDATION, "batch_size": 8, "verbose": 0}


def teacher(**kwargs):
    return tiny.mlp(**{"width": 16, "seed": 5, **kwargs})


def searched(kind, hyper, directory, x=X, epochs=2, **kwargs):
    keras.utils.set_random_seed(0)
    arguments = {"objective": "val_accuracy", "directory": directory, "seed": 1}
    if kind is not keras_tuner.Hyperband:
        arguments["max_trials"] = 2
    tuner = kind(hyper, **arguments, **kwargs)
    tuner.search(x, Y, epochs=epochs, **FIT)
    return tuner


def arrays_in(tuner, trial):
    """Returns `{path: array}` of a trial's checkpoint."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(tuner._get_checkpoint_fname(trial.trial_id)) as file:
        file.visititems(visit)
    return found


def check_best_model(tuner):
    trial = tuner.oracle.get_best_trials()[0]
    best = tuner.get_best_models()[0]
    result = best.evaluate(*VALIDATION, verbose=0, return_dict=True)
    assert result["accuracy"] == pytest.approx(trial.score)
    stored = arrays_in(tuner, trial)
    kept = {k: v for k, v in stored.items() if not k.startswith("optimizer/")}
    assert sorted(v.shape for v in kept.values()) == sorted(
        tuple(v.shape) for v in best.weights
    )
    for variable in best.weights:
        assert any(np.array_equal(variable.numpy(), v) for v in kept.values())
    # Adam's two moments of what is trained, its steps and its rate.
    others = len(stored) - len(kept)
    assert others == 2 + 2 * len(best.trainable_variables)
    return best


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        keras_tuner.RandomSearch,
        pytest.param(keras_tuner.BayesianOptimization, marks=pytest.mark.slow),
        pytest.param(keras_tuner.GridSearch, marks=pytest.mark.slow),
    ],
)
def test_hyper_distiller_works_with_tuner(kind, tmp_path, capsys):
    tuner = searched(
        kind, kd.HyperDistiller(teacher(), build_student), tmp_path
    )
    check_best_model(tuner)
    trials = tuner.oracle.trials.values()
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2
    best = tuner.get_best_hyperparameters()[0]
    assert set(best.values) == {"temperature", "alpha", "learning_rate"}
    capsys.readouterr()
    tuner.results_summary()
    assert "temperature:" in capsys.readouterr().out


def features_and_logits(hp):
    between = kd.losses.FeatureMatching("hidden", "hidden", projector="auto")
    return [kd.losses.SoftTargets(), between]


@pytest.mark.slow
def test_best_model_of_search_with_projector(tmp_path):
    hyper = kd.HyperDistiller(
        teacher(), build_student, distillation_losses=features_and_logits
    )
    best = check_best_model(searched(keras_tuner.RandomSearch, hyper, tmp_path))
    assert "feature_matching" in best.projectors


@pytest.mark.slow
@pytest.mark.parametrize("losses", [None, features_and_logits])
def test_best_model_of_search_on_attached_targets(losses, tmp_path):
    model = teacher()
    hidden = keras.Model(model.inputs, model.get_layer("hidden").output)
    targets = {"output": model.predict(X, verbose=0)}
    if losses is not None:
        targets["hidden"] = hidden.predict(X, verbose=0)
    hyper = kd.HyperDistiller(None, build_student, distillation_losses=losses)
    tuner = searched(
        keras_tuner.RandomSearch,
        hyper,
        tmp_path,
        x=kd.attach_targets(X, targets),
    )
    trial = tuner.oracle.get_best_trials()[0]
    best = tuner.get_best_models()[0]
    result = best.evaluate(*VALIDATION, verbose=0, return_dict=True)
    assert result["accuracy"] == pytest.approx(trial.score)
    assert best.predict(X, verbose=0).shape == (len(X), tiny.CLASSES)


class Begun(keras.callbacks.Callback):
    """Notes what each training starts from; KerasTuner copies callbacks."""

    notes = []

    def on_epoch_begin(self, epoch, logs=None):
        if self.first:
            weights = self.model.get_weights()
            steps = int(self.model.optimizer.iterations)
            Begun.notes.append((epoch, steps, weights))
        self.first = False

    def on_train_begin(self, logs=None):
        self.first = True


@pytest.mark.slow
def test_hyperband_goes_on_from_checkpoints(tmp_path):
    Begun.notes = []
    hyper = kd.HyperDistiller(teacher(), build_student, learning_rate=0.01)
    tuner = keras_tuner.Hyperband(
        hyper,
        objective="val_accuracy",
        max_epochs=2,
        factor=2,
        directory=tmp_path,
        seed=1,
    )
    tuner.search(X, Y, **FIT, callbacks=[Begun()])
    check_best_model(tuner)
    trials = [tuner.oracle.trials[n] for n in tuner.oracle.start_order]
    assert len(trials) == len(Begun.notes)
    went_on = 0
    for trial, (epoch, steps, weights) in zip(trials, Begun.notes, strict=True):
        values = trial.hyperparameters.values
        assert epoch == values["tuner/initial_epoch"]
        if "tuner/trial_id" not in values:
            assert steps == 0
            continue
        went_on += 1
        stored = arrays_in(tuner, tuner.oracle.trials[values["tuner/trial_id"]])
        assert steps == stored["optimizer/vars/0"] > 0
        for weight in weights:
            assert any(np.array_equal(weight, v) for v in stored.values())
    assert went_on > 0


@pytest.mark.slow
def test_same_seed_gives_the_same_search(tmp_path):
    def scores(folder):
        hyper = kd.HyperDistiller(teacher(), build_student)
        tuner = searched(keras_tuner.RandomSearch, hyper, tmp_path / folder)
        return [
            (trial.score, trial.hyperparameters.values)
            for trial in tuner.oracle.trials.values()
        ]

    assert scores("first") == scores("second")


def counting_teacher():
    model, rows = teacher(), []

    def answer(x):
        rows.append(len(x))
        return model(x).numpy()

    return kd.teachers.CallableTeacher(answer), rows


def small():
    """A student of two variables: Adam takes long to trace, by the variable."""
    return tiny.linear()


@pytest.mark.usefixtures("eager")
def test_teacher_labels_arrays_once_for_all_trials(capsys):
    source, rows = counting_teacher()
    hyper = kd.HyperDistiller(source, small)
    for temperature in (1.0, 2.0):
        train(hyper, settings(temperature=temperature), epochs=1, verbose=2)
    assert sum(rows) == len(X)
    assert capsys.readouterr().out.count("once for all trials") == 1
    # Others, as far as one can know.
    train(hyper, settings(), x=X.copy(), epochs=1)
    assert sum(rows) == 2 * len(X)
    assert capsys.readouterr().out == ""  # verbose=0


@pytest.mark.usefixtures("eager")
def test_stored_labels_teach_as_a_live_teacher_does():
    hyper = kd.HyperDistiller(teacher(), small)
    stored = train(hyper, settings(), epochs=1)
    keras.utils.set_random_seed(0)
    live = kd.HyperDistiller(teacher(), small).build(settings())
    live.fit(X, Y, epochs=1, batch_size=8, verbose=0)
    assert_same_weights(stored, live, tolerance=1e-5)


@pytest.mark.usefixtures("eager")
def test_teacher_runs_live_over_a_data_set():
    source, rows = counting_teacher()
    hyper = kd.HyperDistiller(source, small)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    given = {"x": data, "y": None, "batch_size": None, "shuffle": False}
    for _ in range(2):
        train(hyper, settings(), epochs=1, **given)
    assert sum(rows) == 2 * len(X)


@pytest.mark.slow
def test_teacher_object_serves_trials_with_other_taps():
    def losses(hp):
        if hp.Boolean("features"):
            return features_and_logits(hp)
        return kd.losses.SoftTargets()

    hyper = kd.HyperDistiller(
        kd.teachers.FrozenTeacher(teacher()),
        build_student,
        distillation_losses=losses,
    )
    for features in (True, False, True, False):
        history = train(hyper, settings(features=features)).history
        assert ("feature_matching" in history.history) == features
    # Another shape of batches makes the step of the first one anew.
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    train(
        hyper,
        settings(features=True),
        x=data,
        y=None,
        batch_size=None,
        shuffle=False,
    )


def space_of(**kwargs):
    hyper = kd.HyperDistiller(teacher(), build_student, **kwargs)
    hp = keras_tuner.HyperParameters()
    return hyper.build(hp), hp


def test_space_of_ranges_starts_at_the_defaults():
    distiller, hp = space_of()
    assert distiller.temperature == 1.0
    assert distiller.alpha == 0.7
    assert float(distiller.optimizer.learning_rate) == pytest.approx(1e-3)
    kinds = {p.name: (p.min_value, p.max_value, p.sampling) for p in hp.space}
    assert kinds == {
        "temperature": (1.0, 20.0, "log"),
        "alpha": (0.0, 1.0, "linear"),
        "learning_rate": (1e-4, 1e-2, "log"),
    }


def test_space_of_numbers_and_lists():
    distiller, hp = space_of(
        temperature=[2, 8.0], alpha=(0.8, 0.9), learning_rate=0.5
    )
    assert distiller.temperature == 2.0
    assert distiller.alpha == 0.8
    assert float(distiller.optimizer.learning_rate) == 0.5
    kinds = [type(p).__name__ for p in hp.space]
    assert kinds == ["Choice", "Float", "Fixed"]


def test_space_without_temperature_where_no_loss_has_one():
    _, hp = space_of(
        distillation_losses=kd.losses.FeatureMatching(
            "hidden", "hidden", projector="auto"
        )
    )
    assert "temperature" not in hp.values


def test_losses_keep_their_temperature_if_it_is_none():
    distiller, hp = space_of(
        temperature=None, distillation_losses=kd.losses.SoftTargets(7.0)
    )
    assert distiller.temperature == 7.0
    assert "temperature" not in hp.values


def test_losses_and_student_are_searched():
    def build(hp):
        return tiny.mlp(width=hp.Int("width", 2, 9))

    def losses(hp):
        kind = hp.Choice("kind", ["soft_targets", "decoupled"])
        loss = kd.losses.get(kind)
        loss.weight = hp.Float("weight", 0.5, 2.0)
        return loss

    hyper = kd.HyperDistiller(teacher(), build, distillation_losses=losses)
    distiller = hyper.build(settings(kind="decoupled", weight=1.5, width=3))
    (loss,) = distiller.distillation_losses
    assert (loss.name, loss.weight, loss.temperature) == ("decoupled", 1.5, 4.0)
    assert distiller.student.get_layer("hidden").units == 3


def test_losses_are_copied_for_each_trial():
    given = kd.losses.SoftTargets(3.0)
    hyper = kd.HyperDistiller(
        teacher(), build_student, distillation_losses=[given]
    )
    first = hyper.build(settings(temperature=5.0))
    second = hyper.build(settings(temperature=6.0))
    assert given.temperature == 3.0
    assert (first.temperature, second.temperature) == (5.0, 6.0)


BAD = {
    "temperature=(0, 2)": ({"temperature": (0.0, 2.0)}, "in \\(0, inf\\)"),
    "temperature=(2, 1)": ({"temperature": (2.0, 1.0)}, "low < high"),
    "temperature=text": ({"temperature": "hot"}, "Received: temperature='hot'"),
    "temperature=bool": ({"temperature": True}, "temperature=True"),
    "temperature=nan": ({"temperature": float("nan")}, "`temperature` must"),
    "alpha above 1": ({"alpha": (0.5, 1.5)}, "in \\[0, 1\\]"),
    "alpha of three": ({"alpha": (0.1, 0.2, 0.3)}, "`alpha` must be"),
    "alpha=None": ({"alpha": None}, "`alpha` must be"),
    "no rates": ({"learning_rate": []}, "`learning_rate` must be"),
    "rate=inf": ({"learning_rate": (0.1, float("inf"))}, "`learning_rate`"),
    "steps=0": ({"steps": 0}, "`steps` must be"),
    "steps=1.5": ({"steps": 1.5}, "`steps` must be"),
    "teacher": ({"teacher": "big"}, "`teacher` must be"),
    "losses": ({"distillation_losses": "hintons"}, "distillation loss"),
    "student built": ({"build_student": build_student()}, "lambda: build"),
    "two arguments": (
        {"build_student": lambda a, b: 0},
        "needs \\['a', 'b'\\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_argument_is_refused_at_once(case):
    given, text = BAD[case]
    arguments = {"teacher": teacher(), "build_student": build_student, **given}
    with pytest.raises(ValueError, match=text):
        kd.HyperDistiller(**arguments)


ONE = tiny.mlp()
FATAL = {
    "no model": ({"build_student": lambda: "model"}, "must be a keras.Model"),
    "one model": ({"build_student": lambda: ONE}, "a new model each time"),
    "classes": ({"build_student": lambda: tiny.mlp(units=5)}, "same classes"),
    "tap": (
        {"distillation_losses": kd.losses.FeatureMatching("nowhere", "hidden")},
        "nowhere",
    ),
    "weight": (
        {"distillation_losses": lambda hp: kd.losses.SoftTargets(weight=-1.0)},
        "`weight` must",
    ),
    "kind": ({"distillation_losses": lambda hp: 3}, "a distillation loss"),
}


@pytest.mark.parametrize("case", quick(1, FATAL))
def test_error_of_the_set_up_ends_the_search(case, tmp_path):
    given, text = FATAL[case]
    arguments = {"teacher": teacher(), "build_student": build_student, **given}
    hyper = kd.HyperDistiller(**arguments)
    with pytest.raises(keras_tuner.errors.FatalError, match=text):
        searched(keras_tuner.RandomSearch, hyper, tmp_path)


def test_one_linear_unit_has_no_default_loss():
    def one():
        return tiny.mlp(units=1)

    hyper = kd.HyperDistiller(one(), one)
    with pytest.raises(keras_tuner.errors.FatalError, match="task.*Regression"):
        hyper.build(keras_tuner.HyperParameters())
    task = kd.tasks.Regression()
    built = kd.HyperDistiller(one(), one, task=task)
    loss = built.build(keras_tuner.HyperParameters()).loss
    assert "mean_squared" in getattr(loss, "name", loss)
