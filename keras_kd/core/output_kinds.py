# SPDX-License-Identifier: Apache-2.0
"""Output kinds: what a model's output means, and how sure that is.

An output is logits, probabilities or values (numbers that are no class
scores). Logits and probabilities are over classes, of which one is right, or
over units, each a yes or no of its own. What is not known for certain is
`None`, and nothing here guesses it: the user says it, the label loss says it,
or the values show it (`keras_kd.distillers.forms_by_values`).
"""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd.core import output_heads
from keras_kd.core.label_losses import OF_CLASSES
from keras_kd.core.label_losses import OF_UNITS
from keras_kd.core.label_losses import OF_VALUES
from keras_kd.core.label_losses import is_chosen_by_keras
from keras_kd.core.label_losses import loss_name

KINDS = ("logits", "probabilities", "values")
"""What `outputs=` may say."""


class OutputKind(NamedTuple):
    """What an output means.

    Args:
        form: One of `KINDS`; `"linear"` for what is logits, unless it is
            values; `None` if it is not known.
        over: `"classes"` (one of them is right) or `"units"` (each a yes or
            no); `None` if it is not known.
    """

    form: str | None = None
    over: str | None = None


TARGETS = {
    "logits": OutputKind("logits"),
    "class_logits": OutputKind("logits", "classes"),
    "unit_logits": OutputKind("logits", "units"),
    "softmax_logits": OutputKind("logits", "classes"),
    "sigmoid_logits": OutputKind("logits", "units"),
    "probabilities": OutputKind("probabilities"),
    "linear": OutputKind("linear"),
    "values": OutputKind("values"),
}
"""Keys by which a target says what it is, as in `{"logits": tensor}`. Those
named after an activation are what it was computed from."""

_HEADS = {
    "softmax": OutputKind("probabilities", "classes"),
    "sigmoid": OutputKind("probabilities", "units"),
    "linear": OutputKind("linear"),
    None: OutputKind(),
}


def check_outputs(outputs: Any) -> None:
    """Raises a `ValueError` unless `outputs` is one that may be said."""
    by_tap = outputs if isinstance(outputs, dict) else {"output": outputs}
    if any(kind not in (None, *KINDS) for kind in by_tap.values()):
        raise ValueError(
            f"`outputs` must be None, one of {KINDS}, or a dict of them by "
            f"output. Received: outputs={outputs!r}"
        )


def said(outputs: Any, tap: str) -> str | None:
    """Returns what `outputs` says of a tap; a plain word is for `"output"`."""
    if isinstance(outputs, dict):
        return outputs.get(tap)
    return outputs if tap == "output" else None


def kind_of(activation: str | None, outputs: str | None = None) -> OutputKind:
    """Returns the kind of an output from its last activation.

    Args:
        activation: `"softmax"`, `"sigmoid"`, `"linear"` or `None`.
        outputs: What the user said of it, which counts more.
    """
    kind = _HEADS[activation]
    if outputs is None:
        return kind
    return OutputKind(outputs, kind.over if outputs == kind.form else None)


def kind_by_loss(loss: Any) -> OutputKind:
    """Returns what a label loss of one output says of that output.

    Nothing, where it is `None`, none of Keras' own, or several.
    """
    if loss is None or isinstance(loss, (dict, list, tuple)):
        return OutputKind()
    if is_chosen_by_keras(loss):
        return OutputKind("probabilities")  # so Keras takes it
    name = loss_name(loss)
    if name in OF_VALUES:
        return OutputKind("values")
    if name == "ctc":
        return OutputKind("logits", "classes")
    for names, over in ((OF_CLASSES, "classes"), (OF_UNITS, "units")):
        if name in names:
            loss = keras.losses.get(loss)
            # Of a functools.partial: what it was given.
            given = getattr(loss, "keywords", getattr(loss, "__dict__", {}))
            form = "logits" if given.get("from_logits") else "probabilities"
            return OutputKind(form, over)
    return OutputKind()


def trained_kind(
    activation: str | None, outputs: str | None, loss: Any
) -> OutputKind:
    """Returns the kind of an output that is trained by a label loss.

    Args:
        activation: See `kind_of`.
        outputs: See `kind_of`.
        loss: Its label loss, `None` if there is none.
    """
    own, by_loss = kind_of(activation, outputs), kind_by_loss(loss)
    form = own.form
    if form is None:
        form = by_loss.form
    elif form == "linear" and by_loss.form is not None:
        form = "values" if by_loss.form == "values" else "logits"
    return OutputKind(form, own.over or by_loss.over)


def loss_of_tap(loss: Any, tap: str, names: list[str] | None) -> Any:
    """Returns the label loss of one output, `None` if a tap has none.

    Args:
        loss: The `loss` of `compile`.
        tap: `"output"`, or the name of an output or a layer.
        names: The model's output names, `None` without a graph.
    """
    names = names or ["output"]
    if isinstance(loss, (list, tuple)) and len(loss) == len(names):
        loss = dict(zip(names, loss, strict=True))
    if isinstance(loss, dict):
        if tap == "output" and len(loss) == 1:
            return next(iter(loss.values()))
        return loss.get(tap)
    return loss if tap == "output" or tap in names else None


def target_key(kind: OutputKind) -> str | None:
    """Returns the key of `TARGETS` under which `as_target` is kept."""
    keys = {
        OutputKind("probabilities", "classes"): "softmax_logits",
        OutputKind("probabilities", "units"): "sigmoid_logits",
        OutputKind("logits", "classes"): "class_logits",
        OutputKind("logits", "units"): "unit_logits",
    }
    return keys.get(kind, kind.form)


def as_target(output, kind: OutputKind):
    """Returns an output as it is kept: float32, as logits where certain."""
    if kind.form == "probabilities" and kind.over is not None:
        return scores(output, kind, kind.over)
    return ops.cast(output, "float32")


def as_given(target, key: str | None):
    """Returns what the model gave, from what `as_target` made of it."""
    if key == "softmax_logits":
        return ops.softmax(target)
    return ops.sigmoid(target) if key == "sigmoid_logits" else target


def opened(target: Any) -> tuple[Any, str | None]:
    """Returns a target and its key of `TARGETS`, `None` if it has none."""
    if isinstance(target, dict) and len(target) == 1:
        ((key, value),) = target.items()
        if key in TARGETS:
            return value, key
    return target, None


def scores(output, kind: OutputKind, over: str | None):
    """Turns an output of known form into logits over classes or units.

    Args:
        output: Tensor of shape `(batch, ..., n)`.
        kind: Its kind: logits (also `"linear"`) or probabilities.
        over: `"units"` for n yes/no logits, otherwise logits of n classes.

    Returns:
        Float32 tensor of the same shape.
    """
    to_units = over == "units"
    if kind.form in ("logits", "linear"):
        logits = ops.cast(output, "float32")
    elif kind.over == "units" or (to_units and kind.over is None):
        if kind.over is None:
            output = ops.copy(output)  # what Keras kept may be a softmax's
        return output_heads.to_logits(output, "sigmoid")
    else:
        logits = output_heads.to_logits(output, "softmax")
    if to_units and kind.over == "classes" and logits.shape[-1] != 1:
        return bernoulli_logits(logits)
    return logits


def bernoulli_logits(logits):
    """Returns `log p - log(1 - p)` for each class of a softmax.

    Args:
        logits: Tensor of shape `(batch, ..., classes)`, two classes or more.

    Returns:
        Float32 tensor of the same shape, exact for the likeliest class too,
        whose `1 - p` would round to 0.
    """
    logits = ops.cast(logits, "float32")
    places = ops.arange(logits.shape[-1])
    top = ops.argmax(logits, axis=-1, keepdims=True)
    is_top = ops.cast(places, top.dtype) == top
    others = ops.where(is_top, -3e38, logits)
    others = logits - ops.logsumexp(others, axis=-1, keepdims=True)
    log_p = ops.where(is_top, -1.0, ops.log_softmax(logits))
    return ops.where(is_top, others, log_p - ops.log1p(-ops.exp(log_p)))


def are_distributions(values):
    """Whether all rows of `(batch, ..., n)` lie in [0, 1] and sum to 1."""
    if values.shape[-1] == 1:
        return ops.convert_to_tensor(False)
    # As far as float16 is exact.
    sums_to_one = ops.abs(ops.sum(values, axis=-1) - 1.0) < 1e-3
    return ops.logical_and(ops.all(sums_to_one), ops.min(values) >= 0.0)


def logits_by_values(output, form: str | None):
    """Returns scores of classes as logits; their values tell an unknown form.

    For a model that is known to give either logits or probabilities.

    Args:
        output: Tensor of shape `(batch, ..., classes)`.
        form: See `OutputKind`.
    """
    logits = ops.cast(output, "float32")
    if form in ("logits", "linear"):
        return logits
    of_classes = OutputKind("probabilities", "classes")
    from_probabilities = scores(output, of_classes, "classes")
    if form == "probabilities":
        return from_probabilities
    return ops.where(are_distributions(logits), from_probabilities, logits)
