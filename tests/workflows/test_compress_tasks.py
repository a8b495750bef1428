# SPDX-License-Identifier: Apache-2.0
"""compress() outside of classes: its headline chooses, judges, is told."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_kd as kd

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
SUM = X.sum(axis=1)


def build(units=1, activation=None, width=4):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(units, activation),
        ]
    )


def compressed(folder, y, build_student, **options):
    teacher = build_student(width=16)
    return kd.compress(
        teacher,
        build_student,
        kd.Data(train=(X, y), validation=(X[:32], y[:32])),
        folder / "it",
        **{"epochs": 1, "prune": None, "seeds": (0, 1), **options},
        formats=("tflite",),
        verbose=0,
    )


def row(report, name):
    (found,) = (r for r in report.records if r.name == name)
    return found.metrics


def file_metrics(folder, y, **options):
    (path,) = (folder / "it").glob("it.tflite")
    split = X[:32], y[:32]
    return kd.measure(path, split, latency=False, **options)


@pytest.mark.slow
def test_values_are_told_in_their_unit(tmp_path):
    y = np.round(3 * SUM).astype("int64")  # whole numbers are values too
    task = kd.tasks.Regression(unit="kg")
    report = compressed(
        tmp_path,
        y,
        build,
        task=task,
        distillation_losses=task.distillation_losses(),
        prune=0.5,
        prune_epochs=1,
    )
    gain = report.gain
    of_control = row(report, "control")["headlines"]
    of_student = row(report, "distilled")["headlines"]
    assert gain.mean == pytest.approx(
        np.subtract(of_control, of_student).mean()
    )
    assert "positive is better" in str(gain) and " kg (" in str(gain)
    table = report.render()
    assert "mean absolute" in table and "distance from" in table
    again = kd.Report.load(report.directory)
    assert str(again.gain) == str(gain)
    kept = json.loads((report.directory / "report.json").read_text("utf-8"))
    assert kept["gain"]["headline"]["unit"] == "kg"
    error = file_metrics(tmp_path, y, task=task)["mean_absolute_error"]
    assert row(report, ".tflite")["mean_absolute_error"] == error
    pruned = row(report, "pruned")["mean_absolute_error"]
    assert error == pytest.approx(pruned, rel=1e-4)


@pytest.mark.slow
def test_one_unit_of_yes_and_no_is_reported(tmp_path):
    y = (SUM > 0).astype("int64")
    report = compressed(tmp_path, y, lambda **o: build(1, "sigmoid", **o))
    assert report.gain.headline is None
    found = row(report, ".tflite")
    of_file = file_metrics(tmp_path, y, task=kd.tasks.Classification())
    assert found["accuracy"] == of_file["accuracy"]
    assert 0 <= found["auc"] <= 1


def test_doubt_is_an_error_before_the_first_step(tmp_path):
    y = (SUM > 0).astype("int64")
    with pytest.raises(ValueError, match=r"Pass `task`.*Regression"):
        compressed(tmp_path, y, build)
    assert not (tmp_path / "it").exists()
