# SPDX-License-Identifier: Apache-2.0
"""What examples may be written as, read into the one form used inside.

Arrays and tensors stay the objects they are. What can mean two things is an
error that says what to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Streams = (tf.data.Dataset, keras.utils.PyDataset)


def parts_of(data: Any, name: str = "data", labelled: bool = False) -> tuple:
    """Returns `(x,)`, `(x, y)` or `(x, y, sample_weight)` as arrays.

    Args:
        data: Those parts in a tuple or list, or `x` alone. Each is an array,
            a tensor, a data frame, a list of numbers, or a nesting of them.
        name: What errors call it.
        labelled: Whether `x` alone will not do.

    Raises:
        ValueError: If they are of unequal length or empty, or it is not
            certain what is meant.
    """
    parts = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    if isinstance(data, list) and _is_plain(data) and not labelled:
        if len(data) < 4:
            raise ValueError(
                f"Cannot tell whether `{name}` lists the examples, or x and "
                "y. Write np.asarray(x), or a tuple (x, y)."
            )
        parts = (data,)
    while len(parts) > 1 and parts[-1] is None:
        parts = parts[:-1]
    if labelled and len(parts) not in (2, 3):
        raise ValueError(
            f"`{name}` must be a pair of arrays (x, y), (x, y, "
            "sample_weight), or a batched tf.data.Dataset of these. Received: "
            f"{_described(data)}"
        )
    if len(parts) not in (1, 2, 3):
        raise ValueError(
            f"`{name}` must be x, (x, y) or (x, y, sample_weight). Several "
            f"inputs go into one: ((x1, x2), y). Received: {len(parts)} parts."
        )
    _check_rows_match(parts, name)
    names = (f"x of `{name}`", f"y of `{name}`", f"sample_weight of `{name}`")
    parts = tuple(
        as_arrays(part, each) for part, each in zip(parts, names, strict=False)
    )
    parts = _with_samples_stacked(parts, name)
    lengths = lengths_of(parts)
    if lengths == [0]:
        raise ValueError(f"`{name}` is empty. Expected at least one example.")
    if len(lengths) != 1:
        raise ValueError(
            f"`{name}` must hold as many labels as inputs. Received: arrays "
            f"of length {lengths}. (Several splits go into "
            "kd.Data(train=..., validation=...).)"
        )
    return data if isinstance(data, tuple) and _same(parts, data) else parts


def as_arrays(part: Any, name: str = "x") -> Any:
    """Returns a nesting of arrays, with data frames and lists converted.

    Raises:
        ValueError: If something in it is no array of numbers or of text.
    """
    if isinstance(part, Mapping):
        found = {k: as_arrays(v, f"{name}[{k!r}]") for k, v in part.items()}
        return part if _same(found.values(), part.values()) else found
    if isinstance(part, (tuple, list)) and not _is_plain(part):
        parts = [as_arrays(each, name) for each in part]
        if _same(parts, part):
            return part
        is_named = hasattr(part, "_fields")
        return type(part)(*parts) if is_named else type(part)(parts)
    return _array(part, name)


def lengths_of(parts: Any) -> list[int]:
    """Returns the different numbers of rows among a nesting of arrays."""
    return sorted({int(a.shape[0]) for a in tf.nest.flatten(parts)})


def check_batched(dataset: tf.data.Dataset, name: str = "data") -> None:
    """Raises if a data set certainly gives single examples.

    That is so where a part has no axis at all, or its parts have first axes
    of different lengths.
    """
    shapes = [spec.shape for spec in _specs(dataset.element_spec)]
    known = [shape for shape in shapes if shape.rank is not None]
    first = {shape[0] for shape in known if shape.rank} - {None}
    if any(shape.rank == 0 for shape in known) or len(first) > 1:
        raise_unbatched(name, shapes)


def raise_unbatched(name: str, shapes: Any) -> None:
    """Raises the error about a data set of single examples."""
    shapes = ", ".join(map(str, shapes))
    raise ValueError(
        f"`{name}` must come in batches. Received: a tf.data.Dataset of single "
        f"samples, of shapes {shapes}. Write dataset.batch(128)."
    )


def _specs(spec):
    return [s for s in tf.nest.flatten(spec) if hasattr(s, "shape")]


def _array(value, name):
    """Returns one array, the same object if it is one already."""
    if isinstance(value, np.ndarray) or tf.is_tensor(value):
        array = value
    elif hasattr(value, "to_numpy"):
        array = _of_frame(value, name)
    elif _is_plain(value) or hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"The rows of {name} must be of one length. Received: a "
                "ragged list. Pad them, for example with "
                "keras.utils.pad_sequences."
            ) from error
    else:
        dense = " Write x.toarray()." if hasattr(value, "toarray") else ""
        raise ValueError(
            f"{name} must be an array, a tensor, a data frame, a list of "
            f"numbers, or a dict or tuple of them. Received: "
            f"{type(value).__name__}.{dense}"
        )
    if len(array.shape) == 0:
        raise ValueError(
            f"{name} must hold one row for each example. Received: the single "
            f"value {value!r}."
        )
    if array.dtype == object and not isinstance(
        next(iter(array.ravel()), ""), (str, bytes)
    ):
        raise ValueError(
            f"{name} must hold numbers or text. Received: an array of Python "
            f"objects ({type(array.ravel()[0]).__name__}). Convert it, for "
            "example with np.stack(list_of_arrays), or pad rows of unequal "
            "length."
        )
    return array


def _of_frame(frame, name):
    array = frame.to_numpy()
    if array.dtype != object or array.ndim == 1:
        return array
    dtypes = getattr(frame, "dtypes", None)
    items = dtypes.items() if hasattr(dtypes, "items") else ()
    text = [str(column) for column, dtype in items if _is_no_number(dtype)]
    raise ValueError(
        f"The columns of {name} must be numbers. Received: a data frame with "
        f"other columns: {text or list(items)}. Encode them as numbers, or "
        "give a dict of arrays, one for each input of the model: "
        "{'age': frame['age'].to_numpy(), ...}."
    )


def _is_no_number(dtype):
    return getattr(dtype, "kind", "O") not in "biuf"


def _described(data):
    kind = type(data).__name__
    if isinstance(data, Mapping):
        return f"a {kind} with the keys {list(data)}"
    return (
        f"a {kind} of {len(data)}" if isinstance(data, (tuple, list)) else kind
    )


def _check_rows_match(parts, name):
    """Rows of two pandas objects belong together by their index."""
    frames = [part for part in parts if hasattr(part, "iloc")]
    for other in frames[1:]:
        if len(other) == len(frames[0]) and not frames[0].index.equals(
            other.index
        ):
            raise ValueError(
                f"The inputs and labels of `{name}` have different indexes, so "
                "their rows may not belong together. Write (x, "
                "y.loc[x.index]), or (x.to_numpy(), y.to_numpy()) if they are "
                "in the same order."
            )


def _with_samples_stacked(parts, name):
    """Reads a list with one array for each example as one array."""
    stacked = tuple(_stacked(part) for part in parts)
    if _same(stacked, parts):
        return parts
    as_inputs, as_samples = lengths_of(parts), lengths_of(stacked)
    if len(as_inputs) == 1 and len(as_samples) == 1:
        raise ValueError(
            f"Cannot tell whether the list in `{name}` holds several inputs "
            "or one array for each example. Write a tuple for several inputs, "
            "np.stack(list) for examples."
        )
    return stacked if len(as_samples) == 1 else parts


def _stacked(part):
    if not isinstance(part, list) or not all(map(_has_shape, part)):
        return part
    shapes = {tuple(array.shape) for array in part}
    return np.stack(part) if len(shapes) == 1 else part


def _same(new, old):
    new, old = list(new), list(old)
    pairs = zip(new, old, strict=False)
    return len(new) == len(old) and all(a is b for a, b in pairs)


def _has_shape(part):
    return hasattr(part, "shape") and hasattr(part, "dtype")


def _is_plain(part):
    """Whether it is a nesting of Python lists with single values in it."""
    if not isinstance(part, (tuple, list)) or not part:
        return False
    values = (bool, int, float, str, bytes, np.generic)
    return all(isinstance(v, values) for v in tf.nest.flatten(part))


def strings_for_keras(split: Any) -> Any:
    """Returns arrays with strings as tensors, the form that `fit` takes."""

    def form(array):
        is_text = isinstance(array, np.ndarray) and array.dtype.kind in "US"
        return tf.convert_to_tensor(array) if is_text else array

    return keras.tree.map_structure(form, split)
