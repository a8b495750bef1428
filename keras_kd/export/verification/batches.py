# SPDX-License-Identifier: Apache-2.0
"""Models whose answer to an example depends on the others in its batch."""

from __future__ import annotations

import numpy as np

from keras_kd.export.formats.tolerance import allowed_difference
from keras_kd.export.signatures.endpoint import Endpoint


def across_batch(
    endpoint: Endpoint,
    sample: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    tolerance: float,
) -> str:
    """Returns what is to be said of a model that looks across its batch.

    A .tflite file is asked one by one, and a server in whatever batches come:
    such a model has no one answer that they could give.

    Args:
        endpoint: Of the model.
        sample: Inputs by name.
        answers: What it answers to them, by output name.
        tolerance: See `verify`.

    Returns:
        A sentence; empty if the first example has one answer.
    """
    if any(spec.shape[0] is not None for spec in endpoint.flat):
        return ""
    first = {name: array[:1] for name, array in sample.items()}
    for name, array in endpoint.expected(first).items():
        if array.dtype.kind != "f":
            continue
        gap = float(np.abs(array - answers[name][:1]).max(initial=0.0))
        if gap > allowed_difference(answers[name], tolerance):
            return (
                f"the model's answer `{name}` to an example differs by up to "
                f"{gap:.3g} when it is asked alone: a layer looks at the "
                "others in its batch. A .tflite file, asked one by one, will "
                "differ as much. keras.layers.MelSpectrogram is one: it cuts "
                "off what is `top_db` below the loudest of the whole batch. "
                "Pass one so large that nothing is, such as top_db=1000"
            )
    return ""
