# SPDX-License-Identifier: Apache-2.0
"""Golden answers: a few requests and what the model answered to them.

They lie beside every exported file, so that a copy of it can be checked
anywhere, without the model it was made from.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zipfile

import numpy as np

from keras_kd.core.records import file_sha256
from keras_kd.core.records import replacing
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import golden_path

REPLACED = "replaced/"

__all__ = ["Golden", "carry_over", "golden_path", "read_golden", "write_golden"]


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
    golden = Golden(inputs, expected, tolerance, sha256)
    target = golden_path(path)
    with replacing(target) as temporary:
        np.savez(temporary, **golden.arrays())
    return target


def read_golden(path: str | os.PathLike) -> Golden:
    """Reads the golden answers of an export.

    Raises:
        VerificationError: If they are missing or unreadable, or belong to
            another file.
    """
    file = golden_path(path)
    try:
        with np.load(file) as content:
            arrays = dict(content)
        kinds = (_part(arrays, ""), _part(arrays, REPLACED))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise VerificationError(
            f"{file} cannot be read, so there is nothing to compare the "
            f"answers with. Export the model again. Received: {error!r}"
        ) from error
    for golden in filter(None, kinds):
        if golden.sha256 in ("", _sha256_of(path)):
            return golden
    raise VerificationError(
        f"{path} is not the file that {file.name} belongs to. Export the "
        "model again."
    )


def carry_over(older: Golden, path: str | os.PathLike) -> None:
    """Adds the answers of a file to those of the one that will replace it.

    For a while the new answers lie beside the old file.

    Args:
        older: The golden answers of a .tflite file.
        path: The file that will replace it, with its own golden answers.
    """
    arrays = read_golden(path).arrays()
    arrays |= {f"{REPLACED}{k}": v for k, v in older.arrays().items()}
    with replacing(golden_path(path)) as temporary:
        np.savez(temporary, **arrays)


def _part(arrays, prefix):
    if prefix and f"{prefix}sha256" not in arrays:
        return None
    inputs, expected = (
        {
            name.removeprefix(kind): array
            for name, array in arrays.items()
            if name.startswith(kind)
        }
        for kind in (f"{prefix}input/", f"{prefix}output/")
    )
    tolerance = float(arrays[f"{prefix}tolerance"])
    return Golden(inputs, expected, tolerance, str(arrays[f"{prefix}sha256"]))


def _sha256_of(path):
    return file_sha256(path) if pathlib.Path(path).is_file() else ""
