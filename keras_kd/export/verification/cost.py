# SPDX-License-Identifier: Apache-2.0
"""What quantisation costs: how much of a model's answers a file keeps.

It compares with the model itself, so it needs no labels: with a task's
headline it agrees wherever the model is right.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

import numpy as np

from keras_kd.export.formats.litert import run_tflite
from keras_kd.export.manifest import VerificationError
from keras_kd.export.signatures.answers import LOGITS
from keras_kd.export.signatures.answers import PROBABILITIES
from keras_kd.export.signatures.endpoint import Endpoint
from keras_kd.export.verification.verify import AnswersDifferError

# Examples that are compared, and how many at once.
ROWS, BATCH = 256, 32


def shares_kept(
    path: str | os.PathLike,
    endpoint: Endpoint,
    inputs: dict[str, np.ndarray],
    regressions: Collection[str] = (),
) -> dict[str, float]:
    """Returns what a .tflite file keeps of an endpoint's answers, see `kept`.

    The first rows of the inputs are compared; outputs have the names of
    before they were renamed.
    """
    inputs = {name: array[:ROWS] for name, array in inputs.items()}
    rows = len(next(iter(inputs.values())))
    pieces = [
        endpoint.expected({k: a[i : i + BATCH] for k, a in inputs.items()})
        for i in range(0, rows, BATCH)
    ]
    old = {new: old for old, new in endpoint.names.items()}
    answers = {old.get(k, k): a for k, a in run_tflite(path, inputs).items()}
    expected = {
        old.get(name, name): np.concatenate([piece[name] for piece in pieces])
        for name in pieces[0]
        if old.get(name, name) in answers
    }
    return kept(expected, answers, regressions)


@contextlib.contextmanager
def telling_the_cost(
    quantize: str | None, shares: dict[str, float], tolerance: float
):
    """Says what quantisation cost where it cost more than is allowed.

    Raises:
        VerificationError: If less than 1 - `tolerance` of an output is kept,
            or what is done inside finds a difference.
    """
    figures = ", ".join(f"{share:.3f} of `{k}`" for k, share in shares.items())
    found = f"It keeps {figures} (decisions, or R2)." if shares else ""
    advice = (
        f'quantize="{quantize}" costs more than is allowed. {found} Calibrate '
        "on more or more typical inputs, train with quantization_aware, "
        'quantise less ("float16"), or allow more by `tolerance`. '
    )
    if any(not share >= 1 - tolerance for share in shares.values()):
        raise VerificationError(
            f"{advice}Expected at least {1 - tolerance:.3f} of each output."
        )
    try:
        yield
    except AnswersDifferError as error:
        if quantize is None:
            raise
        differs = str(error).split(": ", 1)[1]
        raise VerificationError(f"{advice}Received: {differs}") from error


def kept(
    expected: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
    regressions: Collection[str] = (),
) -> dict[str, float]:
    """Returns how much of each output a file keeps; 1.0 is all.

    Of class logits it is the share of equal decisions. Of other outputs it
    is R2, the share of their variance: 0.0 for a file that answers the same
    to everything. An output that does not vary is left out.

    Args:
        expected: What the model answers: arrays `(batch, ...)` by name.
        answers: What the file does, by the same names.
        regressions: Outputs whose units, on the last axis, are quantities of
            their own; the one that is kept worst counts.

    Example:

    ```python
    from keras_kd.export.verification.cost import kept

    kept({"output": np.arange(9.0)}, {"output": np.full(9, 4.0)})
    # {"output": 0.0}
    ```
    """
    shares = {}
    for name, array in expected.items():
        wanted, found = (
            np.asarray(a, "float64") for a in (array, answers[name])
        )
        if name.endswith(PROBABILITIES):
            continue  # its logits decide
        if name.endswith(LOGITS) and wanted.shape[-1] > 1:
            same = wanted.argmax(-1) == found.argmax(-1)
            shares[name] = float(same.mean())
            continue
        # About the mean of each unit: to tell units apart is no answer.
        centred = wanted - wanted.mean(axis=0)
        units = name in regressions and wanted.ndim > 1
        axes = tuple(range(wanted.ndim - 1)) if units else None
        variance = np.mean(np.square(centred), axis=axes)
        errors = np.mean(np.square(found - wanted), axis=axes)
        if np.any(variance > 0):
            share = 1 - errors[variance > 0] / variance[variance > 0]
            shares[name] = float(share.min())
    return shares
