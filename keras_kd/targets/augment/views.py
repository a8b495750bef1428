# SPDX-License-Identifier: Apache-2.0
"""Views: augmented samples that can be made again, pixel for pixel.

The teacher sees `n` views of each sample once; training then makes the same
views again and reads what the teacher said to them. What a view looks like
depends on the sample, the number of the view and the seed of the cache, and
on nothing else: not on its place, its batch, the epoch or the machine.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_kd.core.identity import identity
from keras_kd.data.batches import gather
from keras_kd.data.batches import rows_of
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import compile_for
from keras_kd.targets.augment.mixing import Mixing
from keras_kd.targets.augment.mixing import Partners
from keras_kd.targets.hashing.fingerprint import fingerprints

_NOT_REPLAYABLE = (
    "`augment` is not replayable. Expected: a function (x, seed) of one "
    "sample whose every random choice is drawn from `seed`, by "
    "tf.random.stateless_* or tf.image.stateless_*. Keras preprocessing "
    "layers, tf.random.* and np.random draw from a state of their own."
)


def seeds(marks, view, seed: int) -> tf.Tensor:
    """Returns the seed of one view of each sample.

    The 64-bit FarmHash (`tf.fingerprint`) of the sample's fingerprint, the
    seed of the cache and the number of the view, each as 8 bytes. Views that
    were labelled are worthless if this ever changes.

    Args:
        marks: Fingerprints, uint64 of shape `(batch,)`.
        view: Number of the view: an integer, or one for each sample.
        seed: Seed of the cache.

    Returns:
        int32 tensor of shape `(batch, 2)`, as `tf.random.stateless_*` take.

    Example:

    ```python
    seeds(fingerprints(images), view=0, seed=0)
    ```
    """
    marks = tf.bitcast(tf.convert_to_tensor(marks, tf.uint64), tf.int64)
    view = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(marks))
    seed = tf.broadcast_to(tf.constant(seed, tf.int64), tf.shape(marks))
    numbers = tf.stack([marks, seed, view], axis=1)
    hashed = tf.reshape(tf.fingerprint(numbers), [-1, 2, 4])
    return tf.bitcast(hashed, tf.int32)


class Views:
    """The views of a data set under one augmentation.

    Args:
        augment: `augment(x, seed)` for one sample, in TensorFlow operations:
            `x` as in the data set without its batch axis, `seed` an int32
            tensor of shape `(2,)` for `tf.random.stateless_*` or
            `tf.image.stateless_*`. Or a `Mixup` or `CutMix`.
        views: Number of views of each sample.
        seed: Seed of the cache.
        partners: All the samples, for `Mixup` and `CutMix`.

    Raises:
        ValueError: If a mixing augmentation has no partners to mix with.

    Example:

    ```python
    def augment(x, seed):
        return tf.image.stateless_random_flip_left_right(x, seed)


    views = Views(augment, views=4, seed=0)
    flipped = views.apply(images, 2, fingerprints(images))
    ```
    """

    def __init__(
        self,
        augment: Callable,
        views: int,
        seed: int = 0,
        partners: Partners | None = None,
    ):
        if isinstance(augment, keras.Layer) or not callable(augment):
            raise ValueError(
                f"{_NOT_REPLAYABLE} Received: {type(augment).__name__}"
            )
        if isinstance(augment, Mixing) and partners is None:
            raise ValueError(
                f"{type(augment).__name__} mixes a sample with another one "
                "out of all the data, so it needs data that can be read at "
                "any place. Expected: arrays, as (x, y). Received: a stream. "
                "With tf.data and PyDataset use an augmentation of single "
                "samples."
            )
        self.augment = augment
        self.views = views
        self.seed = seed
        self.partners = partners if isinstance(augment, Mixing) else None
        self._compiled: Callable | None = None

    @classmethod
    def of(cls, augment, options, x=None, labelled=None) -> Views:
        """Returns the views of a cache.

        Args:
            augment: See `Views`.
            options: What has the `views` and `seed` of the cache.
            x: All inputs, if they are arrays.
            labelled: See `Partners`.
        """
        partners = None
        if isinstance(augment, Mixing) and x is not None:
            partners = Partners(x, labelled)
        return cls(augment, options.views, options.seed, partners)

    @property
    def identity(self) -> str:
        """A sha256 of what the views look like, besides sample and seed."""
        drawn_from = self.partners and self.partners.marks
        return identity((self.augment, drawn_from))

    def __len__(self) -> int:
        return self.views

    def apply(self, x, view, marks):
        """Returns one view of each sample of a batch.

        The samples go through `augment` one by one, so that what comes out
        does not depend, in the last bit, on the batch they are in.

        Args:
            x: A batch of inputs.
            view: Number of the view: an integer, or one for each sample.
            marks: Fingerprints of the samples, uint64 of shape `(batch,)`.
        """
        drawn = seeds(marks, view, self.seed)
        if not tf.executing_eagerly():
            return self._apply(x, drawn)
        x = tf.nest.map_structure(tf.convert_to_tensor, x)
        self._compiled = self._compiled or compile_for(
            lambda both: self._in_tf_data(*both), (x, drawn)
        )
        return self._compiled((x, drawn))

    def first(self, element: dict) -> dict:
        """Returns `{"x": view 0}` of `{"x": batch}`, for `Dataset.map`."""
        x = element["x"]
        return {"x": self.apply(x, 0, fingerprints(x))}

    def _in_tf_data(self, x, drawn):
        # As in training. A tf.function by itself would be optimised, its
        # products put in another order, and differ in the last bit.
        batch = {"x": x, "seeds": drawn}
        dataset = tf.data.Dataset.from_tensors(batch)
        dataset = dataset.map(lambda b: self._apply(b["x"], b["seeds"]))
        return dataset.get_single_element()

    def _apply(self, x, drawn):
        arguments = (x, drawn)
        if self.partners is not None:
            partners = gather(self.partners.x, self.partners.draw(drawn))
            arguments = (x, partners, drawn)
        return _one_by_one(self.augment, arguments)

    def labels(self, x, y, all_y, view, marks):
        """Returns the labels of one view of each sample of a batch.

        Args:
            x: A batch of inputs.
            y: Its labels.
            all_y: The labels of all the data, for those that are mixed.
            view: As in `apply`.
            marks: As in `apply`.
        """
        if self.partners is None:
            return y
        if self.augment.labels == "none":
            return tf.nest.map_structure(
                lambda t: tf.fill(tf.shape(t), UNLABELLED), y
            )
        drawn = seeds(marks, view, self.seed)
        partners = gather(all_y, self.partners.draw(drawn))
        share = _one_by_one(self.augment.share, (x, drawn))

        def mixed(own, other):
            ones = [1] * (len(own.shape) - 1)
            weight = tf.cast(tf.reshape(share, [-1, *ones]), own.dtype)
            return weight * own + (1 - weight) * other

        return tf.nest.map_structure(mixed, y, partners)


def _one_by_one(function, arguments):
    """Calls a function of one sample for each sample of a batch."""
    one = tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape[1:], t.dtype), arguments
    )
    graph = tf.function(function).get_concrete_function(*one)
    signature = tf.nest.map_structure(
        lambda t: tf.TensorSpec(t.shape, t.dtype), graph.structured_outputs
    )
    return tf.map_fn(
        lambda each: graph(*each), arguments, fn_output_signature=signature
    )


def check_replayable(views: Views, x) -> None:
    """Raises unless an augmentation gives the same pixels again.

    It is traced and run twice, as labelling and training will do it, the
    second time in the opposite order: a random generator with a seed gives
    its numbers again, but to other samples.

    Args:
        views: What to check.
        x: A small batch of inputs.

    Raises:
        ValueError: If the pixels differ.
    """
    marks, backwards = fingerprints(x), slice(None, None, -1)
    first, again = (
        Views(views.augment, views.views, views.seed, views.partners)
        for _ in range(2)
    )
    for view in range(min(len(views), 2)):
        one = first.apply(x, view, marks)
        two = again.apply(rows_of(x, backwards), view, marks[backwards])
        two = fingerprints(two)[backwards]
        if not tf.reduce_all(fingerprints(one) == two):
            raise ValueError(
                f"{_NOT_REPLAYABLE} Received: a function that gave other "
                "values when it was called again with the same sample and "
                "seed, so training could not see what the teacher saw."
            )
