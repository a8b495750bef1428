# SPDX-License-Identifier: Apache-2.0
"""verify(): a file counts once a fresh process has answered by it.

The process that made a model is the worst one to test its export: Keras, the
weights and the custom classes are all still there. So the file is loaded in
a new process, by the runtime that will serve it, and compared.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from keras_kd.core.array_files import save_arrays
from keras_kd.core.folders import work_folder
from keras_kd.core.fresh_process import failure_of
from keras_kd.export.formats.tolerance import allowed_difference
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.serving.warmup import read_warmup
from keras_kd.export.serving.warmup import repeated
from keras_kd.export.verification import serve


class AnswersDifferError(VerificationError):
    """A file works, but answers otherwise than is expected."""


def verify(
    path: str | os.PathLike,
    inputs: Any,
    expected: dict[str, Any],
    tolerance: float = 1e-4,
    timeout: float = 300.0,
) -> float:
    """Checks that an exported file gives the answers it should.

    Compares its files with their manifest, then loads it in a new process: a
    SavedModel through TensorFlow's C API, as TensorFlow Serving does; a
    .tflite file in LiteRT. A SavedModel must also answer its warm-up records
    (those made from `inputs` with what is expected), answer requests of a
    wrong shape with an error, and leave its batch size free.

    Args:
        path: Version folder of a SavedModel, or a .tflite file.
        inputs: Arrays `(batch, ...)` by input name; one bare array where
            there is one input.
        expected: The answers the model gave: arrays `(batch, ...)` by output
            name. Those of another signature than serving_default are named
            `"signature:output"`.
        tolerance: Largest difference allowed, relative to the spread of
            an output, see `allowed_difference`. The default suits float32.
        timeout: Seconds that the process may take.

    Returns:
        The largest absolute difference over all outputs.

    Raises:
        VerificationError: If a file is damaged, cannot be loaded, answers
            otherwise, or would abort its server.
        ValueError: If `expected` is empty.

    Example:

    ```python
    logits = student.predict(images)
    verify("saved_models/student/1", images, {"logits": logits})
    ```
    """
    if not isinstance(expected, dict) or not expected:
        raise ValueError(
            "`expected` must be a dict with an array for each output to "
            f"compare. Received: {type(expected).__name__}"
        )
    path = pathlib.Path(path)
    check_manifest(path)
    warmups = [] if path.is_file() else read_warmup(path)
    answers, *replayed = _ask(path, [inputs, *map(_tagged, warmups)], timeout)
    for index, answer in enumerate(replayed):
        wanted = _expected_of(*warmups[index], inputs, expected)
        for name, array in wanted.items():
            where = f"{path}, warm-up record {index}"
            _difference(where, name, answer, array, tolerance)
    return max(
        _difference(path, name, answers, np.asarray(array), tolerance)
        for name, array in expected.items()
    )


def ask(
    path: str | os.PathLike, inputs: Any, timeout: float = 300.0
) -> dict[str, np.ndarray]:
    """Returns a file's answers to one batch, from a fresh process.

    Raises:
        VerificationError: If the process fails, or dies.
    """
    return _ask(path, [inputs], timeout)[0]


def _ask(path, requests, timeout):
    """Returns the answers to a batch and to the warm-up records after it."""
    with work_folder() as folder:
        files = []
        for index, request in enumerate(requests):
            files.append(os.path.join(folder, f"request-{index}.npz"))
            files.append(os.path.join(folder, f"answer-{index}.npz"))
            if not isinstance(request, dict):
                request = {"": request}
            save_arrays(files[-2], request)
        # By its path: `-m` would import keras_kd.export, and so TensorFlow.
        failure = failure_of(
            [serve.__file__, os.path.abspath(path), *files], timeout
        )
        if failure is None:
            return [_load(file) for file in files[1::2]]
    raise VerificationError(f"{path} does not serve: the process {failure}")


def _load(path):
    with np.load(path) as file:
        return dict(file)


def _tagged(warmup):
    signature, arrays = warmup
    return {**arrays, serve.SIGNATURE: np.asarray(signature)}


def _expected_of(signature, request, inputs, expected):
    """Returns what a record made from `inputs` must be answered with."""
    if not isinstance(inputs, dict):
        inputs = {name: inputs for name in request}
    rows = len(next(iter(request.values())))
    same = set(inputs) == set(request) and all(
        np.array_equal(array.astype(request[name].dtype), request[name])
        for name, array in repeated(inputs, rows).items()
    )
    if not same:
        return {}
    prefix = "" if signature == "serving_default" else f"{signature}:"
    names = [
        name
        for name in expected
        if name.startswith(prefix) and ":" not in name[len(prefix) :]
    ]
    arrays = repeated({name: expected[name] for name in names}, rows)
    return {name[len(prefix) :]: array for name, array in arrays.items()}


def _difference(path, name, answers, expected, tolerance):
    if name not in answers:
        raise VerificationError(
            f"{path} has no output `{name}`, only: {sorted(answers)}"
        )
    answer = answers[name]
    if answer.shape != expected.shape:
        raise VerificationError(
            f"{path}: output `{name}` must have shape {expected.shape}. "
            f"Received: {answer.shape}"
        )
    if expected.dtype.kind in "SUO":
        return _same_text(path, name, answer, expected)
    answer = answer.astype("float64")
    expected = expected.astype("float64")
    # Equal infinities have no difference; a NaN differs from everything.
    with np.errstate(invalid="ignore"):
        gaps = np.where(answer == expected, 0.0, np.abs(answer - expected))
    difference = float(gaps.max(initial=0.0))
    limit = allowed_difference(expected, tolerance)
    if not difference <= limit:
        raise AnswersDifferError(
            f"{path} is not the model that was exported: output `{name}` "
            f"differs by up to {difference:.3g}, allowed: {limit:.3g} "
            f"(tolerance {tolerance:g}, relative to the spread of the model's "
            "answers)."
        )
    return difference


def _same_text(path, name, answer, expected):
    # The model itself was undecided where nothing is expected.
    wrong = (answer != expected.astype("S")) & (expected.astype("S") != b"")
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise VerificationError(
            f"{path} is not the model that was exported: output `{name}` at "
            f"{at} is {answer[at]!r}, expected: {expected[at]!r}."
        )
    return 0.0
