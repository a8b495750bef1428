# SPDX-License-Identifier: Apache-2.0
"""What a loss promises about its values, one function a promise."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

from keras_kd import losses
from keras_kd.core.constructors import constructor_arguments
from keras_kd.testing.contract import ContractError
from keras_kd.testing.contract import close
from keras_kd.testing.contract import numbers
from keras_kd.testing.contract import shown


def check_config(case):
    """It can be rebuilt from JSON, as loading a saved distiller does."""
    fix = (
        "keep every constructor argument under its own name, or return it "
        "from get_config as a plain value, and decorate the class with "
        "@keras.saving.register_keras_serializable(package='...')"
    )
    promise = "a loss can be rebuilt from its config"
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
    if missing := sorted(constructor_arguments(type(case.loss)) - set(before)):
        raise ContractError(
            case.loss, promise, f"{missing} in get_config", before, fix
        )
    if json.dumps(before, default=str) != json.dumps(after, default=str):
        raise ContractError(case.loss, promise, before, after, fix)
    expected = case.values(*case.draw(), loss=case.loss)
    received = case.values(*case.draw(), loss=copy)
    if not close(received, expected, tolerance=0.0):
        raise ContractError(
            case.loss, promise, shown(expected), shown(received), fix
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
        values = case.values(teacher, student)
        if values.shape[:1] != teacher.shape[:1]:
            raise ContractError(
                case.loss,
                "one value per example",
                f"call() to return {teacher.shape[0]} values, shape "
                f"({teacher.shape[0]}, ...)",
                f"shape {tuple(values.shape)}",
                "reduce over features only, never over the batch; the base "
                "class does that, with sample weights",
            )
        reduced = case.fresh()(*case.pair(teacher, student))
        if not close(reduced, numbers(values).mean()):
            raise ContractError(
                case.loss,
                "the loss is the mean of its values",
                shown(numbers(values).mean()),
                shown(reduced),
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
        expected = case.reference(
            teacher.astype("float64"), student.astype("float64"), *labels
        )
        received = case.values(teacher, student)
        if not close(received, expected):
            raise ContractError(
                case.loss,
                "the value equals the reference",
                f"{shown(expected)} at inputs of scale {scale:g}",
                shown(received),
                "compare the formulas; take log_softmax of logits rather "
                "than the log of clipped probabilities",
            )


def check_sign(case):
    """Never below 0, and 0 for a student that equals the teacher."""
    for seed in range(3) if case.nonnegative else ():
        values = numbers(case.values(*case.draw(seed)))
        if values.min() < -1e-5:
            raise ContractError(
                case.loss,
                "the loss is not negative",
                "values of at least 0",
                shown(values),
                "or pass nonnegative=False if it may be",
            )
    if case.zero_at_equal:
        teacher, _ = case.draw()
        values = case.values(teacher, teacher)
        if not close(values, np.zeros(values.shape)):
            raise ContractError(
                case.loss,
                "a student that equals the teacher has loss 0",
                "0 for each example",
                shown(values),
                "or pass zero_at_equal=False if its minimum is elsewhere",
            )


def check_rows(case):
    """Examples keep their values when the batch around them changes."""
    teacher, student = case.draw()
    values = numbers(case.values(teacher, student))
    order = np.roll(np.arange(len(teacher)), 1)
    moved = case.values(teacher, student, order)
    if not close(moved, values[order]):
        raise ContractError(
            case.loss,
            "values move along when rows change places",
            shown(values[order]),
            shown(moved),
        )
    if case.relational:
        return
    few = order[: max(1, len(order) // 2)]
    alone = case.values(teacher, student, few)
    if not close(alone, values[few]):
        raise ContractError(
            case.loss,
            "an example's value does not depend on the others",
            shown(values[few]),
            shown(alone),
            "reduce over features only; pass relational=True if comparing "
            "examples is the point of the loss",
        )


def check_sample_weight(case):
    """A weight multiplies its example; weight 0 removes it."""
    teacher, student = case.draw()
    weight = np.linspace(0.0, 2.0, len(teacher), dtype="float32")
    values = numbers(case.values(teacher, student))
    trailing = (slice(None), *[None] * (values.ndim - 1))
    expected = (values * weight[trailing]).mean()
    received, _, gradient = case.gradients(teacher, student, weight)
    if not close(received, expected):
        raise ContractError(
            case.loss,
            "sample weights count",
            f"the mean of value times weight, {shown(expected)}",
            shown(received),
            "return one value per example from call(), and leave __call__() "
            "to the base class",
        )
    if gradient is None or case.relational:
        return
    if np.any(numbers(gradient)[0] != 0.0):
        raise ContractError(
            case.loss,
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
    expected = numbers(case.values(teacher, student))[mask]
    received = _masked(case, teacher, student, mask)
    if not close(received, expected.mean()):
        raise ContractError(
            case.loss,
            "a mask leaves positions out",
            f"the mean over the rest, {shown(expected.mean())}",
            shown(received),
            "return one value per position, shape (batch, positions)",
        )


def _masked(case, teacher, student, mask):
    target, student = case.pair(teacher, student)
    student._keras_mask = tf.constant(mask)
    return case.fresh()(target, student)


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
