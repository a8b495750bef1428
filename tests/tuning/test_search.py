# SPDX-License-Identifier: Apache-2.0
"""kd.search: cheap, honest, and the trials it says it ran."""

from __future__ import annotations

import contextlib

import h5py
import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.teachers import FrozenTeacher
from keras_kd.training.trainer import train
from keras_kd.tuning.result import SearchResult
from keras_kd.tuning.trials import driver
from keras_kd.tuning.trials.trial import MedianStop
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.tuning.trials.trial_record import TrialRecord
from tuning.toy import DATA
from tuning.toy import build_student
from tuning.toy import make_teacher
from tuning.toy import quickly

SEARCH = {"trials": 4, "confirm": 1, "learning_rate": (1e-3, 0.1)}
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One search that most tests below look at."""
    directory = tmp_path_factory.mktemp("search")
    with traces() as count:
        result = quickly(directory, **SEARCH)
    result.traces = len(count)
    return result


@pytest.fixture(scope="module")
def alone(found):
    """A training with the settings of one trial, and its traces."""
    with traces() as count:
        _, facts = train(
            build_student,
            DATA,
            title=None,
            seed=0,
            epochs=3,
            batch_size=16,
            teacher=make_teacher(),
            **found.rows[2].settings,
        )
    return facts, len(count)


@contextlib.contextmanager
def traces():
    """Yields a list that grows with each trace of a distiller's step."""
    count, step = [], kd.Distiller.train_step

    def counted(self, data):
        count.append(self)
        return step(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kd.Distiller, "train_step", counted)
        yield count


@pytest.mark.slow
def test_overwrite_begins_again_and_removes_nothing_else(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "mine").touch()
    (tmp_path / "study.json").write_text("{}")
    result = quickly(tmp_path, trials=2, overwrite=True)
    assert [row.status for row in result.rows] == [COMPLETED] * 2
    assert (tmp_path / "trials" / "mine").exists()


def test_search_runs_the_control_and_the_trials(found):
    names = [row.name for row in found.rows]
    assert names == [CONTROL, "0", "1", "2"]
    assert {row.status for row in found.rows} <= {COMPLETED, STOPPED}
    assert found.rows[1].settings["temperature"] == 1.0
    assert found.rows[1].settings["alpha"] == 0.7


def test_search_returns_the_best_student(found):
    best = max(r.objective for r in found.rows if r.name != CONTROL)
    assert found.best.objective == best
    model = found.best_model
    model.compile(metrics=["accuracy"], loss=tiny_loss())
    measured = model.evaluate(*DATA.validation, verbose=0, return_dict=True)
    assert measured["accuracy"] == pytest.approx(best)
    assert isinstance(model, keras.Sequential)  # the student, not a Distiller


def tiny_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_search_returns_settings_that_others_take(found):
    settings = found.best_settings
    assert set(settings) == {"temperature", "alpha", "learning_rate"}
    expected = found.best.settings
    assert settings == pytest.approx(expected)
    hp = found.best_hyperparameters
    assert hp.get("alpha") == settings["alpha"]
    assert (
        found.build_student().count_params() == build_student().count_params()
    )


def test_search_trial_equals_a_training_with_its_settings(found, alone):
    row, (facts, _) = found.rows[2], alone
    for name, values in facts["history"].items():
        np.testing.assert_allclose(
            values[: row.epochs], row.history[name], rtol=1e-4, err_msg=name
        )


def test_search_control_equals_a_training_without_a_teacher(found):
    _, facts = train(
        build_student,
        DATA,
        title=None,
        seed=0,
        epochs=3,
        batch_size=16,
        learning_rate=1e-3,
    )
    assert found.rows[0].history == facts["history"]


@pytest.mark.slow
def test_search_confirms_with_fresh_seeds(tmp_path):
    found = quickly(tmp_path, **{**SEARCH, "trials": 3, "confirm": 2})
    confirmed = found.confirmed
    assert confirmed.seeds == [1, 2]
    sides = {
        "best": found.best_settings,
        "default": {**found.best_settings, "temperature": 1.0, "alpha": 0.7},
    }
    for side, settings in sides.items():
        model, facts = train(
            build_student,
            DATA,
            title=None,
            seed=2,
            epochs=3,
            batch_size=16,
            teacher=make_teacher(),
            **settings,
        )
        expected = pytest.approx(facts["val_accuracy"])
        assert confirmed.values(side)[1] == expected
        model.compile(metrics=["accuracy"], loss=tiny_loss())
        test = model.evaluate(*DATA.test, verbose=0, return_dict=True)
        assert confirmed.values(side, "test")[1] == pytest.approx(
            test["accuracy"]
        )
    _, facts = train(
        build_student,
        DATA,
        title=None,
        seed=1,
        epochs=3,
        batch_size=16,
        learning_rate=found.best_settings["learning_rate"],
    )
    assert confirmed.control[0] == facts["val_accuracy"]


def test_search_keeps_only_the_best_student(found):
    files = [p.name for p in (found.directory / "trials").iterdir()]
    assert files == [f"{found.best.name}.keras"]
    size = (found.directory / "trials" / files[0]).stat().st_size
    student = build_student()
    student.save(found.directory / "alone.keras")
    alone = (found.directory / "alone.keras").stat().st_size
    assert size < 1.1 * alone


def test_search_writes_page_picture_and_logs(found):
    page = (found.directory / "search.html").read_text()
    assert f"{found.best.settings['alpha']:.3g}" in page
    picture = (found.directory / "search.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    logs = sorted(p.name for p in (found.directory / "logs").iterdir())
    assert logs == ["0", "1", "2", CONTROL]


def test_search_traces_one_architecture_once(found, alone):
    trials = 1
    confirming = 2  # best and default: trained as `compress` does
    # Built before its first step, a trial is traced once. Keras traces a
    # training of its own twice: the first makes the optimizer's variables.
    assert found.traces == trials + confirming * alone[1]


def test_search_prints_what_was_found(found):
    text = str(found)
    assert "| control |" in text and "Best: trial" in text
    assert "Best minus control" in text


def test_search_again_runs_nothing(found):
    with traces() as count:
        again = quickly(found.directory, **SEARCH)
    assert not count
    assert again.rows == found.rows and again.confirmed == found.confirmed


@pytest.mark.slow
def test_search_with_one_seed_is_one_search(found, tmp_path):
    again = quickly(tmp_path, **{**SEARCH, "confirm": 0})
    for old, new in zip(found.rows, again.rows, strict=True):
        assert new.settings == old.settings
        assert new.history == old.history
        assert new.status == old.status


def test_search_refuses_the_folder_of_another(found):
    with pytest.raises(ValueError, match="holds another search"):
        quickly(found.directory, trials=4, learning_rate=(1e-3, 0.2))


@pytest.mark.slow
def test_search_goes_on_after_ctrl_c(tmp_path, monkeypatch):
    whole = quickly(tmp_path / "whole", trials=4, confirm=0)
    left = [3]

    def interrupted(*args):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return run_trial(*args)

    run_trial = driver.run_trial
    monkeypatch.setattr(driver, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quickly(tmp_path / "cut", trials=4, confirm=0)
    # This process lives on, and does not wait for itself.
    again = quickly(tmp_path / "cut", trials=4, confirm=0)
    assert left[0] == -2  # the two that had ended are not run again
    assert [r.history for r in again.rows] == [r.history for r in whole.rows]


@pytest.mark.slow
def test_search_runs_the_teacher_once(tmp_path):
    asked = []

    class Counting(FrozenTeacher):
        def __call__(self, x):
            tf.numpy_function(
                lambda rows: asked.append(int(rows)) or np.int64(0),
                [tf.shape(x)[0]],
                tf.int64,
            )
            return super().__call__(x)

    teacher = Counting(make_teacher())
    result = quickly(tmp_path, trials=4, confirm=1, teacher=teacher)
    # A pass over the training split; the engine may look at one batch first.
    assert len(result.rows) == 4
    assert sum(asked) <= len(DATA.train[0]) + 16


@pytest.mark.slow
def test_search_warns_of_val_loss(tmp_path):
    with pytest.warns(UserWarning, match="temperature and alpha"):
        result = quickly(tmp_path, trials=2, confirm=0, objective="val_loss")
    rows = [row for row in result.rows if row.name != CONTROL]
    values = rows[0].history["val_loss"]
    assert rows[0].objective == min(values)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "loss"}, "validation split"),
        ({"objective": "val_sparkle"}, "direction"),
        ({"tuner": "best"}, "`tuner` must be one of"),
        ({"trials": 1}, "`trials` must be a whole number of at least 2"),
        ({"workers": 0}, "`workers` must be"),
        ({"alpha": (0.2, 1.2)}, "`alpha`"),
        ({"temperature": (0.0, 3.0)}, "`temperature`"),
    ],
)
def test_search_refuses_what_makes_no_sense(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        quickly(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())  # and nothing was labelled


@pytest.mark.slow
def test_search_takes_the_old_name_of_median_stopping(tmp_path):
    new = quickly(tmp_path, trials=2, confirm=0, median_stopping=False)
    with pytest.warns(FutureWarning, match="median_stopping=False"):
        old = quickly(tmp_path, trials=2, confirm=0, stop_hopeless=False)
    assert old.rows == new.rows  # the folder holds the same search
    with pytest.raises(ValueError, match="holds another search"):
        quickly(tmp_path, trials=2, confirm=0, median_stopping=True)


@pytest.mark.slow
def test_search_takes_any_metric(tmp_path):
    metric = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")
    result = quickly(
        tmp_path,
        trials=2,
        confirm=1,
        objective=keras_tuner.Objective("val_top2", "max"),
        metrics=[metric],
    )
    assert result.best.objective == max(result.best.history["val_top2"])
    assert result.confirmed.objective == "val_top2"


@pytest.mark.usefixtures("eager")
def test_search_names_an_objective_that_is_not_measured(tmp_path):
    with pytest.raises(RuntimeError, match="not among what is measured"):
        quickly(
            tmp_path,
            trials=3,
            objective=keras_tuner.Objective("val_top2", "max"),
        )


def test_search_stops_if_the_first_trial_fails(tmp_path):
    def broken(hp):
        if hp.values:
            raise RuntimeError("no such width")
        return build_student()

    with pytest.raises(RuntimeError, match="no such width"):
        quickly(tmp_path, trials=3, control=False, build=broken)


@pytest.mark.slow
def test_search_searches_losses_taps_and_the_student(tmp_path):
    def losses(hp):
        tap = hp.Choice("teacher_tap", ["first", "second"])
        weight = hp.Float("weight", 0.1, 10.0, sampling="log")
        return [
            kd.losses.SoftTargets(),
            kd.losses.FeatureMatching(tap, "hidden", weight=weight),
        ]

    def build(hp):
        return build_student(hp.Choice("width", [4, 8]))

    result = quickly(
        tmp_path,
        trials=5,
        confirm=1,
        build=build,
        distillation_losses=losses,
        tuner="random",
    )
    taps = {row.settings.get("teacher_tap") for row in result.rows[1:]}
    assert taps == {"first", "second"}
    best = result.best.settings
    assert result.build_student().layers[0].units == best["width"]
    found = result.best_settings["distillation_losses"]
    assert found[0].temperature == pytest.approx(best["temperature"])
    assert found[1].taps[0] == (best["teacher_tap"],)
    # What was found can be used as it is.
    settings = result.best_settings
    kd.Distiller(make_teacher(), result.build_student(), **settings)


@pytest.mark.slow
def test_search_by_hyperband_goes_on_from_checkpoints(tmp_path):
    # The first are promoted while trials of the next bracket are under way.
    result = quickly(
        tmp_path, trials=10, tuner="hyperband", epochs=4, confirm=0
    )
    weights = tmp_path / "trials"
    assert len(list(weights.glob("*.weights.h5"))) == 9
    study_rows = {row.name: row for row in result.rows}
    later = [
        (row, result._study.hyperparameters(name).values)
        for name, row in study_rows.items()
        if name != CONTROL
        and "tuner/trial_id" in result._study.hyperparameters(name).values
    ]
    assert later
    row, values = later[0]
    assert row.epochs == values["tuner/epochs"] - values["tuner/initial_epoch"]
    # The optimizer counts on from where the earlier trial ended.
    with h5py.File(weights / f"{row.name}.weights.h5") as file:
        steps = int(file["optimizer/vars/0"][()])
    assert steps == values["tuner/epochs"] * 4


def test_median_stop_ends_what_is_worse_than_the_median():
    rows = [
        TrialRecord(str(i), {}, COMPLETED, v[-1], {"val_accuracy": v})
        for i, v in enumerate([[0.5, 0.6], [0.6, 0.7], [0.7, 0.8], [0.4, 0.9]])
    ]

    def epochs_of(values, others=rows, epochs=6):
        stop = MedianStop(OBJECTIVE, others)
        stop.set_model(type("Model", (), {"stop_training": False})())
        stop.set_params({"epochs": epochs})
        for epoch, value in enumerate(values):
            stop.on_epoch_end(epoch, {"val_accuracy": value})
            if stop.model.stop_training:
                return epoch + 1
        return len(values)

    low = [0.1] * 6
    assert epochs_of(low) == 2  # the first third is left alone
    assert epochs_of(low, epochs=2) == 1
    assert epochs_of([0.75] * 6) == 6  # the median of the best so far
    assert epochs_of([0.74] * 6) == 2
    assert epochs_of([0.8, 0.1, 0.1]) == 3  # it was good once
    assert epochs_of(low, others=rows[:3]) == 6  # too few to tell
    control = [
        TrialRecord(CONTROL, {}, COMPLETED, 1.0, {"val_accuracy": [1.0] * 6})
    ]
    assert epochs_of(low, others=rows[:3] + control) == 6


def test_search_result_says_when_nothing_was_found(found, monkeypatch):
    failed = [r for r in found.rows if r.name == CONTROL]
    result = object.__new__(SearchResult)
    result.__dict__.update(found.__dict__)
    result.rows = failed
    assert "No trial of this search has a value" in str(result)
    with pytest.raises(ValueError, match="No trial of this search"):
        _ = result.best_settings


@pytest.mark.slow
def test_compress_searches_first(tmp_path):
    report = kd.compress(
        make_teacher(),
        build_student,
        DATA,
        tmp_path / "toy",
        search=3,
        epochs=3,
        batch_size=16,
        seeds=(0,),
        prune=None,
        formats=("tflite",),
        quantize=(None, "int8"),
    )
    names = [record.name for record in report.records]
    assert names[-2:] == [".float32.tflite", ".int8.tflite"]
    assert all("accuracy" in record.metrics for record in report.records)
    note = next(line for line in report.notes if "search of 3 trials" in line)
    student = next(r for r in report.records if r.name == "distilled")
    for name in ("temperature", "alpha"):
        assert f"{name} {student.settings[name]:.3g}" in note
    labels = list((tmp_path / "toy").glob("**/targets/*/"))
    assert len(labels) == 1  # one labelling for the search and the students
