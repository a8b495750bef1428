# SPDX-License-Identifier: Apache-2.0
"""Accuracy and agreement against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_kd.evaluation import scores

LOGITS = np.array(
    [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 5.0], [9.0, 0.0, 0.0]]
)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 1],
        [[0], [1], [2], [1]],
        [0.0, 1.0, 2.0, 1.0],
        np.eye(3)[[0, 1, 2, 1]],
        0.7 * np.eye(3)[[0, 1, 2, 1]] + 0.1,
    ],
    ids=["sparse", "column", "float", "one-hot", "soft"],
)
def test_score_counts_three_of_four(labels):
    assert scores.score({"logits": LOGITS}, np.array(labels)) == {
        "accuracy": 0.75
    }


def test_score_leaves_out_unlabelled_examples():
    labels = np.array([0, -1, 2, 1])
    found = scores.score({"logits": LOGITS}, labels)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert scores.score({"logits": LOGITS}, np.full(4, -1)) == {}


@pytest.mark.parametrize(
    "outputs",
    [
        {"probabilities": [[0.6], [0.4], [0.9], [0.2]]},
        {"logits": [[0.6], [-0.4], [0.1], [-9.0]]},
        {"anything": [0.6, 0.4, 0.9, 0.2]},
        {"anything": [0.6, -0.4, 0.1, -9.0]},
    ],
)
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_score_cuts_one_unit_at_its_threshold(outputs, shape):
    outputs = {name: np.array(value) for name, value in outputs.items()}
    labels = np.array([1, 0, 0, -1]).reshape(shape)
    found = scores.score(outputs, labels)
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_score_takes_multi_label_heads_unit_by_unit():
    outputs = {"probabilities": np.array([[0.9, 0.8], [0.1, 0.2]])}
    labels = np.array([[1, 1], [1, 0]])
    assert scores.score(outputs, labels) == {"accuracy": 0.75}


def test_score_is_the_mean_absolute_error_for_numbers():
    outputs = {"output": np.array([[1.5], [2.0], [7.0]])}
    labels = np.array([1.0, -1.0, 8.0])
    assert scores.score(outputs, labels) == {
        "mean_absolute_error": pytest.approx(4.5 / 3)
    }


def test_score_takes_dense_predictions():
    outputs = {"logits": np.stack([LOGITS, LOGITS])}
    labels = np.array([[0, 1, 2, 0], [0, 1, 1, -1]])
    found = scores.score(outputs, labels)
    assert found["accuracy"] == pytest.approx(6 / 7)


def test_decide_reads_logits_before_probabilities():
    outputs = {"probabilities": np.full((1, 3), 1 / 3), "logits": LOGITS[1:2]}
    assert scores.decide(outputs).tolist() == [1]


@pytest.mark.parametrize("teacher", [LOGITS, LOGITS.argmax(-1)])
def test_agreement_takes_outputs_and_class_numbers(teacher):
    decisions = np.array([0, 1, 1, 0])
    assert scores.agreement(decisions, teacher) == 0.75


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: scores.score({"logits": LOGITS}, np.zeros((4, 2))),
            r"the outputs' shape \(4, 3\). Received: \(4, 2\)",
        ),
        (
            lambda: scores.decide({"a": LOGITS, "b": LOGITS}),
            r"'logits' or 'probabilities'.*\['a', 'b'\]",
        ),
        (
            lambda: scores.agreement(np.zeros(4, int), LOGITS[:3]),
            r"exactly the measured examples.*Received: \(3,\)",
        ),
    ],
)
def test_scores_error_says_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=text):
        call()
