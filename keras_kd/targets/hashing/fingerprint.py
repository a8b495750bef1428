# SPDX-License-Identifier: Apache-2.0
"""Fingerprints: 64 bits by which a sample is known, wherever it stands.

A stored target is found by the content of its sample, not by its position,
so shuffling, subsets and duplicates cannot give a sample another's target.
"""

from __future__ import annotations

import keras
import tensorflow as tf


def fingerprints(x) -> tf.Tensor:
    """Returns the fingerprint of each sample of a batch.

    Values, shapes, dtypes and names all count: `1` and `1.0` differ, and so
    do two samples that only differ in which input holds which tensor. Runs
    in TensorFlow graphs, such as `Dataset.map`, and costs about as much as
    reading the batch once. Two different samples out of a million share a
    fingerprint with a probability of 3e-8.

    Args:
        x: A batch of inputs: a tensor of shape `(batch, ...)` of any dtype,
            strings included, or a dict or tuple of them.

    Returns:
        uint64 tensor of shape `(batch,)`. Bitcast it to int64 for a
        `tf.lookup` table.

    Raises:
        ValueError: If a tensor is ragged or sparse.

    Example:

    ```python
    fingerprints(tf.constant([[1.0, 2.0], [3.0, 4.0]]))
    ```
    """
    leaves = keras.tree.flatten_with_path(x)
    for path, tensor in leaves:
        if isinstance(tensor, (tf.RaggedTensor, tf.SparseTensor)):
            raise ValueError(
                "A sample must be made of dense tensors. Received: a "
                f"{type(tensor).__name__} at {path or 'the input'}. Make it "
                "dense first, for example with .to_tensor()."
            )
    paths = ["/".join(map(str, path)) for path, _ in leaves]
    tensors = [tf.convert_to_tensor(tensor) for _, tensor in leaves]
    kind = ";".join(
        f"{path}:{tensor.dtype.name}"
        for path, tensor in zip(paths, tensors, strict=True)
    )
    # As tensors, so that a shape that is known only when the graph runs
    # gives the same fingerprint as one that was known before.
    shape = tf.concat(
        [dims for t in tensors for dims in ([tf.rank(t)], tf.shape(t)[1:])],
        axis=0,
    )
    common = tf.concat(
        [tf.fingerprint([kind]), tf.fingerprint(shape[tf.newaxis])], axis=1
    )
    batch = tf.shape(tensors[0])[0]
    parts = [tf.tile(common, [batch, 1]), *map(tf.fingerprint, tensors)]
    return tf.bitcast(tf.fingerprint(tf.concat(parts, axis=1)), tf.uint64)
