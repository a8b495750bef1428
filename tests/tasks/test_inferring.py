# SPDX-License-Identifier: Apache-2.0
"""A task is inferred where it is certain, and nowhere else."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd import tasks
from keras_kd.tasks.inferring import infer_output

IDS, MAPS = np.array([0, 2, -1]), np.zeros((3, 4, 5), "int32")
ONE_HOT, YES_NO = np.eye(3)[[0, 2, 1]], np.array([[1, 1, 0], [0, 0, -1]])
NUMBERS, ZEROS_ONES = np.array([0.5, 12.0]), np.array([0, 1, 1])
CERTAIN = [
    ("softmax", (None, 3), IDS, None, tasks.Classification()),
    ("linear", (None, 3), IDS, None, tasks.Classification()),
    ("linear", (None, 3), IDS[:, None], None, tasks.Classification()),
    (None, (None, 3), IDS, "sparse_categorical_crossentropy",
     tasks.Classification()),
    ("softmax", (None, 3), ONE_HOT, None, tasks.Classification(one_hot=True)),
    ("linear", (None, 3), ONE_HOT, keras.losses.CategoricalCrossentropy(),
     tasks.Classification(one_hot=True)),
    ("sigmoid", (None, 1), ZEROS_ONES, None, tasks.Classification()),
    ("linear", (None, 1), ZEROS_ONES, ["binary_crossentropy"],
     tasks.Classification()),
    ("sigmoid", (None, 3), YES_NO, None, tasks.MultiLabel()),
    ("linear", (None, 3), YES_NO, "binary_crossentropy", tasks.MultiLabel()),
    ("linear", (None, 1), NUMBERS, None, tasks.Regression()),
    ("linear", (None, 1), np.arange(9), None, tasks.Regression()),
    ("linear", (None, 1), ZEROS_ONES, "mse", tasks.Regression()),
    (None, (None, 3), np.ones((2, 3)), keras.losses.Huber(),
     tasks.Regression()),
    ("linear", (None, 3), np.ones((2, 3)) * 0.7, None, tasks.Regression()),
    ("softmax", (None, 4, 5, 2), MAPS, None, tasks.Segmentation()),
    ("sigmoid", (None, 4, 5, 1), MAPS[..., None], None, tasks.Segmentation()),
    ("softmax", (None, 4, 5, 2), np.eye(2)[MAPS], None,
     tasks.Segmentation(one_hot=True)),
]  # fmt: skip
UNCERTAIN = [
    ("linear", (None, 1), ZEROS_ONES, None, r"Classification\(\).*Regression"),
    ("sigmoid", (None, 1), NUMBERS, None, r"Classification\(\).*Regression"),
    ("sigmoid", (None, 3), ONE_HOT, None, r"Classification.*MultiLabel"),
    (None, (None, 3), IDS, None, r"Classification"),
    ("linear", (None, 3), ONE_HOT, None, r"Classification.*MultiLabel"),
    ("softmax", (None, 3), YES_NO, "binary_crossentropy", r"MultiLabel"),
    ("softmax", (None, 6, 3), np.zeros((2, 6)), None,
     r"LanguageModel.*Tagging"),
    ("linear", (None, 6, 3), np.ones((2, 4)), "ctc", r"Transcription"),
    ("linear", (None, 3), IDS + 5, None, r"Retrieval"),
    ("linear", (None, 3), IDS, "mse", r"Classification"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("activation", "shape", "labels", "loss", "task"), CERTAIN
)
def test_infers_what_is_certain(activation, shape, labels, loss, task):
    assert infer_output(activation, shape, labels, loss) == task


@pytest.mark.parametrize(
    ("activation", "shape", "labels", "loss", "fitting"), UNCERTAIN
)
def test_lists_what_would_fit(activation, shape, labels, loss, fitting):
    with pytest.raises(ValueError, match=f"Pass `task`; .*{fitting}"):
        infer_output(activation, shape, labels, loss)


def test_classes_counted_from_one_are_told_the_remedy():
    with pytest.raises(ValueError, match=r"\. Labels from 1 to 3.*y - 1"):
        infer_output("softmax", (None, 3), np.array([1, -1, 3, 2]))
    for labels in ([1, 4], [0, 3], [-1]):
        with pytest.raises(ValueError) as told:
            infer_output("tanh", (None, 3), np.array(labels))
        assert "y - 1" not in str(told.value)


def test_strings_are_told_the_remedy():
    with pytest.raises(ValueError, match="Number the classes first"):
        infer_output("softmax", (None, 3), np.array(["cat", "dog"]))


def test_reads_the_model_and_the_loss_it_is_compiled_with():
    x = keras.Input((2,))
    y = keras.layers.Dense(1, name="y")(x)
    student = keras.Model(x, y)
    with pytest.raises(ValueError, match="the loss is not known"):
        tasks.infer(student, ZEROS_ONES)
    student.compile(loss={"y": "mse"})
    assert tasks.infer(student, {"y": ZEROS_ONES}) == tasks.Regression()
    named = "binary_crossentropy"
    assert tasks.infer(student, ZEROS_ONES, named) == tasks.Classification()
    with pytest.raises(ValueError, match="a dict of tasks by output"):
        tasks.infer(keras.Model(x, [y, y + 1]), ZEROS_ONES)
