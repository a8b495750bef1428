# SPDX-License-Identifier: Apache-2.0
"""What a loss promises to a compiled training step."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from keras_kd.testing.contract import close
from keras_kd.testing.contract import compiled_answers
from keras_kd.testing.contract import numbers
from keras_kd.testing.contract import shown


def check_gradients(case):
    """The student learns, the teacher does not."""
    _, into_teacher, into_student = case.gradients(*case.draw())
    leaked = numbers(0.0 if into_teacher is None else into_teacher)
    case.require(
        not np.any(leaked),
        "no gradient reaches the teacher",
        "None or 0",
        shown(leaked),
        "leave __call__() to the base class, or stop the gradient there with "
        "keras.ops.stop_gradient(y_true)",
    )
    case.require(
        into_student is not None and np.any(numbers(into_student)),
        "the gradient reaches the student",
        "a gradient that is not 0",
        "none" if into_student is None else "0 everywhere",
        "y_true is the teacher's tap and y_pred the student's, in this order; "
        "round, argmax and stop_gradient have no gradient",
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
        case.require(
            not bad,
            "values and gradients are finite",
            f"finite numbers for {name}",
            f"NaN or Inf in the {' and the '.join(bad)}",
            "use log_softmax, and keep square roots, divisions and logs off 0 "
            "by a small constant inside them",
        )


def check_compiled(case):
    """Eager, graph and XLA agree, also where the batch size is unknown."""
    pair, loss = case.pair(*case.draw()), case.fresh()
    answers = compiled_answers(
        case.loss,
        "it can be compiled",
        lambda pair: loss(*pair),
        pair,
        jit=True,
        fix="use keras.ops only, take unknown sizes from keras.ops.shape, and "
        "no Python `if` on a tensor's values",
    )
    for way, received in answers:
        promise = f"compiled and eager values are equal ({way})"
        case.require_close(promise, loss(*pair), received)


def check_descent(case):
    """Twenty steps down its own gradient make it smaller."""
    teacher, student = case.draw()
    gradients = functools.partial(case.gradients, loss=case.fresh())
    step = tf.function(gradients, autograph=False)
    first, _, gradient = step(teacher, student)
    # The first step moves the student by a twentieth of its length.
    length = np.linalg.norm(numbers(gradient)) / np.linalg.norm(student)
    for _ in range(20):
        student = student - (0.05 / length * numbers(gradient))
        student = student.astype("float32")
        last, _, gradient = step(teacher, student)
    case.require(
        numbers(last) < numbers(first),
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

    @tf.function(autograph=False)
    def step():
        traces.append(loss.temperature)
        return loss(target, student)

    received = []
    for temperature in (2.0, 6.0):
        loss.temperature = temperature
        received.append(numbers(step()))
        expected = numbers(loss(target, student))
    case.require(
        len(traces) == 1 and close(received[1], expected),
        "assigning `temperature` changes a compiled step",
        f"{shown(expected)} at T=6 without tracing again",
        f"{shown(received[1])} after {len(traces)} trace(s)",
        "declare `temperature = Scalar(...)` in the class and read it in "
        "call() by Scalar.tensor(self, 'temperature')",
    )
    case.require(
        not close(received[0], received[1]),
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
    ratio = norms[0] / norms[1]
    case.require(
        0.75 < ratio < 1.33,
        "the gradient keeps its scale at high temperatures (T^2)",
        "gradient norms at T=10 and T=20 in a ratio of about 1",
        f"{norms[0]:.3g} and {norms[1]:.3g}, ratio {ratio:.3g}",
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
