# SPDX-License-Identifier: Apache-2.0
"""What the model answers, which every file made of it is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_kd.export.formats.tolerance import allowed_difference
from keras_kd.export.manifest import VerificationError
from keras_kd.export.signatures.endpoint import Endpoint
from keras_kd.export.signatures.requests import needs_inputs
from keras_kd.export.verification.batches import across_batch

# Rounding of whole pixels is far below, another computation far above.
GRAPH_TOLERANCE = 0.1


def expected_answers(
    endpoint: Endpoint,
    sample: dict[str, np.ndarray],
    tolerance: float,
    is_random: bool,
    say: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """Returns what an endpoint's graph answers to a sample.

    The graph is what servers run; the model called outside of it may round
    otherwise, which is said.

    Raises:
        VerificationError: If the two compute something else.
        ValueError: If the model fails on a sample that is random.
    """
    try:
        answers = endpoint.expected(sample, tolerance)
        eager = endpoint.eager(sample)
    except tf.errors.OpError as error:
        if not is_random:
            raise
        why = f"It fails on random ones ({str(error)[:300]})"
        raise needs_inputs(endpoint.specs, why) from error
    for name, array in eager.items():
        if array.dtype.kind not in "fiub":
            continue
        if np.isnan(array).any():
            if is_random:
                why = f"Its output `{name}` is NaN for random ones"
                raise needs_inputs(endpoint.specs, why)
            raise VerificationError(
                f"The model answers NaN in its output `{name}` to some of the "
                f"first {len(array)} rows of `inputs`, with which no file can "
                "be compared. Expected numbers: its weights, or these rows, "
                "may hold NaN."
            )
        gaps = np.abs(array.astype("float64") - answers[name])
        gap = float(np.nan_to_num(gaps).max(initial=0.0))
        if gap > allowed_difference(array, max(tolerance, GRAPH_TOLERANCE)):
            raise VerificationError(
                "The model gives other answers as a graph, which is what a "
                f"server runs: its output `{name}` differs by up to {gap:.3g} "
                "from the model called layer by layer. Expected the same. Its "
                "`call`, or that of `preprocess`, may draw random numbers or "
                "depend on Python state."
            )
        if gap > allowed_difference(array, tolerance):
            say(
                f"as a graph, `{name}` differs by up to {gap:.2g} from the "
                "model called layer by layer"
            )
    if told := across_batch(endpoint, sample, answers, tolerance):
        say(told)
    return answers
