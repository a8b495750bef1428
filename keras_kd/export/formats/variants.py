# SPDX-License-Identifier: Apache-2.0
"""Variants: the .tflite files of one export, by how they are quantised."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from keras_kd.core import file_formats
from keras_kd.core.arguments import did_you_mean
from keras_kd.core.file_formats import of_tflite
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.export.formats.litert import QUANTIZE
from keras_kd.export.formats.litert import check_quantize
from keras_kd.quantization.representative import draw_examples

FORMATS = file_formats.formats()


def variants(quantize: str | Sequence[str | None] | None) -> dict:
    """Returns how each .tflite file is quantised, by its kind.

    One choice makes the kind `"tflite"`, the file `name.tflite`. A list makes
    a kind for each: `"tflite.int8"`, the file `name.int8.tflite`; `None` in
    it is called `float32`.

    Raises:
        ValueError: If a choice is unknown or comes twice, or there is none.

    Example:

    ```python
    variants(("float16", "int8"))
    # {"tflite.float16": "float16", "tflite.int8": "int8"}
    ```
    """
    if isinstance(quantize, str) or not isinstance(quantize, Iterable):
        check_quantize(quantize)
        return {"tflite": quantize}
    chosen = list(quantize)
    for choice in chosen:
        check_quantize(choice)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            "`quantize` must be one choice or a list of different ones out of "
            f"{QUANTIZE}. Received: {quantize!r}"
        )
    return {f"tflite.{of_tflite()[one].name}": one for one in chosen}


def file_name(name: str, kind: str) -> str:
    """Returns `student.int8.tflite` for a model's name and a kind."""
    return f"{name}{kind.removeprefix('tflite')}.tflite"


def check_formats(formats: str | Sequence[str]) -> list[str]:
    """Returns the formats as a list; raises ValueError if one is unknown."""
    is_list = isinstance(formats, Iterable) and not isinstance(formats, str)
    chosen = list(formats) if is_list else [formats]
    unknown = [one for one in chosen if one not in FORMATS]
    if not chosen or unknown:
        hint = did_you_mean(unknown[0], FORMATS) if unknown else ""
        raise ValueError(
            f"`formats` must be one or more of {FORMATS}. Received: "
            f"{formats!r}.{hint}"
        )
    return sorted(set(chosen))


def real_examples(
    are_needed: bool,
    inputs: Arrays | None,
    calibration: Data | Split | Arrays | None,
    samples: int,
) -> tuple[Arrays | None, Arrays | None]:
    """Returns inputs and labels that files learn ranges from, if any.

    They are drawn from `calibration`, else `inputs`.

    Raises:
        ValueError: If there are none, and they are needed.
    """
    if calibration is not None:
        return draw_examples(calibration, samples)
    if inputs is None and are_needed:
        raise ValueError(
            "Integers need real inputs to learn ranges from and to be judged "
            "by. Pass some, for example calibration=data or "
            "inputs=x_train[:200]."
        )
    return inputs, None


def is_judged(quantize: str | None) -> bool:
    """Whether such a file must keep what a model answers to real inputs."""
    return of_tflite()[quantize].is_judged
