# SPDX-License-Identifier: Apache-2.0
"""Loss scales: what every loss is at the start, and weights to level them."""

from __future__ import annotations

import contextlib
import dataclasses

import keras
import numpy as np
from keras import ops

from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.data.splits import first_batches
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.per_output import outputs_of
from keras_kd.losses.base import DistillationLoss
from keras_kd.targets.attached import split_targets

STUDENT_LOSS = "student_loss"


def suggest_weights(
    distiller: Distiller,
    data: Data | Split | Arrays,
    batches: int = 4,
    batch_size: int = 32,
) -> LossScales:
    """Measures every loss, and suggests weights that put them on one scale.

    A distance between features can be a thousand times larger or smaller
    than the label loss, and then either it or the labels are not heard. The
    suggested weights bring every distillation loss to the size of the label
    loss at the start: a place to start from, not the best ones.

    The values are those that the first batches of `fit` would log. The
    student runs as in training, and what this changes (the statistics of
    batch normalisation, random seeds) is put back; nothing is trained.

    Args:
        distiller: A distiller with a teacher, or data with its targets.
            The label loss is looked at if it is compiled with one.
        data: Arrays `(x, y)` or `x`, a batched `tf.data.Dataset`, or `Data`,
            whose training split is taken. Its first batches are used, so
            they should be in no special order.
        batches: How many batches to average over.
        batch_size: Examples per batch, where `data` holds arrays.

    Returns:
        `LossScales`: print it, read `weights`, or `apply()` them.

    Raises:
        ValueError: If there is no data, or as in `fit`.

    Example:

    ```python
    scales = kd.suggest_weights(distiller, (x, y))
    print(scales)
    scales.apply()
    ```
    """
    if not isinstance(distiller, Distiller) or batches < 1:
        raise ValueError(
            "suggest_weights takes a Distiller and at least 1 batch. Received: "
            f"{type(distiller).__name__}, batches={batches}"
        )
    taken = list(first_batches(data, batches, batch_size))
    _build(distiller, taken[0])
    sums: dict[str, float] = {}
    count = 0
    with _put_back(distiller):
        for batch in taken:
            values, size = _values(distiller, batch)
            count += size
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + size * value
    means = {name: total / count for name, total in sums.items()}
    losses = dict(distiller._loss_terms.losses)
    return LossScales(
        losses=losses,
        values={name: means[name] for name in losses},
        given={name: loss.weight for name, loss in losses.items()},
        student_loss=means.get(STUDENT_LOSS),
        alpha=distiller.alpha,
    )


@dataclasses.dataclass(frozen=True)
class LossScales:
    """The losses of a distiller at the start, side by side.

    Args:
        losses: The distillation losses, by their names in logs.
        values: Their values, without weights.
        given: Their weights (those after a warm-up).
        student_loss: The label loss with regularisation; `None` without.
        alpha: What the distiller weighs the distillation with.
    """

    losses: dict[str, DistillationLoss]
    values: dict[str, float]
    given: dict[str, float]
    student_loss: float | None
    alpha: float

    @property
    def scale(self) -> float:
        """What the suggested weights bring every loss to."""
        if self.student_loss is not None:
            return self.student_loss
        return abs(next(iter(self.values.values())))

    @property
    def weights(self) -> dict[str, float]:
        """The suggested weight of each loss; the given one where it is 0."""
        return {
            name: self.scale / abs(value)
            if self.scale and value
            else self.given[name]
            for name, value in self.values.items()
        }

    def apply(self) -> None:
        """Gives the losses their suggested weights; retraces nothing."""
        for name, weight in self.weights.items():
            self.losses[name].weight = weight

    @property
    def table(self) -> str:
        """The losses as a table of plain text."""
        head = ("loss", "value at start", "factor", "weight")
        rows: list[tuple[str, ...]] = [
            (*head, "weight x value", "suggested weight")
        ]
        if self.student_loss is not None:
            cells = map(_text, (self.student_loss, 1.0 - self.alpha))
            rows.append((STUDENT_LOSS, *cells, "", "", ""))
        for name, suggested in self.weights.items():
            value, weight = self.values[name], self.given[name]
            figures = (value, self.alpha, weight, weight * value, suggested)
            rows.append((name, *map(_text, figures)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
            ).rstrip()
            for row in rows
        ]
        whose = next(iter(self.values))
        if self.student_loss is not None:
            whose = STUDENT_LOSS
        return "\n".join(
            [
                *lines,
                f"factor: alpha = {_text(self.alpha)} for the distillation, "
                f"1 - alpha = {_text(1.0 - self.alpha)} for the labels.",
                "The suggested weights bring every loss to "
                f"{_text(self.scale)}, the value of {whose}.",
            ]
        )

    def __str__(self) -> str:
        return self.table


def _text(number) -> str:
    return f"{number:.4g}"


def _build(distiller, batch):
    """Makes the weights and projectors that wait for data."""
    if not distiller.built:
        x, attached = split_targets(batch[0])
        targets = distiller._loss_terms.targets(x, attached, distiller._guard)
        distiller._student_pass(x, targets.taps, training=False)


def _values(distiller, batch):
    """Returns `({loss name: float}, examples)` of one batch."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    x, attached = split_targets(x)
    terms, values = distiller._loss_terms, {}
    label_loss = getattr(distiller, "loss", None)
    targets = terms.targets(x, attached, distiller._guard)
    y_pred, taps = distiller._student_pass(x, targets.taps, training=True)
    if label_loss is not None and y is not None:
        values[STUDENT_LOSS] = distiller._compute_loss(
            x, y, y_pred, sample_weight
        )
    outputs = outputs_of(distiller, y_pred, y, sample_weight)
    found, _ = terms.values(targets, taps, distiller.projectors, outputs)
    distiller._guard.raise_if_tripped(steps=1)
    size = len(keras.tree.flatten(x)[0])
    return {k: float(v) for k, v in {**values, **found}.items()}, size


@contextlib.contextmanager
def _put_back(model):
    """Gives a model's state that is not trained its values again."""
    state = [*model.non_trainable_variables, *model.metrics_variables]
    before = [np.copy(ops.convert_to_numpy(variable)) for variable in state]
    try:
        yield
    finally:
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)
