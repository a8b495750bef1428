# SPDX-License-Identifier: Apache-2.0
"""Golden answers: a few requests and what the model answered to them.

They lie beside every exported file, so that a copy of it can be checked
anywhere, without the model it was made from.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from keras_kd.core.array_files import load_arrays
from keras_kd.core.array_files import save_arrays
from keras_kd.core.records import file_sha256
from keras_kd.core.records import replacing
from keras_kd.export.manifest import DAMAGED
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import golden_path

REPLACED = "replaced/"


@dataclasses.dataclass(frozen=True)
class Golden:
    """Requests and answers of one export.

    Args:
        inputs: Arrays by input name.
        expected: The model's answers, by output name.
        tolerance: See `verify`.
        sha256: Of the one .tflite file they belong to, else empty.
    """

    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    tolerance: float
    sha256: str = ""

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays by the names they have in the file."""
        return {
            "tolerance": np.asarray(self.tolerance),
            "sha256": np.asarray(self.sha256),
            **{f"input/{name}": a for name, a in self.inputs.items()},
            **{f"output/{name}": a for name, a in self.expected.items()},
        }


def write_golden(path: str | os.PathLike, *fields, **arrays) -> None:
    """Writes the golden answers of an export.

    Args:
        path: The SavedModel's folder or the .tflite file.
        *fields: Those of `Golden`, in their order.
        **arrays: More arrays to write, by the names they have in the file.
    """
    with replacing(golden_path(path)) as temporary:
        save_arrays(temporary, {**Golden(*fields).arrays(), **arrays})


def read_golden(path: str | os.PathLike) -> Golden:
    """Reads the golden answers of an export.

    Raises:
        VerificationError: If they are missing or unreadable, or belong to
            another file.
    """
    path, file = pathlib.Path(path), golden_path(path)
    try:
        arrays = load_arrays(file)
        found = [_part(arrays, "")]
        if f"{REPLACED}sha256" in arrays:
            found.append(_part(arrays, REPLACED))
    except (*DAMAGED, KeyError) as error:
        raise VerificationError(
            f"{file} cannot be read, so there is nothing to compare the "
            f"answers with. Export the model again. Received: {error!r}"
        ) from error
    sha256 = file_sha256(path) if path.is_file() else ""
    for golden in found:
        if golden.sha256 in ("", sha256):
            return golden
    raise VerificationError(
        f"{path} is not the file that {file.name} belongs to. Export the "
        "model again."
    )


def carry_over(older: Golden, path: str | os.PathLike) -> None:
    """Adds the answers of a .tflite file to those of the one replacing it.

    For a while the new answers lie beside the old file.
    """
    new = vars(read_golden(path)).values()
    replaced = {f"{REPLACED}{k}": v for k, v in older.arrays().items()}
    write_golden(path, *new, **replaced)


def _part(arrays, prefix):
    inputs, expected = (
        {
            name.removeprefix(kind): array
            for name, array in arrays.items()
            if name.startswith(kind)
        }
        for kind in (f"{prefix}input/", f"{prefix}output/")
    )
    tolerance = float(arrays[f"{prefix}tolerance"])
    for name, array in {**inputs, **expected}.items():
        if not array.ndim or array.dtype.kind not in "biufSU":
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
    if not inputs or not expected or not 0 <= tolerance < np.inf:
        raise ValueError(f"{len(inputs)} inputs, tolerance {tolerance}")
    return Golden(inputs, expected, tolerance, str(arrays[f"{prefix}sha256"]))
