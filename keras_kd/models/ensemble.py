# SPDX-License-Identifier: Apache-2.0
"""Ensemble: several models as one, by the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
from keras import ops

from keras_kd.core import output_heads
from keras_kd.core.taps import check_graph
from keras_kd.losses.base import compatible


def mean_prediction(outputs, activation: str | None, binary: bool = False):
    """Returns the mean of the models' probabilities, in their own form.

    Probabilities are averaged, never logits: a model that is sure of itself
    would otherwise outvote the others. Logits go in as logits and come out
    as logits (of the mean probabilities), so a loss with `from_logits=True`
    and a softmax behind the model stay right.

    Args:
        outputs: One tensor `(batch, ..., units)` per model.
        activation: What all of them went through last: `"softmax"`,
            `"sigmoid"`, or anything else for logits.
        binary: Whether logits are independent yes/no units; a single unit
            always is.

    Returns:
        A float32 tensor of the shape of one output.
    """
    outputs = [ops.cast(output, "float32") for output in outputs]
    if activation in ("softmax", "sigmoid"):
        return ops.mean(ops.stack(outputs), axis=0)
    binary = binary or outputs[0].shape[-1] == 1
    if binary:
        outputs = [output_heads.binary_to_classes(output) for output in outputs]
    logs = ops.stack([ops.log_softmax(output) for output in outputs])
    mean = ops.logsumexp(logs, axis=0) - math.log(len(outputs))
    return mean[..., 1] - mean[..., 0] if binary else mean


def ensemble(
    models: Iterable[keras.Model],
    binary: bool = False,
    outputs: str | None = None,
) -> keras.Model:
    """Returns one model that gives the mean of several models' answers.

    It shares their weights, and is saved, measured and exported as any
    other. It is the baseline to beat for methods that train several students,
    and often a better teacher than the best of them.

    Args:
        models: Functional or Sequential models of the same inputs, each with
            one output, all of them ending alike (softmax, sigmoid, logits).
        binary: Whether logits are independent yes/no units.
        outputs: What all of them give, where it cannot be read off their last
            layers: `"logits"` or `"probabilities"`.

    Raises:
        ValueError: If there is no model, one has no graph, they differ in
            what they give, or it is not known.

    Example:

    ```python
    both = ensemble([teacher, student])
    both.predict(x)
    ```
    """
    models = list(models)
    activation = common_activation(models)
    for model in models:
        check_graph(model)
    if activation is None:
        heads = {"logits": "linear", "probabilities": "softmax"}
        if outputs not in heads:
            raise ValueError(
                "What the models give cannot be read off their last layers. "
                "Expected outputs='logits' or 'probabilities'. Received: "
                f"outputs={outputs!r}"
            )
        activation = heads[outputs]
    first = models[0]
    is_sequential = isinstance(first, keras.Sequential)
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name),
        # A Sequential model that was called has the caller's tensor as input.
        first.inputs[0] if is_sequential else first.input,
    )
    outputs = MeanPrediction(models, activation, binary)(inputs)
    return keras.Model(inputs, outputs, name="ensemble")


def common_activation(models: list[keras.Model]) -> str | None:
    """Returns what the models end in; `None` if that can be read of none.

    Raises:
        ValueError: If there is none, one is no model or has several outputs,
            or they end in different things or in different shapes.
    """
    if not models:
        raise ValueError("Expected at least one model. Received: none")
    for model in models:
        if not isinstance(model, keras.Model):
            raise ValueError(
                "Expected keras.Model objects (Keras 3). Received: "
                f"{type(model).__module__}.{type(model).__name__}"
            )
    known = [m for m in models if getattr(m, "inputs", None) is not None]
    for model in known:
        if len(model.outputs) != 1:
            raise ValueError(
                "The models of an ensemble need one output each. '"
                f"{model.name}' has {len(model.outputs)}: make a "
                "keras.Model(inputs, output) of the one you mean."
            )
        if isinstance(getattr(model, "output", None), dict):
            raise ValueError(
                "The models of an ensemble give a tensor. Received: "
                f"'{model.name}', which gives a dict of one. Write "
                "keras.Model(model.inputs, model.outputs[0])."
            )
    shapes = [tuple(model.outputs[0].shape) for model in known]
    if not all(compatible(shapes[0], shape) for shape in shapes[1:]):
        raise ValueError(
            "The models of an ensemble must have the same classes. "
            f"Received outputs of shape {shapes}."
        )
    found = map(output_heads.activation_of, known)
    activations = {activation for activation in found if activation}
    if len(activations) > 1:
        raise ValueError(
            "The models of an ensemble must all end in the same way: one loss "
            f"reads them all. Received outputs of kind {sorted(activations)}. "
            "Let all of "
            "them end in logits."
        )
    return activations.pop() if activations else None


@keras.saving.register_keras_serializable(package="keras_kd")
class MeanPrediction(keras.layers.Layer):
    """Runs several models on one input; see `mean_prediction`."""

    def __init__(self, models, activation=None, binary=False, **kwargs):
        super().__init__(**kwargs)
        self.models = list(models)
        # By this name `output_heads` reads what an output is.
        self.activation = keras.activations.get(activation)
        self.binary = binary

    def call(self, x, training=None):
        outputs = [model(x, training=training) for model in self.models]
        outputs = [keras.tree.flatten(output)[0] for output in outputs]
        activation = keras.activations.serialize(self.activation)
        return mean_prediction(outputs, activation, self.binary)

    def get_config(self):
        return {
            **super().get_config(),
            "models": keras.saving.serialize_keras_object(self.models),
            "activation": keras.activations.serialize(self.activation),
            "binary": self.binary,
        }

    @classmethod
    def from_config(cls, config):
        models = keras.saving.deserialize_keras_object(config["models"])
        return cls(**{**config, "models": models})
