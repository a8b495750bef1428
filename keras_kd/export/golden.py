# SPDX-License-Identifier: Apache-2.0
"""Golden answers: a few requests and what the model answered to them.

They lie beside every exported file, so that a copy of it can be checked
anywhere, without the model it was made from.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from keras_kd.export.manifest import VerificationError
from keras_kd.export.verify import verify
from keras_kd.records import file_sha256
from keras_kd.records import replacing


def golden_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns where an export's golden answers are.

    Inside a SavedModel's folder: `golden.npz`; beside a file such as
    `student.tflite`: `student.tflite.golden.npz`.
    """
    path = pathlib.Path(path)
    if path.suffix == ".tflite":
        return path.with_name(f"{path.name}.golden.npz")
    return path / "golden.npz"


def write_golden(
    path: str | os.PathLike,
    inputs: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
    tolerance: float,
    sha256: str = "",
) -> pathlib.Path:
    """Writes requests and answers of an export.

    Args:
        path: The SavedModel's folder or the .tflite file.
        inputs: Arrays by input name.
        expected: The model's answers, by output name.
        tolerance: See `verify`.
        sha256: Of the one .tflite file they belong to.
    """
    target = golden_path(path)
    arrays = {f"input/{name}": array for name, array in inputs.items()}
    arrays |= {f"output/{name}": array for name, array in expected.items()}
    with replacing(target) as temporary:
        np.savez(temporary, tolerance=tolerance, sha256=sha256, **arrays)
    return target


def verify_directory(
    directory: str | os.PathLike,
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks every exported file of a model's folder, in fresh processes.

    Args:
        directory: The folder `export` wrote: versions and .tflite files.

    Yields:
        Each version folder and .tflite file, with `None` if it is sound, or
        with what is wrong.

    Raises:
        FileNotFoundError: If there is nothing to check.
    """
    directory = pathlib.Path(directory)
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    versions = [name for name in names if re.fullmatch("[1-9][0-9]*", name)]
    files = [name for name in names if name.endswith(".tflite")]
    if not versions and not files:
        raise FileNotFoundError(
            f"{directory} holds no exported model: expected numbered version "
            "folders or .tflite files. Received: "
            f"{names[:5] if names else 'no such folder, or an empty one'}"
        )
    for name in [*sorted(versions, key=int), *files]:
        path = directory / name
        try:
            _replay(path)
        except VerificationError as error:
            yield path, str(error)
        else:
            yield path, None


def _replay(path):
    golden = golden_path(path)
    try:
        with np.load(golden) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise VerificationError(
            f"{golden} cannot be read, so there is nothing to compare the "
            f"answers with. Export the model again. Received: {error}"
        ) from error
    belongs_to = str(arrays.pop("sha256"))
    if belongs_to and belongs_to != file_sha256(path):
        raise VerificationError(
            f"{path} is not the file that {golden.name} belongs to. Export "
            "the model again."
        )
    tolerance = float(arrays.pop("tolerance"))
    inputs, expected = (
        {
            name.removeprefix(kind): array
            for name, array in arrays.items()
            if name.startswith(kind)
        }
        for kind in ("input/", "output/")
    )
    verify(path, inputs, expected, tolerance)
