# SPDX-License-Identifier: Apache-2.0
"""The calibration error against a float64 twin and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from keras_kd.evaluation import scores
from keras_kd.evaluation.calibration import calibration_error
from keras_kd.evaluation.calibration import calibration_of

GENERATOR = np.random.default_rng(0)
LOGITS = 2 * GENERATOR.normal(size=(500, 7)).astype("float32")
LABELS = GENERATOR.integers(0, 7, 500)


def twin(probabilities, labels, bins=15):
    """Guo et al., 2017, equation 3, written as it stands there."""
    error = 0.0
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    for m in range(1, bins + 1):
        is_inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if is_inside.any():
            gap = is_right[is_inside].mean() - confidence[is_inside].mean()
            error += is_inside.sum() / len(labels) * abs(gap)
    return error


def error_of(name, outputs, labels=LABELS):
    judged = scores.judge({name: outputs}, labels)
    return calibration_of(judged, name == "probabilities")


def test_calibration_of_logits_is_the_papers():
    expected = twin(special.softmax(LOGITS.astype("float64"), -1), LABELS)
    assert 0.1 < expected < 0.9
    assert error_of("logits", LOGITS) == pytest.approx(expected, abs=1e-12)


def test_calibration_of_probabilities_is_the_papers():
    probabilities = special.softmax(LOGITS.astype("float64"), -1)
    expected = twin(probabilities, LABELS)
    found = error_of("probabilities", probabilities)
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_of_huge_logits_is_finite():
    assert error_of("logits", 1e4 * LOGITS) == pytest.approx(
        np.mean(LOGITS.argmax(-1) != LABELS)
    )


def test_calibration_leaves_out_unlabelled_examples():
    labels = np.where(np.arange(500) < 300, LABELS, -1)
    expected = error_of("logits", LOGITS[:300], LABELS[:300])
    assert error_of("logits", LOGITS, labels) == pytest.approx(expected)
    assert error_of("logits", LOGITS, np.full(500, -1)) is None


@pytest.mark.parametrize("name", ["logits", "probabilities"])
def test_calibration_of_one_unit_is_that_of_two_classes(name):
    logit = LOGITS[:, :1].astype("float64")
    labels = LABELS % 2
    yes = special.expit(logit)
    expected = twin(np.concatenate([1 - yes, yes], axis=1), labels)
    found = error_of(name, logit if name == "logits" else yes, labels)
    assert found == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_bins():
    # Bins with the means 0.95 and 0.65: (2 * 0.45 + 2 * 0.35) / 4.
    confidences = [0.94, 0.96, 0.65, 0.65]
    found = calibration_error(confidences, [True, False, True, True])
    assert found == pytest.approx(0.4)
    assert calibration_error([1.0, 0.0], [True, False]) == 0.0


def test_calibration_error_puts_a_boundary_into_the_lower_bin():
    # 0.5 and 0.6 share the upper of two bins if that is closed below.
    found = calibration_error([0.5, 0.6], [True, False], bins=2)
    assert found == pytest.approx((0.5 + 0.6) / 2)


def test_class_accuracy_counts_by_the_true_class():
    outputs = {"logits": np.eye(3)[[0, 1, 1, 0, 0]]}
    judged = scores.judge(outputs, np.array([0, 0, 1, 1, -1]))
    assert scores.class_accuracy(judged) == [0.5, 0.5, None]


def test_class_accuracy_of_one_unit_has_two_classes():
    outputs = {"logits": np.array([[1.0], [-1.0], [2.0]])}
    judged = scores.judge(outputs, np.array([1, 0, 0]))
    assert scores.class_accuracy(judged) == [0.5, 1.0]


def test_class_accuracy_needs_one_choice():
    outputs = {"probabilities": np.array([[0.9, 0.8], [0.1, 0.2]])}
    judged = scores.judge(outputs, np.array([[1, 1], [1, 0]]))
    assert scores.class_accuracy(judged) is None
