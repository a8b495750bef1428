# SPDX-License-Identifier: Apache-2.0
"""ContractError: which promise was broken, how, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_kd.data.splits import batch_specs
from keras_kd.teachers import Teacher


class ContractError(AssertionError):
    """A loss, teacher or distiller breaks a promise that others rely on.

    Args:
        subject: What was checked; its class is named in the message.
        promise: The promise, in a few words.
        expected: What should have been seen.
        received: What was seen.
        fix: What usually repairs it.
    """

    def __init__(
        self,
        subject: object,
        promise: str,
        expected: object,
        received: object,
        fix: str = "",
    ):
        self.promise = promise
        super().__init__(
            f"{type(subject).__name__} breaks the promise '{promise}'. "
            f"Expected: {expected}. Received: {received}."
            + (f" To fix it: {fix}." if fix else "")
        )


def require(
    holds, subject, promise: str, expected, received, fix: str = ""
) -> None:
    """Raises a `ContractError` unless the promise holds."""
    if not holds:
        raise ContractError(subject, promise, expected, received, fix)


def require_close(
    subject, promise: str, expected, received, fix: str = "", tolerance=1e-4
) -> None:
    """Raises a `ContractError` unless two arrays agree."""
    require(
        close(received, expected, tolerance),
        subject,
        promise,
        shown(expected),
        shown(received),
        fix,
    )


def compiled_answers(
    subject, promise: str, function: Callable, x: Any, jit: bool, fix: str
) -> Iterator[tuple[str, Any]]:
    """Yields what a function of one batch answers, by way of compiling it."""
    ways: dict[str, dict[str, Any]] = {
        "tf.function": {},
        "tf.function with an unknown batch size": {
            "input_signature": [batch_specs(x)]
        },
    }
    if jit:
        ways["tf.function with XLA"] = {"jit_compile": True}
    for name, arguments in ways.items():
        try:
            # As Keras compiles a training step: without AutoGraph.
            compiled = tf.function(function, autograph=False, **arguments)
            answer = compiled(x)
        except Exception as error:
            received = f"{type(error).__name__}: {error}"
            raise ContractError(
                subject, promise, f"{name} to run", received, fix
            ) from error
        yield name, answer


def close(received, expected, tolerance: float = 1e-4) -> bool:
    """Whether two arrays agree up to float32 arithmetic.

    The tolerance is relative to the largest value, so that a small value
    beside a large one is not asked for more digits than float32 has.
    """
    received, expected = numbers(received), numbers(expected)
    if received.shape != expected.shape or not np.all(np.isfinite(received)):
        return False
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    return bool(np.all(np.abs(received - expected) <= tolerance * scale))


def numbers(tensor) -> np.ndarray:
    """Returns a tensor's values in float64."""
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def shown(values) -> str:
    """Returns the first few numbers of an array, for a message."""
    values = numbers(values)
    digits = ", ".join(f"{value:.6g}" for value in values.ravel()[:4])
    more = ", ..." if values.size > 4 else ""
    return f"{digits}{more} (shape {values.shape})"


def state_of(source: Any) -> dict[str, np.ndarray]:
    """Returns a copy of all state behind a model or teacher, by path.

    Looks through the attributes of plain objects such as teachers, for
    Keras layers and variables; every layer's `trainable` flag is part of it.
    """
    state = {}
    for path, item in _parts(source, "", set()):
        if isinstance(item, keras.layers.Layer):
            state[f"{path}.trainable"] = np.asarray(item.trainable)
        else:
            state[path] = ops.convert_to_numpy(item).copy()
    return state


def changed(before: dict, after: dict) -> list[str]:
    """Returns the paths of a `state_of` whose bits differ."""
    return sorted(
        path
        for path in before.keys() | after.keys()
        if path not in before
        or path not in after
        or not np.array_equal(before[path], after[path], equal_nan=True)
    )


def _parts(source, path, seen) -> Iterable:
    if id(source) in seen:
        return
    seen.add(id(source))
    if isinstance(source, keras.layers.Layer):
        for layer in source._flatten_layers():
            yield f"{path}/{layer.path}", layer
        for index, variable in enumerate(source.variables):
            yield f"{path}/{variable.path}[{index}]", variable
    elif isinstance(source, keras.Variable) or hasattr(source, "assign_add"):
        yield path, source
    elif isinstance(source, dict):
        for key, value in source.items():
            yield from _parts(value, f"{path}.{key}", seen)
    elif isinstance(source, (list, tuple)):
        for index, value in enumerate(source):
            yield from _parts(value, f"{path}[{index}]", seen)
    elif isinstance(source, Teacher):
        yield from _parts(vars(source), path, seen)
