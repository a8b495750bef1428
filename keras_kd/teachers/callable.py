# SPDX-License-Identifier: Apache-2.0
"""CallableTeacher: any Python function of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Arrays
from keras_kd.losses.base import compatible
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.base import check_activation


class CallableTeacher(Teacher):
    """A teacher that is a Python function: another framework, or a service.

    The function runs on the host, within each training step: an ONNX
    Runtime session, scikit-learn's `predict_proba`, a call to an API. The
    rest of the step stays compiled (not by XLA). A slow function is better
    asked once, before training: give its answers with the data.

    Args:
        function: Takes a batch of the student's inputs as a NumPy array (or
            a dict of them) and returns one array, a row per example. It must
            give the same answer to the same question.
        output_shape: Shape of a row of its answer, such as `(10,)`. Defaults
            to that of the student's output.
        activation: What its answer is: `"softmax"` for probabilities,
            `"sigmoid"` for independent ones, `"linear"` for logits; `None`
            if that is not said.
        outputs: The same in other words: `"logits"`, `"probabilities"` or
            `"values"`. An answer of which nothing is said is looked at in
            the first batches, and is an error unless they show for certain
            what it is.
        identity: Name and version of the function, such as `"forest 3"`.
            Stored answers and finished stages are known by it, where they
            are else by the function's code and all that it uses.

    Raises:
        ValueError: If `function` cannot be called, `activation` or `outputs`
            is none of the above, or the student has no single output to take
            the shape from. An answer of another shape stops training with a
            TensorFlow error that names both shapes.

    Example:

    ```python
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(10).fit(x.reshape(len(x), -1), y)
    teacher = kd.teachers.CallableTeacher(
        lambda x: forest.predict_proba(x.reshape(len(x), -1)),
        activation="softmax",
    )
    ```
    """

    supports_jit = False

    def __init__(
        self,
        function: Callable,
        output_shape: tuple | None = None,
        activation: str | None = None,
        outputs: str | dict | None = None,
        identity: str | None = None,
    ):
        if not callable(function):
            raise ValueError(
                "`function` must be a function of NumPy arrays. Received: "
                f"{type(function).__name__}"
            )
        check_activation(activation, also=(None,))
        self.say_outputs(outputs)
        self.function = function
        self.output_shape = output_shape
        self.activation = activation
        if identity is not None:
            self.identity = identity
        self._row = None if output_shape is None else tuple(output_shape)

    def bind(self, student: keras.Model) -> None:
        if self.output_shape is None:
            self._row = _row_of(student)

    def shape(self, name: str) -> tuple | None:
        return None if self._row is None else (None, *self._row)

    def __call__(self, x: Arrays) -> dict:
        flat = [tf.convert_to_tensor(t) for t in tf.nest.flatten(x)]

        def ask(*arrays):
            return self._ask(tf.nest.pack_sequence_as(x, arrays))

        output = tf.numpy_function(ask, flat, tf.float32, stateful=False)
        if self._row is not None:
            output.set_shape((flat[0].shape[0], *self._row))
        return {"output": output}

    def _ask(self, x):
        rows = len(tf.nest.flatten(x)[0])
        answer = np.asarray(self.function(x), "float32")
        row = answer.shape[1:] if self._row is None else self._row
        expected = (rows, *row)
        if not compatible(expected, answer.shape):
            raise ValueError(
                "The function of CallableTeacher must return an array of "
                f"shape {expected}, a row for each example. Received: shape "
                f"{answer.shape}. If its rows are right, say so: "
                f"output_shape={answer.shape[1:]}."
            )
        return answer


def _row_of(student):
    shape = None
    if student.built:
        shape = getattr(student, "output_shape", None)
    if not isinstance(shape, tuple) or not isinstance(shape[-1], int):
        raise ValueError(
            "CallableTeacher takes the shape of its answer from the student's "
            f"output, but '{student.name}' has no single output of known "
            f"shape. Received: {shape}. Give output_shape=(classes,)."
        )
    return shape[1:]
