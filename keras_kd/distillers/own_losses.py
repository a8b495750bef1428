# SPDX-License-Identifier: Apache-2.0
"""What a label loss of unknown meaning takes: classes, or yes/no units.

A lambda may hide a softmax cross-entropy or a binary one. Its name does not
tell, but what it returns does, on a few known logits:

    f(z + c) = f(z)                 a softmax: only differences count
    f(z + a + b) - f(z + a) - f(z + b) + f(z) = 0   units, each on its own

for `a` and `b` on two units. Sums over units are of yes/no units if the loss
falls in the logit of a yes and rises in that of a no, however far they are;
those of numbers have their minimum at the label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.output_kinds import kind_by_loss
from keras_kd.distillers import unlabelled
from keras_kd.distillers.per_output import Output


def kind_by_answers(output: Output | None, kind: OutputKind) -> OutputKind:
    """Returns the kind of an output, with what its label loss shows.

    Args:
        output: The student's output, `None` for a layer inside.
        kind: What is known of it.
    """
    if kind.over is not None or not has_unknown_loss(output):
        return kind
    return kind._replace(over=shown_by(output))


def has_unknown_loss(output: Output | None) -> bool:
    """Whether an output of several units has a loss that says nothing."""
    if output is None or output.loss is None:
        return False
    shape = output.prediction.shape
    several = len(shape) > 1 and (shape[-1] or 0) > 1
    return several and kind_by_loss(output.loss) == OutputKind()


def shown_by(output: Output) -> str | None:
    """Returns `"classes"` or `"units"`, `None` where neither is certain.

    Args:
        output: Of several units, with a loss and perhaps labels. While a step
            is traced only their shapes and dtypes are known: the loss is
            asked about labels of its own making.
    """
    shape = [2, *(size or 4 for size in output.prediction.shape[1:])]
    ids = True
    shapes = [shape, shape[:-1]]  # rows, or a class id each
    if output.labels is not None:
        shapes = [[2, *(size or 4 for size in output.labels.shape[1:])]]
        ids = unlabelled.like_ids(output.labels, output.prediction)
    for given in shapes:
        labels = np.ones(given, "float32")
        if given == shape:
            labels[..., [0, *range(2, shape[-1])]] = 0.0
        found = _of_function(_loss_on(output.loss, labels), shape)
        if found is not None:
            return found
    return "classes" if output.labels is not None and ids else None


def unknown_loss_error(output: Output, otherwise: str = "") -> ValueError:
    """Returns the error that says how to say what a loss takes."""
    name = getattr(output.loss, "__name__", type(output.loss).__name__)
    return ValueError(
        f"What the {output.prediction.shape[-1]} units of output "
        f"'{output.name}' are cannot be told for certain: one class of "
        "several, or a yes or no each. Expected a label loss that shows it. "
        f"Received: loss {name!r}, which does not. Give a Keras loss, such as "
        "keras.losses.CategoricalCrossentropy(from_logits=True) or "
        f"BinaryCrossentropy(from_logits=True){otherwise}."
    )


def _loss_on(loss: Any, labels: np.ndarray) -> Callable:
    loss = keras.losses.get(loss)

    def value(logits):
        # Out of the step that is traced: its numbers are needed now.
        with tf.init_scope():
            found = loss(tf.constant(labels), tf.constant(logits, "float32"))
            return float(np.sum(keras.ops.convert_to_numpy(found)))

    return value


def _of_function(value: Callable, shape: list[int]) -> str | None:
    """Returns what a function of logits of this shape is a loss of."""
    places = np.arange(shape[-1])

    def at(no=0.0, yes=0.0, rest=-20.0):
        z = np.where(places == 0, no, np.where(places == 1, yes, rest))
        return value(np.broadcast_to(z, shape))

    uneven = np.broadcast_to(2.0 * np.sin(1.7 * places), shape)
    try:
        whole, moved = value(uneven), value(uneven + 3.0)
        turned = value(np.roll(uneven, 1, axis=-1))
        both = np.array([at(2.0, 1.0), -at(2.0), -at(0.0, 1.0), at()])
        yes = [at(yes=z) for z in (-2.0, 0.0, 2.0)]
        no = [at(no=z) for z in (-2.0, 0.0, 2.0)]
    except Exception:  # it needs what only the user's data is
        return None
    if not np.all(np.isfinite([whole, moved, turned, *both, *yes, *no])):
        return None
    if np.isclose(whole, moved, 1e-4) and not np.isclose(whole, turned, 1e-4):
        return "classes"
    apart = abs(both.sum()) <= 1e-4 * abs(both).max()
    if apart and yes[0] > yes[1] > yes[2] and no[0] < no[1] < no[2]:
        return "units"
    return None
