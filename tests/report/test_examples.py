# SPDX-License-Identifier: Apache-2.0
"""Every task's examples become one small picture of the page."""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.core.records import StageRecord
from keras_kd.data.splits import Data
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.report import Report
from keras_kd.report import examples
from keras_kd.report import panels
from tasks.task_cases import CASES


def row(parts, number):
    return keras.tree.map_structure(lambda part: part[number], parts)


@pytest.mark.parametrize("name", CASES)
def test_each_task_draws_rows_as_wide_as_a_phone(name):
    from matplotlib import image

    case = CASES[name]
    x = np.zeros((4, 5, 3)) if case.x is None else case.x
    parts = case.labels, case.teacher, case.outputs
    shown = [(x, *(row(part, n) for part in parts)) for n in (3, 7)]
    png = examples.render(case.task, shown)
    drawn = image.imread(io.BytesIO(png))
    assert drawn.shape[1] == int(examples.WIDTH * panels.DPI)
    halves = np.array_split(drawn[..., :3], 2)
    assert all((half < 0.9).any() for half in halves)  # ink in both rows


def test_examples_are_spread_over_the_test_split(tmp_path):
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    x = np.arange(9, dtype="float32").reshape(9, 1, 1, 1) * np.ones((4, 4, 1))
    y = np.zeros((9, 4, 4), "int32")
    task = kd.tasks.Segmentation()
    path = tmp_path / "model.keras"
    model.save(path)
    evaluator = Evaluator(kd.teachers.get(model), Data((x, y), (x, y)), task)
    found = evaluator.examples(path, 3)
    assert [one[0].max() for one in found] == [0, 4, 8]
    for one, number in zip(found, (0, 4, 8), strict=True):
        expected = model(x[[number]])[0]
        np.testing.assert_array_equal(one[1], y[number])
        for outputs in one[2:]:
            (scores,) = outputs.values()
            np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.usefixtures("no_picture")
def test_page_shows_the_examples_and_names_the_file(tmp_path):
    path = tmp_path / "stages" / examples.FILE
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG of examples")
    judged = {"headline": {"name": "mean_iou"}, "mean_iou": 0.5}
    records = [
        StageRecord("student", "distilled", metrics=judged),
        StageRecord("export", ".int8.tflite", metrics=judged),
        StageRecord("export", "refused", metrics={}),
    ]
    page = Report(tmp_path, records).to_html()
    assert "Examples of the test split" in page
    assert "The student is .int8.tflite." in page
    assert 'class="drawn"' in page
