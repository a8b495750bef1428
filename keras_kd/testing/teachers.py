# SPDX-License-Identifier: Apache-2.0
"""check_teacher: what every source of targets promises."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_kd import teachers
from keras_kd.core import output_heads
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.losses.base import compatible
from keras_kd.testing.contract import ContractError
from keras_kd.testing.contract import changed
from keras_kd.testing.contract import close
from keras_kd.testing.contract import numbers
from keras_kd.testing.contract import state_of


def check_teacher(
    teacher: TeacherLike, x: Arrays, *, taps: Iterable[str] = ("output",)
) -> None:
    """Checks everything that `Distiller` relies on in a teacher.

    Args:
        teacher: A `Teacher`, or a Keras model to be used as one.
        x: A batch of the student's inputs: an array or a dict of arrays.
        taps: The taps it has to give.

    Raises:
        ContractError: If a promise is broken.

    Example:

    ```python
    kd.testing.check_teacher(model, images[:8], taps=["conv_4", "output"])
    ```
    """
    taps = tuple(taps)
    teacher = teachers.get(teacher).ready_for(taps)
    before = state_of(teacher)
    x = tf.nest.map_structure(tf.convert_to_tensor, x)
    given = teacher(x)
    _check_taps(teacher, taps, given, len(tf.nest.flatten(x)[0]))
    _check_same(
        teacher,
        given,
        teacher(x),
        "it gives one answer to one question",
        "run the model with training=False, and draw no random numbers",
    )
    _check_compiled(teacher, x, given)
    moved = changed(before, state_of(teacher))
    if moved:
        raise ContractError(
            teacher,
            "asking a teacher changes nothing in it",
            "every variable and `trainable` flag as before",
            f"changes in {moved[:3]}",
            "run the model with training=False",
        )


def _check_taps(teacher, taps, given, rows):
    if not isinstance(given, dict) or not set(taps) <= set(given):
        raise ContractError(
            teacher,
            "it gives the taps it was prepared for",
            f"a dict with {sorted(taps)}",
            sorted(given) if isinstance(given, dict) else type(given).__name__,
            "return {'output': tensor, ...} from __call__",
        )
    for name in taps:
        shape = tuple(given[name].shape)
        if shape[:1] != (rows,):
            raise ContractError(
                teacher,
                "a tap has one row per example",
                f"'{name}' of shape ({rows}, ...)",
                shape,
            )
        if not compatible(teacher.shape(name), shape):
            raise ContractError(
                teacher,
                "shape() tells the shape of a tap",
                f"shape('{name}') = {shape}, None where unknown",
                teacher.shape(name),
            )
        _check_activation(teacher, name, given[name])


def _check_activation(teacher, name, tensor):
    activation = teacher.activation_of(name)
    if activation not in (None, *output_heads.ACTIVATIONS):
        raise ContractError(
            teacher,
            "activation_of() tells what a tap went through last",
            f"None or one of {output_heads.ACTIVATIONS}",
            activation,
        )
    values = numbers(tensor)
    outside = values.min() < 0.0 or values.max() > 1.0
    unnormalised = np.any(np.abs(values.sum(axis=-1) - 1.0) > 1e-2)
    if (activation in ("softmax", "sigmoid") and outside) or (
        activation == "softmax" and unnormalised
    ):
        raise ContractError(
            teacher,
            "activation_of() tells what a tap went through last",
            f"probabilities in '{name}', since it says {activation!r}",
            f"values from {values.min():.3g} to {values.max():.3g}",
            "set `activation` to 'linear' where the output is logits",
        )


def _check_same(teacher, first, second, promise, fix):
    for name in first:
        received = numbers(second[name])
        if not close(received, first[name], tolerance=1e-4):
            difference = np.max(np.abs(received - numbers(first[name])))
            raise ContractError(
                teacher,
                promise,
                f"equal values of '{name}'",
                f"a difference of up to {difference:.3g}",
                fix,
            )


def _check_compiled(teacher, x, given):
    signature = tf.nest.map_structure(
        lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), x
    )
    ways = {
        "tf.function": {},
        "tf.function with an unknown batch size": {
            "input_signature": [signature]
        },
    }
    if teacher.supports_jit:
        ways["tf.function with XLA"] = {"jit_compile": True}
    for name, arguments in ways.items():
        compiled = tf.function(lambda x: teacher(x), **arguments)
        try:
            received = compiled(x)
        except Exception as error:
            raise ContractError(
                teacher,
                "it runs in a compiled step",
                f"{name} to run",
                f"{type(error).__name__}: {error}",
                "use keras.ops or TensorFlow operations only; set "
                "supports_jit = False if XLA is the trouble",
            ) from error
        _check_same(
            teacher,
            given,
            keras.tree.map_structure(keras.ops.convert_to_tensor, received),
            "compiled and eager answers are equal",
            f"compare with {name}",
        )
