# SPDX-License-Identifier: Apache-2.0
"""The calibration error of a classifier against its twin, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import reference
from keras_kd import tasks

GENERATOR = np.random.default_rng(0)
LOGITS = 2 * GENERATOR.normal(size=(500, 7))
LABELS = GENERATOR.integers(0, 7, 500)


def figures(name, outputs, labels=LABELS):
    meter = tasks.Classification().meter()
    for rows in np.array_split(np.arange(len(labels)), 3):  # batch by batch
        meter.update({name: outputs[rows]}, labels[rows])
    return meter.result()


def twin(probabilities, labels):
    chosen = probabilities.argmax(axis=1) == labels
    return reference.calibration_error(probabilities.max(axis=1), chosen)


@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_calibration_is_the_papers(name):
    probabilities = special.softmax(LOGITS, -1)
    expected = twin(probabilities, LABELS)
    assert 0.1 < expected < 0.9
    outputs = LOGITS if name == "logits" else probabilities
    assert figures(name, outputs)["ece"] == pytest.approx(expected, abs=1e-12)


def test_calibration_of_huge_logits_is_finite():
    wrong = np.mean(LOGITS.argmax(-1) != LABELS)
    assert figures("logits", 1e4 * LOGITS)["ece"] == pytest.approx(wrong)


def test_calibration_leaves_out_unlabelled_examples():
    labels = np.where(np.arange(500) < 300, LABELS, -1)
    expected = figures("logits", LOGITS[:300], LABELS[:300])["ece"]
    assert figures("logits", LOGITS, labels)["ece"] == pytest.approx(expected)
    assert "ece" not in figures("logits", LOGITS, np.full(500, -1))


@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_calibration_of_one_unit_is_that_of_two_classes(name):
    logit, labels = LOGITS[:, :1], LABELS % 2
    yes = special.expit(logit)
    expected = twin(np.concatenate([1 - yes, yes], axis=1), labels)
    found = figures(name, logit if name == "logits" else yes, labels)
    assert found["ece"] == pytest.approx(expected, abs=1e-12)


def test_calibration_of_known_bins():
    # Bins with the means 0.95 and 0.65: (2 * 0.45 + 2 * 0.35) / 4.
    sure = np.array([0.94, 0.96, 0.65, 0.65])
    outputs = np.stack([sure, 1 - sure], axis=1)
    found = figures("probabilities", outputs, np.array([0, 1, 0, 0]))
    assert found["ece"] == pytest.approx(0.4)


def test_class_accuracy_counts_by_the_true_class():
    labels = np.array([0, 0, 1, 1, -1])
    found = figures("logits", np.eye(3)[[0, 1, 1, 0, 0]], labels)
    assert found["class_accuracy"] == [0.5, 0.5, None]


def test_class_accuracy_of_one_unit_has_two_classes():
    logits = np.array([[1.0], [-1.0], [2.0]])
    found = figures("logits", logits, np.array([1, 0, 0]))
    assert found["class_accuracy"] == [0.5, 1.0]
