# SPDX-License-Identifier: Apache-2.0
"""Initialising a student from layers of its teacher, as DistilBERT does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping

import keras
import numpy as np

from keras_kd.core.copying import copy_state
from keras_kd.core.copying import layers_with_state
from keras_kd.core.layer_paths import children_of
from keras_kd.core.layer_paths import layer_at

EVERY_OTHER = "every other"


def initialize_from(
    teacher: keras.Model,
    student: keras.Model,
    layers: str | Mapping[str, str] = EVERY_OTHER,
) -> dict[str, str]:
    """Copies weights of teacher layers to student layers.

    A student of fewer layers learns far faster from its teacher's weights
    than from random ones. It needs the teacher's width.

    A layer is named by its path: `"dense_1"`; `"encoder/block_3"` for one
    inside a model or a composite layer. Where a name is not known because
    Keras numbered it, an attribute does: `"backbone/transformer_layer_0"` for
    the `backbone` of a KerasHub task, `"encoder/blocks/3"` for a list.

    Args:
        teacher: A built model.
        student: A built model; it is changed in place.
        layers: `{student layer: teacher layer}`, or `"every other"`: layers
            are matched by class and by name without its number. Of several
            such layers in one place the student gets evenly spaced ones, the
            first and the last among them: 0, 2, 4, 7, 9 and 11 of 12, as
            DistilBERT does. Student layers without a match, such as a new
            head, stay as they are.

    Returns:
        `{student layer: teacher layer}`, the paths of all that was copied.

    Raises:
        ValueError: If a model is not built, a layer is not there or its
            weights are of other shapes, or nothing matches. Nothing is
            changed then.

    Example:

    ```python
    def bert(blocks):
        return keras.Sequential(
            [keras.Input((8,))]
            + [keras.layers.Dense(8, name=f"block_{i}") for i in range(blocks)]
        )

    kd.initialize_from(bert(12), bert(3))
    # {"block_0": "block_0", "block_1": "block_6", "block_2": "block_11"}
    ```

    Reference: https://arxiv.org/abs/1910.01108
    """
    for model in (teacher, student):
        if not model.built:
            raise ValueError(
                f"'{model.name}' has no weights yet. Expected built models: "
                "call each on a batch first, or give it a keras.Input."
            )
    if isinstance(layers, Mapping):
        pairs = dict(layers)
    elif layers == EVERY_OTHER:
        pairs = dict(_matches(teacher, student))
    else:
        raise ValueError(
            "`layers` must be {student layer: teacher layer} or "
            f"{EVERY_OTHER!r}. Received: layers={layers!r}"
        )
    if not pairs:
        raise ValueError(
            f"No layer of '{student.name}' matches one of '{teacher.name}' by "
            "class and name. Expected layers={student layer: teacher layer}. "
            f"Received: layers={layers!r}"
        )
    found = [
        (layer_at(student, own), layer_at(teacher, theirs))
        for own, theirs in pairs.items()
    ]
    for (own, theirs), (target, source) in zip(
        pairs.items(), found, strict=True
    ):
        _check_alike(own, target, theirs, source)
    for target, source in found:
        for weight, value in zip(target.weights, source.weights, strict=True):
            weight.assign(value)
        copy_state(source, target)
    return pairs


def _matches(teacher, student, theirs="", own="") -> Iterator[tuple[str, str]]:
    """Yields pairs of paths, as deep as it takes for the shapes to agree."""
    candidates = _alike(teacher)
    for kind, targets in _alike(student).items():
        sources = candidates.get(kind, [])
        if not sources:
            continue
        if len(sources) < len(targets):
            raise ValueError(
                f"'{student.name}' has {len(targets)} layers like "
                f"'{own}{targets[0].name}', and '{teacher.name}' only "
                f"{len(sources)}. Expected a student of no more layers, or "
                "layers={student layer: teacher layer}."
            )
        places = np.linspace(0, len(sources) - 1, len(targets)).round()
        for target, place in zip(targets, places, strict=True):
            source = sources[int(place)]
            paths = f"{theirs}{source.name}", f"{own}{target.name}"
            opens = _shapes(source) != _shapes(target)
            if opens and children_of(source) and children_of(target):
                inner = [f"{path}/" for path in paths]
                yield from _matches(source, target, *inner)
            elif target.weights or layers_with_state(target):
                yield paths[1], paths[0]


def _alike(parent):
    """Returns the layers in a model or layer by class and unnumbered name."""
    found: dict[tuple, list] = {}
    for layer in children_of(parent):
        stem = re.sub(r"[._]?\d+$", "", layer.name)
        found.setdefault((type(layer), stem), []).append(layer)
    return found


def _check_alike(own, target, theirs, source):
    if _shapes(source) != _shapes(target):
        raise ValueError(
            f"The student's layer '{own}' cannot take the weights of the "
            f"teacher's '{theirs}'. Expected weights of the same shapes. "
            f"Received: {_shapes(target)} for {_shapes(source)}. Nothing was "
            "changed."
        )
    kinds = [
        [type(layer).__name__ for layer in layers_with_state(side)]
        for side in (target, source)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"The student's layer '{own}' and the teacher's '{theirs}' keep "
            "more than weights (tables, statistics), and not in the same "
            f"layers. Received: {kinds[0]} for {kinds[1]}. Nothing was changed."
        )


def _shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]
