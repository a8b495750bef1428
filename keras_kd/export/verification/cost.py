# SPDX-License-Identifier: Apache-2.0
"""What quantisation costs: how much of a model's answers a file keeps.

The model's own decisions and values need no labels; the headline of a task
does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_kd.core.file_formats import of_tflite
from keras_kd.export.formats.litert import run_tflite
from keras_kd.export.manifest import VerificationError
from keras_kd.export.signatures.answers import LOGITS
from keras_kd.export.signatures.answers import NUMBERS
from keras_kd.export.signatures.answers import PROBABILITIES
from keras_kd.export.signatures.answers import YES_NO
from keras_kd.export.signatures.answers import Head
from keras_kd.export.signatures.answers import outputs_of
from keras_kd.export.signatures.answers import unknown_outputs
from keras_kd.export.signatures.endpoint import Endpoint
from keras_kd.export.verification.verify import AnswersDifferError
from keras_kd.tasks.base import Task
from keras_kd.tasks.composite import Composite
from keras_kd.tasks.regression import Regression

# Examples that are compared, and how many at once.
ROWS, BATCH = 256, 32
NONE = {"model": 0.0, "file": 0.0}


def cost_of(
    path: str | os.PathLike,
    endpoint: Endpoint,
    inputs: dict[str, np.ndarray],
    labels: Any = None,
    head: Head = None,
    task: Task | None = None,
    model: keras.Model | None = None,
) -> dict[str, dict]:
    """Returns what a .tflite file keeps of the endpoint it was made of.

    Args:
        path: The file.
        endpoint: What it was made of.
        inputs: Arrays `(rows, ...)` by input name.
        labels: Those of the rows, if they are known.
        head: What the outputs are, see `head_of`.
        task: What outputs and labels mean, if that is known.
        model: What to ask of outputs where nobody said what they are, see
            `unknown_outputs`.

    Returns:
        `kept`: the share of each output, and of each headline of which more
        is better. With task and labels `headlines`, see `headlines_of_both`.
    """
    both = answers_of_both(path, endpoint, inputs)
    regressions = quantities(head, task) | unknown_outputs(model, both[0])
    shares = kept(*both, regressions, outputs_of(head, YES_NO))
    if task is None or labels is None:
        return {"kept": shares}
    labels = keras.tree.map_structure(lambda part: part[:ROWS], labels)
    figures = headlines_of_both(task, labels, *both)
    for one in task.headlines:
        before, after = (figures.get(one.name) or NONE).values()
        # Errors have no scale of their own: those of a model on what it was
        # trained with may be next to nothing.
        if one.direction == "max" and before > 0:
            shares[one.name] = after / before
    return {"kept": shares, "headlines": figures}


def answers_of_both(
    path: str | os.PathLike, endpoint: Endpoint, inputs: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns what an endpoint and the .tflite file made of it answer.

    To the first `ROWS` rows of the inputs; outputs have the names of before
    they were renamed.
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
    return expected, answers


def quantities(head: Head, task: Task | None = None) -> set[str]:
    """Returns the outputs whose units are quantities of their own.

    Those of numbers, unless a task other than `Regression` says what they
    are: no dimension of an embedding counts by itself.
    """
    known = task.tasks if isinstance(task, Composite) else {"output": task}
    return {
        name
        for name in outputs_of(head, NUMBERS)
        if isinstance(known.get(name), (Regression, type(None)))
    }


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
    found = f"It keeps {figures}." if shares else ""
    row = of_tflite()[quantize]
    ways = ["allow more by `tolerance`"]
    if row.is_judged:
        ways.append("say by `task` or `head` what the outputs are")
    if row.is_integer:
        ways.append("calibrate on more or more typical inputs")
        ways.append("train with quantization_aware")
    if quantize != "float16":
        ways.append('quantise less ("float16")')
    advice = (
        f'quantize="{quantize}" costs more than is allowed. {found} What may '
        f"help: {'; '.join(reversed(ways))}. "
    )
    if any(not share >= 1 - tolerance for share in shares.values()):
        raise VerificationError(
            f"{advice}Expected at least {1 - tolerance:.3f} of each (of "
            "outputs: of their decisions, or R2)."
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
    yes_no: Collection[str] = (),
) -> dict[str, float]:
    """Returns how much of each output a file keeps; 1.0 is all.

    Of class logits it is the share of equal decisions. Of other outputs it
    is R2, the share of their variance: 0.0 for a file that answers the same
    to everything. Of logits that may be quantities it is the lower of the
    two. An output that does not vary is left out.

    Args:
        expected: What the model answers: arrays `(batch, ...)` by name.
        answers: What the file does, by the same names.
        regressions: Outputs whose units, on the last axis, are quantities of
            their own; the one that is kept worst counts.
        yes_no: Probabilities whose units decide each by itself. It is they
            that count, since logits of what is certain may be any.

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
        base = name.removesuffix(LOGITS).removesuffix(PROBABILITIES)
        pair = {base + LOGITS, base + PROBABILITIES}
        if pair <= set(expected) and name in pair:
            by_unit = base + PROBABILITIES in yes_no or wanted.shape[-1] == 1
            if name != base + (PROBABILITIES if by_unit else LOGITS):
                if name not in regressions or name.endswith(PROBABILITIES):
                    continue  # the other one tells
        if name.endswith(LOGITS) and wanted.shape[-1] > 1:
            same = wanted.argmax(-1) == found.argmax(-1)
            shares[name] = float(same.mean())
            if name not in regressions:
                continue
        # About the mean of each unit: to tell units apart is no answer.
        centred = wanted - wanted.mean(axis=0)
        units = name in regressions and wanted.ndim > 1
        axes = tuple(range(wanted.ndim - 1)) if units else None
        variance = np.mean(np.square(centred), axis=axes)
        errors = np.mean(np.square(found - wanted), axis=axes)
        if np.any(variance > 0):
            share = 1 - errors[variance > 0] / variance[variance > 0]
            shares[name] = min(float(share.min()), shares.get(name, 1.0))
    return shares


def headlines_of_both(
    task: Task,
    labels: Any,
    expected: dict[str, np.ndarray],
    answers: dict[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    """Returns what model and file are worth by a task's headlines.

    Returns:
        By headline: `{"model": figure, "file": figure}`; those that cannot be
        had are left out.
    """
    figures = {}
    for whose, outputs in (("model", expected), ("file", answers)):
        meter = task.meter()
        meter.update(outputs, labels)
        found = meter.result()
        for headline in task.headlines:
            if found.get(headline.name) is not None:
                of_both = figures.setdefault(headline.name, {})
                of_both[whose] = float(found[headline.name])
    return {name: both for name, both in figures.items() if len(both) == 2}
