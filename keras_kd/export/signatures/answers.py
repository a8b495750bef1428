# SPDX-License-Identifier: Apache-2.0
"""Answers: what an exported model's outputs are called, and which it has."""

from __future__ import annotations

import re
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.core.litert_runner import plain_name
from keras_kd.core.output_kinds import kind_by_loss
from keras_kd.core.output_kinds import loss_of_tap
from keras_kd.distillers.own_losses import kind_by_answers
from keras_kd.distillers.per_output import Output
from keras_kd.tasks.base import Task
from keras_kd.tasks.composite import Composite

LOGITS, PROBABILITIES, NUMBERS = "logits", "probabilities", "regression"
# Units that say yes or no, each by itself.
YES_NO = "yes_no"
HEADS = (LOGITS, PROBABILITIES, YES_NO, NUMBERS)

# What an output is, or what several are, by name.
Head = str | dict[str, str] | None


def check_head(head: Head) -> None:
    """Raises a `ValueError` if what a user says of outputs is unknown."""
    for one in head.values() if isinstance(head, dict) else [head]:
        if one is not None and one not in HEADS:
            raise ValueError(
                f"`head` must be None, one of {HEADS}, or a dict of them by "
                f"output name. Received: {head!r}"
            )


def head_of(
    model: keras.Model,
    head: Head = None,
    task: Task | None = None,
) -> Head:
    """Returns what a model's output is, as far as that is certain.

    Args:
        model: A built model.
        head: What the user says, see `write_saved_model`.
        task: What outputs and labels mean. Asked where `head` says nothing.

    Returns:
        `head`, or what the task, the last activation and the loss that the
        model was compiled with tell: units of a sigmoid, or of a binary
        cross-entropy, are `"yes_no"`. `None` where nothing tells, as without
        a graph.

    Raises:
        ValueError: If `head` is unknown.
    """
    check_head(head)
    if head is not None:
        return head
    if isinstance(task, Composite):
        parts = task.tasks.items()
        heads = {name: _told(model, one.squash, name) for name, one in parts}
        return {name: one for name, one in heads.items() if one}
    if task is not None:
        return _told(model, task.squash)
    squashed = _activation_or_none(model, None) in ("softmax", "sigmoid")
    trained = _kind_by_loss_of(model)
    if trained.form == "values" and not squashed:
        return NUMBERS
    return _told(model, "sigmoid" if trained.over == "units" else "")


def _told(model, squash, output=None):
    """Returns the head of an output whose logits are squashed so."""
    if squash is None:
        return NUMBERS
    activation = _activation_or_none(model, output)
    if activation is None or "sigmoid" in (squash, activation):
        return activation and YES_NO
    return LOGITS if activation == "linear" else PROBABILITIES


def answer_function(model: keras.Model, head: Head = None):
    """Returns `inputs -> {name: float32 tensor}`, the answer of an export.

    Class outputs answer with `logits` and `probabilities`, whichever of them
    the model gives; any other output as it is, under `output`. The outputs of
    a model with several keep their names; those that a dict of heads calls
    classes answer with `species_logits` and `species_probabilities`.

    Args:
        model: A built model.
        head: What the model's outputs are; `None` as far as `head_of` knows.
    """
    head = head_of(model, head)

    def answer(inputs):
        outputs = model(inputs, training=False)
        paths = keras.tree.flatten_with_path(outputs)
        if len(paths) > 1 or isinstance(outputs, dict):
            names = _output_names(model, [path for path, _ in paths])
        else:
            names = [""]
        heads = head if isinstance(head, dict) else {"": head}
        if len(heads) == len(names) == 1:
            heads = dict.fromkeys(names, *heads.values())
        if not set(heads) <= {"", *names}:
            raise ValueError(
                "`head` (or `task`) must be a dict by the outputs' names, "
                f"which are {names}. Received: {sorted(heads)}"
            )
        answers = {}
        for name, (_, tensor) in zip(names, paths, strict=True):
            # As it is, unless it is known to be of classes.
            known = _activation_or_none(model, name or None)
            for key, value in _by_head(tensor, heads.get(name), known).items():
                key = _joined(name, key)
                if key in answers:
                    raise ValueError(
                        f"Two outputs of the model would be called `{key}`. "
                        "Expected outputs whose names differ by more than "
                        "punctuation, and none called as the logits or "
                        f"probabilities of another. Received: {names}"
                    )
                answers[key] = value
        return answers

    return answer


def unknown_outputs(
    model: keras.Model | None, names: Iterable[str]
) -> set[str]:
    """Returns those of a model's answers of which nothing tells what they are.

    Their last activation is neither a softmax nor a sigmoid, and the model
    was compiled with no loss for them: they may be scores of classes, or
    quantities. `names` are those of `answer_function`; without a model, all
    are known.
    """
    unknown: set[str] = set()
    if model is None:
        return unknown
    is_sole = len(getattr(model, "outputs", None) or ()) == 1
    for name in names:
        sole = is_sole or name in ("output", LOGITS, PROBABILITIES)
        activation = _activation_or_none(model, None if sole else name)
        tap = "output" if sole else name
        kind = _kind_by_loss_of(model, tap)
        told = activation in ("softmax", "sigmoid") or kind.form or kind.over
        if not told:
            unknown.add(name)
    return unknown


def outputs_of(head: Head, *kinds: str) -> set[str]:
    """Returns where the outputs of certain heads answer, by their last name.

    Of numbers that is the output, of classes their probabilities.
    """
    heads = head if isinstance(head, dict) else {"": head}
    return {
        _joined(name, "output" if one == NUMBERS else PROBABILITIES)
        for name, one in heads.items()
        if one in kinds
    }


def _joined(output, key):
    if key == "output":
        return output or key
    return f"{output}_{key}" if output else key


def _by_head(output, head, activation):
    """Returns what is answered with an output, by name."""
    if head in (None, NUMBERS):
        return {"output": _as_float32(output)}
    if head == YES_NO:
        head = LOGITS if activation in (None, "linear") else PROBABILITIES
        squash = "sigmoid"
    else:
        squash = "sigmoid" if output.shape[-1] == 1 else "softmax"
    if head == LOGITS:
        logits = _as_float32(output)
        return {LOGITS: logits, PROBABILITIES: getattr(tf.nn, squash)(logits)}
    if activation not in ("softmax", "sigmoid"):
        activation = squash
    logits = output_heads.to_logits(output, activation)
    return {LOGITS: logits, PROBABILITIES: _as_float32(output)}


def _kind_by_loss_of(model, tap="output"):
    """Returns what the loss of an output says or shows of it."""
    names = getattr(model, "output_names", None)
    loss = loss_of_tap(getattr(model, "loss", None), tap, names)
    kind = kind_by_loss(loss)
    if loss is None or getattr(model, "inputs", None) is None:
        return kind
    tensors = output_heads.named_outputs(model)
    tensor = tensors.get(tap, next(iter(tensors.values())))
    return kind_by_answers(Output(tap, tensor, loss=loss), kind)


def _activation_or_none(model, name):
    try:
        return output_heads.activation_of(model, name)
    except KeyError:  # exported under a name that is not the layer's
        return None


def _output_names(model, paths):
    if any(isinstance(key, str) for path in paths for key in path):
        return [plain_name("_".join(map(str, path))) for path in paths]
    count = len(paths)
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count or len(set(names)) < count:
        return [f"output_{index}" for index in range(count)]
    layers = {layer.name: layer for layer in model.layers}
    return [
        f"output_{index}"
        if _is_automatic(layers.get(name))
        else plain_name(name)
        for index, name in enumerate(names)
    ]


def _is_automatic(layer):
    """Whether a layer's name is Keras' own, such as `dense_7`."""
    if layer is None:
        return True
    # Keras makes Conv2DTranspose to conv2d_transpose; underscores aside, a
    # name of its own is the class name and a number.
    name = re.sub(r"(_\d+)?$", "", layer.name).replace("_", "")
    return name == type(layer).__name__.lower()


def _as_float32(tensor):
    tensor = tf.convert_to_tensor(tensor)
    is_half = tensor.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(tensor, tf.float32) if is_half else tensor
