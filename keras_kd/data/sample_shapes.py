# SPDX-License-Identifier: Apache-2.0
"""Are the samples of the shape that a model takes, or that was labelled?"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd.core.model_inputs import preprocessor_of
from keras_kd.data.reading import raise_unbatched


def check_inputs(x: Any, model: Any, name: str = "data") -> None:
    """Raises if a model cannot take inputs, such as those of single samples.

    A model whose inputs are not known, and inputs whose shapes are not, pass.

    Args:
        x: A nesting of arrays, or of the specs of a `tf.data.Dataset`.
        model: The `keras.Model`.
        name: What errors call the data.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or not isinstance(model, keras.Model):
        return
    parts = _matched(x, inputs)
    if parts is None:
        return
    if len(parts) != len(inputs):
        raise ValueError(
            f"The model '{model.name}' takes {len(inputs)} inputs "
            f"({', '.join(_name(i) for i in inputs)}). Received: "
            f"{len(parts)} in `{name}`.{_how_of_text(model)}"
        )
    wanted = [tuple(i.shape[1:]) for i in inputs]
    _check(parts, wanted, name, f"the model '{model.name}' takes")


def _how_of_text(model):
    if preprocessor_of(model) is None:
        return ""
    return (
        " Its preprocessor makes them of text, before anything else: x = "
        f"{model.name}.preprocessor(texts)."
    )


def check_samples(x: Any, shapes: Sequence[Any], name: str = "data") -> None:
    """Raises unless samples are of the shapes that a cache was built with.

    Args:
        x: As for `check_inputs`.
        shapes: What `shapes_of` returned of the labelled data.
        name: What errors call the data.
    """
    parts = tf.nest.flatten(x)
    if len(parts) == len(shapes):
        wanted = [tuple(shape) for shape in shapes]
        _check(parts, wanted, name, "the cache was built with", exact=True)


def shapes_of(x: Any) -> list[list[int | None]]:
    """Returns the shape of one sample of each input, as JSON."""
    shapes = [part.shape for part in tf.nest.flatten(x)]
    if any(shape.rank is None for shape in shapes):
        return []
    return [list(shape[1:]) for shape in shapes]


def _matched(x, inputs):
    if not isinstance(x, Mapping):
        return tf.nest.flatten(x)
    names = [_name(i) for i in inputs]
    if len(inputs) == len(x) == 1:
        return list(x.values())
    return [x[name] for name in names] if set(names) <= set(x) else None


def _name(tensor):
    return tensor.name.split(":")[0]


def _check(parts, wanted, name, whose, exact=False):
    found = [_known(part.shape) for part in parts]
    if any(shape is None for shape in found):
        return
    fits = zip(found, wanted, strict=True)
    if all(_fits(shape[1:], one, exact) for shape, one in fits):
        return
    is_stream = any(isinstance(part, tf.TypeSpec) for part in parts)
    if is_stream and all(map(_fits, found, wanted)):
        raise_unbatched(name, [part.shape for part in parts])
    raise ValueError(
        f"The samples of `{name}` must be of the shape that {whose}. "
        f"Expected: {_shown(wanted)}. Received: "
        f"{_shown([shape[1:] for shape in found])}."
    )


def _known(shape):
    is_unknown = getattr(shape, "rank", 0) is None
    return None if is_unknown else tuple(shape)


def _fits(shape, wanted, exact=False):
    if not exact and len(shape) == len(wanted) + 1 and shape[-1] == 1:
        shape = shape[:-1]  # Keras adds and drops a last axis of 1
    if not exact and len(shape) + 1 == len(wanted) and wanted[-1] == 1:
        shape = (*shape, 1)
    return len(shape) == len(wanted) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(shape, wanted, strict=True)
    )


def _shown(shapes):
    return str(shapes[0] if len(shapes) == 1 else shapes)
