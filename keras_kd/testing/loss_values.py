# SPDX-License-Identifier: Apache-2.0
"""What a loss promises about its values, one function a promise."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

from keras_kd import losses
from keras_kd.core.constructors import constructor_arguments
from keras_kd.testing.contract import ContractError
from keras_kd.testing.contract import numbers
from keras_kd.testing.contract import shown


def check_config(case):
    """It can be rebuilt from JSON, as loading a saved distiller does."""
    promise = "a loss can be rebuilt from its config"
    fix = (
        "keep every constructor argument under its own name, or return it "
        "from get_config as a plain value, and decorate the class with "
        "@keras.saving.register_keras_serializable(package='...')"
    )
    try:
        config = json.loads(json.dumps(losses.serialize(case.loss)))
        copy = losses.deserialize(config)
    except (TypeError, ValueError) as error:
        raise ContractError(
            case.loss,
            promise,
            "serialize, JSON and deserialize to give an equal loss",
            f"{type(error).__name__}: {error}",
            fix,
        ) from error
    before, after = case.loss.get_config(), copy.get_config()
    missing = sorted(constructor_arguments(type(case.loss)) - set(before))
    expected = f"{missing} in get_config"
    case.require(not missing, promise, expected, before, fix)
    first, second = (json.dumps(c, default=str) for c in (before, after))
    case.require(first == second, promise, before, after, fix)
    case.require_close(
        promise,
        case.values(*case.draw(), loss=case.loss),
        case.values(*case.draw(), loss=copy),
        fix,
        tolerance=0.0,
    )


def check_shapes(case):
    """It takes taps of the shapes it is meant for."""
    teacher, student = ((None, *a.shape[1:]) for a in case.draw())
    try:
        case.loss.check_shapes(teacher, student)
    except ValueError as error:
        raise ContractError(
            case.loss,
            "it takes taps of these shapes",
            f"check_shapes({teacher}, {student}) to return",
            f"ValueError: {error}",
            "override check_shapes if the loss compares taps of other shapes",
        ) from error


def check_values(case):
    """One value per example, however far apart the inputs are."""
    for teacher, student in (case.draw(), case.draw(seed=1, scale=1e4)):
        values, rows = case.values(teacher, student), len(teacher)
        case.require(
            values.shape[:1] == (rows,),
            "one value per example",
            f"call() to return {rows} values, shape ({rows}, ...)",
            f"shape {tuple(values.shape)}",
            "reduce over features only, never over the batch; the base "
            "class does that, with sample weights",
        )
        case.require_close(
            "the loss is the mean of its values",
            numbers(values).mean(),
            case.fresh()(*case.pair(teacher, student)),
            "override call(), not __call__()",
        )


def check_reference(case):
    """It computes what the paper says."""
    if case.reference is None:
        return
    labels = () if case.labels is None else (np.asarray(case.labels),)
    # At the larger scale the student is confidently wrong, where formulas
    # on clipped probabilities stop growing.
    for scale in (1.0, 30.0):
        teacher, student = case.draw(scale=scale)
        case.require_close(
            f"the value equals the reference (inputs of scale {scale:g})",
            case.reference(
                teacher.astype("float64"), student.astype("float64"), *labels
            ),
            case.values(teacher, student),
            "compare the formulas; take log_softmax of logits rather than the "
            "log of clipped probabilities",
        )


def check_sign(case):
    """Never below 0, and 0 for a student that equals the teacher."""
    for seed in range(3) if case.nonnegative else ():
        values = numbers(case.values(*case.draw(seed)))
        case.require(
            values.min() >= -1e-5,
            "the loss is not negative",
            "values of at least 0",
            shown(values),
            "or pass nonnegative=False if it may be",
        )
    if case.zero_at_equal:
        teacher, _ = case.draw()
        values = case.values(teacher, teacher)
        case.require_close(
            "a student that equals the teacher has loss 0",
            np.zeros(values.shape),
            values,
            "or pass zero_at_equal=False if its minimum is elsewhere",
        )


def check_rows(case):
    """Examples keep their values when the batch around them changes."""
    teacher, student = case.draw()
    values = numbers(case.values(teacher, student))
    order = np.roll(np.arange(len(teacher)), 1)
    case.require_close(
        "values move along when rows change places",
        values[order],
        case.values(teacher, student, order),
    )
    if case.relational:
        return
    few = order[: max(1, len(order) // 2)]
    case.require_close(
        "an example's value does not depend on the others",
        values[few],
        case.values(teacher, student, few),
        "reduce over features only; pass relational=True if comparing "
        "examples is the point of the loss",
    )


def check_sample_weight(case):
    """A weight multiplies its example; weight 0 removes it."""
    teacher, student = case.draw()
    weight = np.linspace(0.0, 2.0, len(teacher), dtype="float32")
    values = numbers(case.values(teacher, student))
    trailing = (slice(None), *[None] * (values.ndim - 1))
    received, _, gradient = case.gradients(teacher, student, weight)
    case.require_close(
        "sample weights count: the loss is the mean of value times weight",
        (values * weight[trailing]).mean(),
        received,
        "return one value per example from call(), and leave __call__() to "
        "the base class",
    )
    if gradient is None or case.relational:
        return
    case.require(
        not np.any(numbers(gradient)[0]),
        "weight 0 removes an example",
        "no gradient for it",
        shown(numbers(gradient)[0]),
    )


def check_mask(case):
    """Positions that a mask leaves out do not count."""
    if case.mask is None:
        return
    teacher, student = case.draw()
    mask = np.asarray(case.mask, bool)
    expected = numbers(case.values(teacher, student))[mask].mean()
    target, student = case.pair(teacher, student)
    student._keras_mask = tf.constant(mask)
    case.require_close(
        "a mask leaves positions out: the loss is the mean over the rest",
        expected,
        case.fresh()(target, student),
        "return one value per position, shape (batch, positions)",
    )


CHECKS = (
    check_shapes,
    check_config,
    check_values,
    check_reference,
    check_sign,
    check_rows,
    check_sample_weight,
    check_mask,
)
