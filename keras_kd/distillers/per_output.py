# SPDX-License-Identifier: Apache-2.0
"""Per output: which loss, labels and weights belong to which output."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd.distillers import unlabelled


class Output(NamedTuple):
    """One output of a model, with all that `compile` and `fit` say of it.

    Args:
        name: Its name, by which taps, losses and labels find it.
        prediction: Tensor `(batch, ...)`.
        labels: Its labels, or `None`.
        loss: Its loss in `compile`, or `None`.
        loss_weight: Its entry in `loss_weights`.
        sample_weight: Its weights `(batch, ...)`, or `None`.
    """

    name: str
    prediction: Any
    labels: Any = None
    loss: Any = None
    loss_weight: float = 1.0
    sample_weight: Any = None


def outputs_of(
    model: keras.Model, y_pred, y=None, sample_weight=None
) -> list[Output]:
    """Returns the outputs of a compiled model, in the order of `tree.flatten`.

    Args:
        model: What was compiled; in whatever form `loss` and `loss_weights`
            were given.
        y_pred: Its prediction: a tensor, or a dict, list or tuple of them.
        y: Labels as given to `fit`.
        sample_weight: Weights as given to `fit`.
    """
    names = names_of(y_pred, getattr(model, "output_names", None))
    predictions = keras.tree.flatten(y_pred)
    losses = spread(getattr(model, "loss", None), names)
    labels = spread(y, names, losses)
    compiled = getattr(model, "_compile_loss", None)
    weights = spread(getattr(compiled, "_user_loss_weights", None), names)
    columns = (
        names,
        predictions,
        labels,
        map(unlabelled.resolved, losses, labels, predictions),
        [1.0 if weight is None else weight for weight in weights],
        spread(sample_weight, names, losses),
    )
    return [Output(*row) for row in zip(*columns, strict=True)]


def names_of(y_pred, output_names=None) -> list[str]:
    """Returns a name for each output; the key or place where it has none."""
    paths = [path for path, _ in keras.tree.flatten_with_path(y_pred)]
    if not isinstance(y_pred, dict) and len(output_names or ()) == len(paths):
        return list(output_names)
    return ["/".join(map(str, path)) or "output" for path in paths]


def spread(value, names: list[str], losses: list | None = None) -> list:
    """Returns one entry for each output, of a value in any form.

    Args:
        value: A dict by name, a list in the order of the outputs (or, with
            `losses`, of those that have one), or one value for all of them.
        names: Names of the outputs.
        losses: The loss of each output.
    """
    if not isinstance(value, (dict, list, tuple)):
        return [value] * len(names)
    parts = keras.tree.flatten(value)
    if len(names) == 1:
        return parts[:1] if parts else [None]
    if isinstance(value, dict):
        return [value.get(name) for name in names]
    if len(parts) == len(names):
        return parts
    named = [n for n, loss in zip(names, losses or [], strict=False) if loss]
    if len(parts) == len(named):
        return spread(dict(zip(named, parts, strict=True)), names)
    return [None] * len(names)


def output_of_tap(outputs: list[Output], tap) -> Output | None:
    """Returns the output that a tap is, `None` for a layer inside."""
    if len(outputs) == 1 and tap == "output":
        return outputs[0]
    return next((output for output in outputs if output.name == tap), None)


def labels_of_tap(outputs: list[Output], tap):
    """Returns the labels for a tap, or `None` if the data has none.

    Raises:
        ValueError: If several outputs have labels and the tap is none of them.
    """
    output = output_of_tap(outputs, tap)
    if output is not None and output.labels is not None:
        return output.labels
    labelled = [output for output in outputs if output.labels is not None]
    if len(labelled) > 1 or (labelled and output is not None):
        raise ValueError(
            f"There are no labels for the tap '{tap}'. Expected one array of "
            "labels, or a dict of them with a key of that name. Received "
            f"labels for {[output.name for output in labelled]}; the model's "
            f"outputs are {[output.name for output in outputs]}."
        )
    return labelled[0].labels if labelled else None


def weight_of_tap(outputs: list[Output], tap):
    """Returns the sample weights for a tap, or `None`.

    An output has its own. A layer inside serves all outputs: there an example
    weighs what it weighs in them on average, each by its `loss_weights`.
    """
    output = output_of_tap(outputs, tap)
    if output is not None:
        return output.sample_weight
    weights = [output.sample_weight for output in outputs]
    if all(weight is weights[0] for weight in weights):
        return weights[0]
    shares = [output.loss_weight for output in outputs]
    if not sum(shares):
        shares = [1.0] * len(outputs)
    return sum(
        share / sum(shares) * _of_example(weight)
        for share, weight in zip(shares, weights, strict=True)
    )


def _of_example(weight):
    if weight is None:
        return 1.0
    weight = ops.cast(weight, "float32")
    return ops.mean(ops.reshape(weight, (ops.shape(weight)[0], -1)), axis=1)


def distilled_mask(mask, output):
    """Returns a mask without the positions of the loss's `ignore_class`."""
    if output is None or output.labels is None:
        return mask
    labels = unlabelled.separate(output.labels, output.prediction, output.loss)
    if labels.ignored is None:
        return mask
    counts = ops.logical_not(labels.ignored)
    return counts if mask is None else ops.logical_and(mask, counts)
