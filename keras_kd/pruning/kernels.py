# SPDX-License-Identifier: Apache-2.0
"""Kernels: which weights of a model are pruned, and how sparse they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from keras_kd.pruning.selection import check_kinds
from keras_kd.pruning.selection import check_names
from keras_kd.pruning.structured.kinds import CONVOLUTIONS
from keras_kd.pruning.structured.kinds import DEPTHWISE
from keras_kd.pruning.structured.kinds import SEPARABLE
from keras_kd.pruning.structured.kinds import TRANSPOSED

# MultiHeadAttention is made of EinsumDense.
DENSE_KINDS = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS, *TRANSPOSED)

PRUNED_BY_DEFAULT = (
    (DENSE_KINDS, ("kernel",)),
    (SEPARABLE, ("pointwise_kernel",)),
)
# Small, or costly in accuracy: pruned where `include` names them.
PRUNED_ON_REQUEST = (
    ((layers.Embedding,), ("embeddings",)),
    (DEPTHWISE, ("kernel",)),
    (SEPARABLE, ("depthwise_kernel",)),
    (
        (layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell),
        ("kernel", "recurrent_kernel"),
    ),
)


def prunable_kernels(
    model: keras.Model,
    include: Sequence[str | type] | None = None,
    exclude: Sequence[str | type] = (),
) -> list[tuple[str, keras.Variable]]:
    """Returns `(path, variable)` of every kernel that pruning would thin.

    Those are the trainable kernels of dense, convolution and attention
    layers at any depth; never biases or normalisation.

    Args:
        model: A built model.
        include: The only layers (or models that hold them) to prune: names,
            or classes such as `keras.layers.Dense`. Kinds that are off by
            default are pruned when they are given here: embeddings,
            depthwise convolutions, recurrent cells.
        exclude: Layers (or models that hold them) to leave alone, likewise.

    Raises:
        ValueError: If a name or class is not in the model, or no kernel is
            left.
    """
    found, seen, known = [], set(), {}

    def visit(layer, chain):
        known[layer.name] = type(layer)
        chain = (*chain, layer)
        names = [part.name for part in chain[1:]]
        named = include is not None and _is_in(chain, include)
        if (named or include is None) and not _is_in(chain, exclude):
            table = PRUNED_BY_DEFAULT + (PRUNED_ON_REQUEST if named else ())
            kinds = [names for kind, names in table if isinstance(layer, kind)]
            for attribute in itertools.chain(*kinds):
                variable = getattr(layer, attribute, None)
                # A layer under LoRA or quantised gives a tensor here, and a
                # frozen kernel could not recover: neither is pruned.
                if not isinstance(variable, keras.Variable):
                    continue
                if variable.trainable and id(variable) not in seen:
                    seen.add(id(variable))
                    found.append(("/".join((*names, attribute)), variable))
        # No public walk reaches layers inside layers (MultiHeadAttention).
        for child in layer._flatten_layers(include_self=False, recursive=False):
            visit(child, chain)

    visit(model, ())
    chosen = (*(include or ()), *exclude)
    kinds = [choice for choice in chosen if isinstance(choice, type)]
    names = [choice for choice in chosen if not isinstance(choice, type)]
    check_kinds(kinds, known.values(), "layers of the model")
    check_names(names, known)
    if not found:
        raise ValueError(
            f"Model {model.name!r} has no kernel to prune. Expected a built "
            "model with a trainable Dense, EinsumDense, Conv or attention "
            f"layer. Received: include={include}, exclude={exclude}, layers "
            f"{list(known)[:10]}"
        )
    return found


def _is_in(chain, chosen) -> bool:
    """Says whether a layer, or one that holds it, was chosen."""
    return any(
        isinstance(layer, choice)
        if isinstance(choice, type)
        else layer.name == choice
        for layer in chain
        for choice in chosen
    )


def sparsity_of(kernels: Sequence[tuple[str, keras.Variable]]) -> float:
    """Returns the share of exact zeros in the kernels, taken together."""
    nonzero = sum(int(tf.math.count_nonzero(v.value)) for _, v in kernels)
    return 1.0 - nonzero / sum(v.value.shape.num_elements() for _, v in kernels)


def sparsity_table(
    model: keras.Model, kernels: Sequence[tuple[str, keras.Variable]]
) -> dict[str, Any]:
    """Returns how sparse a model and its kernels are, as plain JSON values.

    `sparsity` is that of the kernels together, `parameters` and
    `nonzero_parameters` count the whole model, `layers` has a row per kernel.
    """
    return {
        "sparsity": sparsity_of(kernels),
        "parameters": int(model.count_params()),
        "nonzero_parameters": sum(
            int(tf.math.count_nonzero(weight.value)) for weight in model.weights
        ),
        "layers": {
            path: {
                "shape": list(variable.shape),
                "sparsity": sparsity_of([(path, variable)]),
            }
            for path, variable in kernels
        },
    }
