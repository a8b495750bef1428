# SPDX-License-Identifier: Apache-2.0
"""check_teacher: what every source of targets promises."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_kd import teachers
from keras_kd.core import output_heads
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.losses.base import compatible
from keras_kd.testing import contract


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
    before = contract.state_of(teacher)
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
    answers = contract.compiled_answers(
        teacher,
        "it runs in a compiled step",
        lambda x: teacher(x),
        x,
        jit=teacher.supports_jit,
        fix="use keras.ops or TensorFlow operations only; set supports_jit = "
        "False if XLA is the trouble",
    )
    for way, received in answers:
        received = keras.tree.map_structure(ops.convert_to_tensor, received)
        promise = f"compiled and eager answers are equal ({way})"
        _check_same(teacher, given, received, promise)
    moved = contract.changed(before, contract.state_of(teacher))
    contract.require(
        not moved,
        teacher,
        "asking a teacher changes nothing in it",
        "every variable and `trainable` flag as before",
        f"changes in {moved[:3]}",
        "run the model with training=False",
    )


def _check_taps(teacher, taps, given, rows):
    is_dict = isinstance(given, dict)
    contract.require(
        is_dict and set(taps) <= set(given),
        teacher,
        "it gives the taps it was prepared for",
        f"a dict with {sorted(taps)}",
        sorted(given) if is_dict else type(given).__name__,
        "return {'output': tensor, ...} from __call__",
    )
    for name in taps:
        shape = tuple(given[name].shape)
        contract.require(
            shape[:1] == (rows,),
            teacher,
            "a tap has one row per example",
            f"'{name}' of shape ({rows}, ...)",
            shape,
        )
        contract.require(
            compatible(teacher.shape(name), shape),
            teacher,
            "shape() tells the shape of a tap",
            f"shape('{name}') = {shape}, None where unknown",
            teacher.shape(name),
        )
        _check_activation(teacher, name, contract.numbers(given[name]))


def _check_activation(teacher, name, values):
    promise = "activation_of() tells what a tap went through last"
    activation, known = teacher.activation_of(name), output_heads.ACTIVATIONS
    expected = f"None or one of {known}"
    is_known = activation in (None, *known)
    contract.require(is_known, teacher, promise, expected, activation)
    fits = True
    if activation in ("softmax", "sigmoid"):
        fits = values.min() >= 0.0 and values.max() <= 1.0
    if activation == "softmax":
        fits = fits and np.all(np.abs(values.sum(axis=-1) - 1.0) <= 1e-2)
    contract.require(
        fits,
        teacher,
        promise,
        f"probabilities in '{name}', since it says {activation!r}",
        f"values from {values.min():.3g} to {values.max():.3g}",
        "set `activation` to 'linear' where the output is logits",
    )


def _check_same(teacher, first, second, promise, fix=""):
    for name, expected in first.items():
        about = f"{promise}: '{name}'"
        contract.require_close(teacher, about, expected, second[name], fix)
