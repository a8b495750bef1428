# SPDX-License-Identifier: Apache-2.0
"""LiteRTRunner: a .tflite file as a function of arrays by name.

It needs NumPy and LiteRT only, and nothing of this package: a process that
loads no TensorFlow can run a file by it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection
from typing import Any

import numpy as np


def name_inputs(inputs: Any, names: Collection[str]) -> dict[str, Any]:
    """Pairs a batch with the names of a model's inputs.

    Args:
        inputs: Arrays by input name; or one array for a model of one input;
            or a list or tuple of arrays in the order of `names`.
        names: A list in the model's order, or a set where it has none, as
            the inputs of a file.

    Raises:
        ValueError: If it is not certain which array belongs to which input.
    """
    if isinstance(inputs, dict):
        # An export writes `spectrum-raw` as `spectrum_raw`.
        written = {plain_name(str(key)): key for key in inputs}
        keys = written if len(written) == len(inputs) else {}
        keys = {**keys, **dict(zip(inputs, inputs, strict=True))}
        if set(names) <= set(keys):
            return {name: inputs[keys[name]] for name in names}
        received = f"inputs named {sorted(inputs)}"
    elif isinstance(inputs, (list, tuple)) and all(
        hasattr(array, "shape") for array in inputs
    ):
        is_ordered = isinstance(names, list) or len(names) == 1
        if is_ordered and len(inputs) == len(names):
            return dict(zip(names, inputs, strict=True))
        received = f"{len(inputs)} arrays without names"
    elif len(names) == 1:
        return dict.fromkeys(names, inputs)
    else:
        received = "one array without a name"
    raise ValueError(
        f"The model takes the inputs named {sorted(names)}. Received: "
        f"{received}. Pass a dict of arrays by these names."
    )


def plain_name(name: str) -> str:
    """Returns a name with letters, digits and '_' only, as exports write it."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"input_{name}" if name[:1].isdigit() else name


def values_as(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    """Returns values in a dtype that can hold them.

    A cast alone would make black images of pixels between 0 and 1.

    Raises:
        ValueError: If it cannot hold them; `what` they are is said.
    """
    is_text = values.dtype.kind in "SUO"
    if values.dtype == dtype or (is_text and dtype.kind == "S"):
        return values
    # Text that looks like a number would be taken for it, or the reverse.
    if values.dtype.kind in "biuf" and dtype.kind != "S":
        with np.errstate(all="ignore"):
            taken = values.astype(dtype)
        if dtype.kind not in "biu" or np.array_equal(taken, values):
            return taken
    raise ValueError(
        f"{what} must be {dtype}, or values that {dtype} can hold. "
        f"Received: {values.dtype}"
    )


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file, and how it holds real numbers.

    Args:
        index: Its number in the interpreter.
        shape: Sizes of its axes, -1 for any.
        dtype: What it holds.
        scale: Real value of one step, 0.0 where it holds values themselves.
        zero_point: The integer that stands for 0.0.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int

    @classmethod
    def of(cls, detail: dict[str, Any]) -> Tensor:
        """Reads what LiteRT tells of a tensor."""
        dtype = np.dtype(detail["dtype"])
        scale, zero_point = detail["quantization"]
        # A tensor of floats may have a scale that says nothing of it.
        scale = float(np.float32(scale if dtype.kind in "iu" else 0.0))
        shape = tuple(map(int, detail["shape_signature"]))
        return cls(detail["index"], shape, dtype, scale, zero_point)

    def held(self, values: np.ndarray, what: str) -> np.ndarray:
        """Returns real values, of any dtype, as the tensor holds them.

        Raises:
            ValueError: If it cannot hold them; `what` they are is said.
        """
        if not self.scale or values.dtype.kind not in "biuf":
            return values_as(values, self.dtype, what)
        steps = np.rint(values.astype(np.float32) / self.scale)
        steps += self.zero_point
        if np.isnan(steps).any():
            raise ValueError(
                f"{what} is {self.dtype}, which has no NaN. Received NaN."
            )
        limits = np.iinfo(self.dtype)
        return steps.clip(limits.min, limits.max).astype(self.dtype)

    def real(self, held: np.ndarray) -> np.ndarray:
        """Returns what the tensor holds as real values."""
        if not self.scale:
            return held
        return (held.astype(np.float32) - self.zero_point) * self.scale


class LiteRTRunner:
    """Runs a .tflite file on batches of any number of rows.

    Inputs and outputs have the names that the file's signature gives them;
    in a file without one, inputs those of their tensors, and outputs are
    `output_0`, `output_1` and so on. A free batch size is resized; a fixed
    one is walked along, and the last rows filled up with copies.

    Values are real numbers; integers that stand for them are scaled.

    Args:
        model: Path of the file, or its content.
        threads: Threads of the interpreter.

    Raises:
        RuntimeError: If LiteRT does not load the file (or `ValueError`).
    """

    def __init__(self, model: str | os.PathLike | bytes, threads: int = 1):
        from ai_edge_litert.interpreter import Interpreter

        if isinstance(model, bytes):
            self._source = "the model"
            source: dict[str, Any] = {"model_content": model}
        else:
            self._source = os.fspath(model)
            source = {"model_path": self._source}
            # LiteRT says of any bad path that it "could not open" it.
            open(model, "rb").close()
        self._interpreter = Interpreter(**source, num_threads=threads)
        self.inputs, self.outputs, shapes = self._described()
        # Rows of one call, -1 for any number.
        self._rows = max(tensor.shape[0] for tensor in self.inputs.values())
        # What the interpreter has its memory for. An open size stands as 1,
        # which may be less than a layer can take: the first batch tells.
        self._shapes = None
        if not any(-1 in t.shape[1:] for t in self.inputs.values()):
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        first, *others = self.inputs.values()
        self._is_direct = not others and not first.scale
        self._index, self._dtype = first.index, first.dtype

    def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
        """Returns arrays `(rows, ...)` by output name.

        Args:
            inputs: Arrays `(rows, ...)` by input name, or one array for a
                file of one input.

        Raises:
            ValueError: If they are not what the file takes.
        """
        # Microseconds count: what the file takes as it is goes right through.
        if (
            self._is_direct
            and type(inputs) is np.ndarray
            and inputs.dtype == self._dtype
            and [inputs.shape] == self._shapes
        ):
            self._interpreter.set_tensor(self._index, inputs)
            return self._answers()
        named = name_inputs(inputs, self.inputs.keys())
        held = [self._held(name, np.asarray(named[name])) for name in named]
        rows = len(held[0])
        # An interpreter that was given no rows may fail ever after.
        if not rows or any(len(array) != rows for array in held):
            counts = dict(zip(named, map(len, held), strict=True))
            raise ValueError(
                f"All inputs of {self._source} must have equally many rows, "
                f"at least one. Received: {counts}"
            )
        size = rows if self._rows == -1 else self._rows
        pieces = [
            self._run([rows_from(array, start, size) for array in held])
            for start in range(0, rows, size)
        ]
        if size == rows:
            return pieces[0]
        return {
            name: np.concatenate([piece[name] for piece in pieces])[:rows]
            for name in self.outputs
        }

    def _described(self):
        """Returns inputs and outputs by name, and what size inputs have."""
        # Apart: whoever holds a tensor's description keeps it unallocated.
        if self._interpreter.get_signature_list():
            signature = self._interpreter.get_signature_runner()
            inputs = signature.get_input_details()
            outputs = signature.get_output_details()
        else:
            listed = self._interpreter.get_input_details()
            inputs = {detail["name"]: detail for detail in listed}
            listed = self._interpreter.get_output_details()
            outputs = {f"output_{i}": d for i, d in enumerate(listed)}
        shapes = [tuple(detail["shape"]) for detail in inputs.values()]
        inputs, outputs = (
            {name: Tensor.of(detail) for name, detail in details.items()}
            for details in (inputs, outputs)
        )
        return inputs, outputs, shapes

    @property
    def takes_zeros(self) -> bool:
        """Whether it takes numbers, and only its batch size is open."""
        tensors = self.inputs.values()
        return all(
            t.dtype.kind in "biuf" and -1 not in t.shape[1:] for t in tensors
        )

    def _held(self, name, array):
        tensor, what = self.inputs[name], f"Input `{name}` of {self._source}"
        # The interpreter would fit itself to another size, and answer.
        if array.ndim != len(tensor.shape) or any(
            size not in (-1, received)
            for size, received in zip(
                tensor.shape[1:], array.shape[1:], strict=True
            )
        ):
            raise ValueError(
                f"{what} has shape {tensor.shape} (-1: any; the batch is "
                f"free). Received an array of shape {array.shape}."
            )
        return tensor.held(array, what)

    def _run(self, held):
        shapes = [array.shape for array in held]
        if shapes != self._shapes:
            self._shapes = None  # until it succeeded
            for tensor, shape in zip(self.inputs.values(), shapes, strict=True):
                self._interpreter.resize_tensor_input(tensor.index, shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for tensor, array in zip(self.inputs.values(), held, strict=True):
            self._interpreter.set_tensor(tensor.index, array)
        return self._answers()

    def _answers(self):
        self._interpreter.invoke()
        get = self._interpreter.get_tensor
        return {
            name: tensor.real(get(tensor.index))
            for name, tensor in self.outputs.items()
        }


def rows_from(array: np.ndarray, start: int, count: int) -> np.ndarray:
    """Returns `count` rows; the last one is repeated where rows run out."""
    rows = array[start : start + count]
    missing = np.repeat(rows[-1:], count - len(rows), 0)
    return np.concatenate([rows, missing]) if len(missing) else rows
