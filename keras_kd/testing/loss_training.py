# SPDX-License-Identifier: Apache-2.0
"""What a loss promises to a compiled training step."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from keras_kd.testing.contract import ContractError
from keras_kd.testing.contract import close
from keras_kd.testing.contract import numbers
from keras_kd.testing.contract import shown


def check_gradients(case):
    """The student learns, the teacher does not."""
    _, into_teacher, into_student = case.gradients(*case.draw())
    if into_teacher is not None and np.any(numbers(into_teacher) != 0.0):
        raise ContractError(
            case.loss,
            "no gradient reaches the teacher",
            "None or 0",
            shown(into_teacher),
            "leave __call__() to the base class, or stop the gradient there "
            "with keras.ops.stop_gradient(y_true)",
        )
    if into_student is None or not np.any(numbers(into_student)):
        raise ContractError(
            case.loss,
            "the gradient reaches the student",
            "a gradient that is not 0",
            "none" if into_student is None else "0 everywhere",
            "y_true is the teacher's tap and y_pred the student's, in this "
            "order; round, argmax and stop_gradient have no gradient",
        )


def check_finite(case):
    """Finite values and gradients for hard inputs, and in half precision."""
    teacher, student = case.draw()
    large = case.draw(scale=1e4)
    inputs = {
        "inputs of 1e4": large,
        "all inputs 0": tuple(np.zeros_like(a) for a in (teacher, student)),
        "float16 inputs": tuple(
            np.clip(a, -6e4, 6e4).astype("float16") for a in large
        ),
    }
    if teacher.shape == student.shape:
        inputs["a student that equals the teacher"] = teacher, teacher
    for name, pair in inputs.items():
        value, _, gradient = case.gradients(*pair)
        bad = [
            n
            for n, t in (("value", value), ("gradient", gradient))
            if t is not None and not np.all(np.isfinite(numbers(t)))
        ]
        if bad:
            raise ContractError(
                case.loss,
                "values and gradients are finite",
                f"finite numbers for {name}",
                f"NaN or Inf in the {' and the '.join(bad)}",
                "use log_softmax, and keep square roots, divisions and logs "
                "off 0 by a small constant inside them",
            )


def check_compiled(case):
    """Eager, graph and XLA agree, also where the batch size is unknown."""
    teacher, student = case.draw()
    expected = case.fresh()(*case.pair(teacher, student))
    tensors = tf.nest.flatten(case.pair(teacher, student))
    unknown = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in tensors]
    ways = {
        "tf.function": {},
        "tf.function with an unknown batch size": {"input_signature": unknown},
        "tf.function with XLA": {"jit_compile": True},
    }
    for name, arguments in ways.items():
        loss = case.fresh()

        @tf.function(**arguments)
        def compiled(*tensors, loss=loss):
            *target, student = tensors
            return loss(target[0] if len(target) == 1 else target, student)

        try:
            received = compiled(*tensors)
        except Exception as error:
            raise ContractError(
                case.loss,
                "it can be compiled",
                f"{name} to run",
                f"{type(error).__name__}: {error}",
                "use keras.ops only, take unknown sizes from keras.ops.shape, "
                "and no Python `if` on a tensor's values",
            ) from error
        if not close(received, expected):
            raise ContractError(
                case.loss,
                "compiled and eager values are equal",
                shown(expected),
                f"{shown(received)} from {name}",
            )


def check_descent(case):
    """Twenty steps down its own gradient make it smaller."""
    teacher, student = case.draw()
    step = tf.function(functools.partial(case.gradients, loss=case.fresh()))
    first, _, gradient = step(teacher, student)
    # The first step moves the student by a twentieth of its length.
    length = np.linalg.norm(numbers(gradient)) / np.linalg.norm(student)
    for _ in range(20):
        student = student - (0.05 / length * numbers(gradient))
        student = student.astype("float32")
        last, _, gradient = step(teacher, student)
    if not numbers(last) < numbers(first):
        raise ContractError(
            case.loss,
            "gradient descent lowers it",
            f"less than {shown(first)} after 20 steps",
            shown(last),
            "check the sign of the loss",
        )


def check_temperature(case):
    """T can change in a compiled step, and T^2 keeps the gradient's scale."""
    if not hasattr(case.loss, "temperature"):
        return
    loss, traces = case.fresh(), []
    target, student = case.pair(*case.draw())

    @tf.function
    def step():
        traces.append(loss.temperature)
        return loss(target, student)

    received = []
    for temperature in (2.0, 6.0):
        loss.temperature = temperature
        received.append(numbers(step()))
        expected = numbers(loss(target, student))
    if len(traces) > 1 or not close(received[1], expected):
        raise ContractError(
            case.loss,
            "assigning `temperature` changes a compiled step",
            f"{shown(expected)} at T=6 without tracing again",
            f"{shown(received[1])} after {len(traces)} trace(s)",
            "declare `temperature = Scalar(...)` in the class and read it in "
            "call() by Scalar.tensor(self, 'temperature')",
        )
    if close(received[0], received[1]):
        raise ContractError(
            case.loss,
            "`temperature` matters",
            "other values at T=6 than at T=2",
            f"{shown(received[1])} at both",
        )
    if case.loss.logits and case.temperature_squared:
        _check_scale(case)


def _check_scale(case):
    norms = []
    for temperature in (10.0, 20.0):
        loss = case.fresh()
        loss.temperature = temperature
        _, _, gradient = case.gradients(*case.draw(), loss=loss)
        norms.append(np.linalg.norm(numbers(gradient)))
    if not 0.75 < norms[0] / norms[1] < 1.33:
        raise ContractError(
            case.loss,
            "the gradient keeps its scale at high temperatures (T^2)",
            "gradient norms at T=10 and T=20 in a ratio of about 1",
            f"{norms[0]:.3g} and {norms[1]:.3g}, ratio "
            f"{norms[0] / norms[1]:.3g}",
            "multiply a divergence of softened probabilities by T^2; or pass "
            "temperature_squared=False if the method has its own scale",
        )


CHECKS = (
    check_gradients,
    check_finite,
    check_compiled,
    check_descent,
    check_temperature,
)
