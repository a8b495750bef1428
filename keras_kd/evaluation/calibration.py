# SPDX-License-Identifier: Apache-2.0
"""Calibration: is a model that says 90 % right nine times in ten?"""

from __future__ import annotations

import numpy as np

from keras_kd.evaluation.scores import Judged

BINS = 15


def calibration_error(
    confidences: np.ndarray, is_right: np.ndarray, bins: int = BINS
) -> float:
    """Returns the expected calibration error (ECE).

    Decisions are put into `bins` bins of equal width by the confidence they
    were made with. The error is the distance between a bin's accuracy and
    its mean confidence, averaged over decisions. 0 is perfect. See
    [Guo et al., 2017](https://arxiv.org/abs/1706.04599), equation 3.

    Args:
        confidences: Probability of what was decided, in [0, 1]: `(n,)`.
        is_right: Whether the decision was right: `(n,)`.
        bins: Number of bins; 15 in the paper.

    Returns:
        A fraction in [0, 1].

    Example:

    ```python
    calibration_error([0.9, 0.9], [True, False])  # |0.5 - 0.9| = 0.4
    ```
    """
    confidences = np.asarray(confidences, np.float64)
    is_right = np.asarray(is_right, np.float64)
    # The paper's bins are open below and closed above.
    number = np.ceil(confidences * bins).astype(int).clip(1, bins) - 1
    gaps = np.bincount(number, weights=is_right - confidences)
    return float(np.abs(gaps).sum() / len(confidences))


def calibration_of(judged: Judged, is_probability: bool) -> float | None:
    """Returns the calibration error of a model's decisions.

    Args:
        judged: What `keras_kd.evaluation.scores.judge` returned.
        is_probability: Whether the scores are probabilities; otherwise they
            are logits, and go through a softmax or sigmoid first.

    Returns:
        The error, or `None` if every example is unlabelled.
    """
    if not judged.counts.any():
        return None
    scores = judged.scores[judged.counts].astype(np.float64)
    if judged.is_by_unit:
        yes = scores if is_probability else 0.5 * (1 + np.tanh(scores / 2))
        confidences = np.maximum(yes, 1 - yes)
    elif is_probability:
        # Quantised probabilities do not sum to one.
        sums = np.maximum(scores.sum(axis=-1), np.finfo(np.float64).tiny)
        confidences = scores.max(axis=-1) / sums
    else:
        shifted = scores - scores.max(axis=-1, keepdims=True)
        confidences = 1 / np.exp(shifted).sum(axis=-1)
    is_right = judged.decisions == judged.labels
    return calibration_error(confidences, is_right[judged.counts])
