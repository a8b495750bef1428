# SPDX-License-Identifier: Apache-2.0
"""make_step_variables(): what the first step would make, before its trace."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_kd.distillers.own_step import has_own_loss


def make_step_variables(model: keras.Model, x: Any, y: Any = None) -> None:
    """Makes those of the optimizer, and of the metrics and loss of `compile`.

    TensorFlow traces a function again if it has made variables, and Keras
    makes them in the first step: without this, a training begins by tracing
    teacher and student twice. What cannot be made yet, the first step makes.

    Args:
        model: Any compiled model, before its `fit`.
        x: The `x` of its `fit`.
        y: The `y` of its `fit`.
    """
    if not (model.compiled and _is_whole(model)):
        return
    build_optimizer(model)
    compiled = [model._compile_metrics]
    if not has_own_loss(getattr(model, "student", model)):
        compiled.append(model._compile_loss)
    unbuilt = [each for each in compiled if each and not each.built]
    if not unbuilt:
        return
    with model.distribute_strategy.scope():
        labels, outputs = _labels_and_outputs(model, x, y)
        if labels is not None and outputs is not None:
            for each in unbuilt:
                each.build(labels, outputs)


def build_optimizer(model: keras.Model) -> None:
    """Makes the optimizer's variables, unless the model lacks some yet."""
    if _is_whole(model) and not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


def _is_whole(model):
    # A distiller that was only looked through may still lack projectors.
    return getattr(model, "_is_complete", model.built)


def _labels_and_outputs(model, x, y):
    """Returns them as symbols; `None` for what is not known."""
    student = getattr(model, "student", model)
    graph = getattr(student, "_functional", None) or student
    outputs = getattr(graph, "_outputs_struct", None)  # else its call tells
    if isinstance(x, tf.data.Dataset):
        _, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
    labels, outputs = symbolic_batch(y), symbolic_batch(outputs)
    try:
        # Keras pairs lists with tuples; how it pairs others is its own.
        keras.tree.assert_same_paths(labels, outputs)
    except ValueError:
        return None, None
    labels = keras.tree.pack_sequence_as(outputs, keras.tree.flatten(labels))
    return labels, outputs


def symbolic_batch(x: Any) -> Any:
    """Returns a batch of arrays, or of what a data set yields, as symbols.

    Args:
        x: Arrays, symbols or `tf.TensorSpec`s of `(examples, ...)`, nested.

    Returns:
        A `keras.KerasTensor` of unknown length for each; `None` if any is
        something else, such as text.
    """
    try:
        return keras.tree.map_structure(_symbolic, x)
    except (AttributeError, TypeError, ValueError):
        return None


def _symbolic(array):
    if isinstance(array, tf.TypeSpec) and not isinstance(array, tf.TensorSpec):
        raise TypeError(f"Ragged or sparse: {array}")
    return keras.KerasTensor((None, *array.shape[1:]), array.dtype)
