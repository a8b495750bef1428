# SPDX-License-Identifier: Apache-2.0
"""Requests: one batch of what an exported model takes, by input name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.litert_runner import name_inputs
from keras_kd.core.litert_runner import values_as


def random_batch(specs: Any, rows: int = 4) -> dict[str, np.ndarray]:
    """Returns a batch of the right shapes and dtypes, the same each time.

    Floats lie in [0, 1); integers are 0 or 1, which any vocabulary holds.

    Raises:
        ValueError: If the model leaves a size open, beside the batch's.
    """
    if any(None in spec.shape[1:] for spec in keras.tree.flatten(specs)):
        raise needs_inputs(specs, "It leaves sizes open")
    generator = np.random.default_rng(0)
    batch = {}
    for spec in keras.tree.flatten(specs):
        shape, dtype = (rows, *spec.shape[1:]), spec.dtype
        if dtype == tf.string:
            batch[spec.name] = np.full(shape, b"a")
        elif dtype.is_floating:
            batch[spec.name] = generator.random(shape).astype(
                dtype.as_numpy_dtype
            )
        else:
            batch[spec.name] = generator.integers(0, 2, shape).astype(
                dtype.as_numpy_dtype
            )
    return batch


def needs_inputs(specs: Any, why: str) -> ValueError:
    """Returns the error that a model needs `inputs` to be tried with."""
    wanted = ", ".join(
        f"{spec.name!r}: {spec.dtype.name} of shape {tuple(spec.shape)}"
        for spec in keras.tree.flatten(specs)
    )
    return ValueError(
        f"The model needs example inputs to be tried with. {why}. Pass some "
        "rows of what it takes, such as inputs=x_train[:8] or a dict of "
        "arrays by name (for a KerasHub model what its preprocessor gives: "
        "inputs=preprocessor(texts)). "
        f"Expected: {{{wanted}}}."
    )


def as_request(
    specs: Any, inputs: Any, others: Sequence[Sequence[str]] = ()
) -> dict[str, np.ndarray]:
    """Returns a batch of what the model takes as arrays by input name.

    Args:
        specs: See `input_specs`.
        inputs: Nested as the model's inputs are, or a dict of arrays by name.
        others: Lists of names that a dict may go by instead, in the order of
            the specs, see `own_names`.

    Raises:
        ValueError: If it is not certain which array belongs to which input,
            or one has another shape.
    """
    flat = keras.tree.flatten(specs)
    names = [spec.name for spec in flat]
    try:
        keras.tree.assert_same_structure(specs, inputs)
        inputs = keras.tree.flatten(inputs)
    except (TypeError, ValueError):
        # Not nested as the inputs are. Those of a dict have no order.
        if isinstance(inputs, dict):
            fitting = [o for o in others if set(o) <= set(inputs)]
            if fitting:
                inputs = [inputs[name] for name in fitting[0]]
        elif isinstance(specs, dict):
            names = set(names)
    named = name_inputs(inputs, names)
    batch = {}
    for spec in flat:
        if spec.dtype == tf.string:
            array = _as_bytes(named[spec.name], spec.name)
        else:
            dtype = np.dtype(spec.dtype.as_numpy_dtype)
            what = f"`inputs`: `{spec.name}`"
            array = values_as(np.asarray(named[spec.name]), dtype, what)
        if array.ndim == 1 and spec.shape[1:] == [1]:
            array = array[:, None]  # Keras takes a column without its axis
        batch[spec.name] = array
        if not spec.shape[1:].is_compatible_with(array.shape[1:]):
            raise ValueError(
                f"`inputs`: `{spec.name}` must have shape "
                f"{tuple(spec.shape)}. Received: {array.shape}"
            )
    return batch


def _as_bytes(values, name):
    # Objects: NumPy's own texts drop the zeros that a file may end with.
    array = np.asarray(values, object)
    texts = [
        value if isinstance(value, bytes) else str(value).encode()
        for value in array.ravel().tolist()
    ]
    if any(text.endswith(b"\0") for text in texts):
        raise ValueError(
            f"`inputs`: a value of `{name}` ends in a zero byte, which no "
            "request that is kept beside the model can hold. Pass other "
            "examples."
        )
    return np.array(texts, "S").reshape(array.shape)
