# SPDX-License-Identifier: Apache-2.0
"""The files that a model can be exported to: one table for all who ask.

It imports nothing, so the command line can read it before TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

SAVED_MODEL, TFLITE = "saved_model", "tflite"
SUFFIX = ".tflite"


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """A row of the table.

    Args:
        name: What it is called, such as `"int8"`.
        format: What `export` calls it in `formats`.
        quantize: What `export` calls it in `quantize`.
        file: What is written for a model called `student`, in `directory`.
        runtime: What serves it, and what `verify` and `measure` run it by.
        stores: What it holds, and what it computes in.
        needs: What an export needs beside the model.
        verified: How `export` and `verify` know that it is right.
        tolerance: How far it may differ, relative to the spread of the
            model's answers, see `export`.
        is_integer: Whether it computes in integers, with ranges learned from
            examples.
        is_judged: Whether it must keep what the model answers to real inputs.
    """

    name: str
    format: str
    quantize: str | None
    file: str
    runtime: str
    stores: str
    needs: str
    verified: str
    tolerance: float
    is_integer: bool = False
    is_judged: bool = False


_ANSWERS = "answers as the model, refuses wrong shapes"


def _lite(quantize, stores, *rest):
    name = quantize or "float32"
    file = f"student/student.{name}.tflite"
    return FileFormat(name, TFLITE, quantize, file, "LiteRT", stores, *rest)


_KEPT = f"{_ANSWERS}; keeps decisions, or R2, and the headline"
_REAL = "`calibration`, or real `inputs`"
FILE_FORMATS = (
    FileFormat(
        "saved_model",
        SAVED_MODEL,
        None,
        "student/1/",
        "TensorFlow Serving",
        "float32",
        "nothing",
        f"{_ANSWERS}, replays its warm-up; loaded by TensorFlow's C API",
        1e-4,
    ),
    _lite(None, "float32", "nothing", _ANSWERS, 1e-4),
    _lite("float16", "float16 weights", "nothing", _ANSWERS, 1e-2),
    _lite("dynamic", "int8 weights", "nothing", _ANSWERS, 0.1),
    _lite(
        "int4",
        "int4 weights",
        f"extra `int4`; {_REAL}",
        f"{_KEPT}; smaller than `dynamic`",
        0.25,
        False,
        True,
    ),
    _lite("int8", "int8, float32 at both ends", _REAL, _KEPT, 0.25, True, True),
    _lite("full_int8", "int8", _REAL, _KEPT, 0.25, True, True),
)


def export_formats() -> tuple[FileFormat, ...]:
    """Returns the files that `export` can write, a `FileFormat` each.

    Example:

    ```python
    for row in kd.export.export_formats():
        print(row.name, row.file, row.runtime, row.needs)
    ```
    """
    return FILE_FORMATS


def formats() -> tuple[str, ...]:
    """Returns the choices for `formats`."""
    return tuple(dict.fromkeys(row.format for row in FILE_FORMATS))


def of_tflite() -> dict[str | None, FileFormat]:
    """Returns the rows of .tflite files by their choice for `quantize`."""
    return {row.quantize: row for row in FILE_FORMATS if row.format == TFLITE}


def format_of(path: str | os.PathLike) -> str | None:
    """Returns `"tflite"` or `"saved_model"`; `None` for anything else."""
    path = pathlib.Path(path)
    if path.suffix == SUFFIX and not path.is_dir():
        return TFLITE
    return SAVED_MODEL if (path / "saved_model.pb").is_file() else None
