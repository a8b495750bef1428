# SPDX-License-Identifier: Apache-2.0
"""Mixup and CutMix that can be made again: views of two samples at once.

Which other sample is mixed in, and how much of it, follows from the seed of
a view, so training sees the pairs that the teacher saw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Tensor
from keras_kd.targets.hashing.index import FingerprintIndex
from keras_kd.targets.hashing.index import all_fingerprints


class Mixing:
    """Base class of augmentations that take a second sample.

    Args:
        alpha: The share of the first sample is drawn from Beta(alpha,
            alpha): 1.0 makes all shares equally likely, small values mix
            little.
        labels: `"mixed"`: labels are mixed in the same shares, so they must
            be one-hot or other floats. `"none"`: mixed samples have no
            labels; they come as -1 and the student learns them from the
            teacher only.
    """

    def __init__(self, alpha: float = 1.0, labels: str = "mixed"):
        if not alpha > 0.0:
            raise ValueError(
                f"`alpha` must be positive. Received: alpha={alpha}"
            )
        if labels not in ("mixed", "none"):
            raise ValueError(
                "`labels` must be 'mixed' or 'none'. Received: "
                f"labels={labels!r}"
            )
        self.alpha = float(alpha)
        self.labels = labels

    def __call__(self, x: Arrays, partner: Arrays, seed: Tensor) -> Arrays:
        """Returns one sample with a share of its partner in it."""
        raise NotImplementedError

    def share(self, x: Arrays, seed: Tensor) -> tf.Tensor:
        """Returns the share of the first sample, float32 in [0, 1]."""
        drawn = tf.random.stateless_gamma((2,), seed, alpha=self.alpha)
        # Both can be 0 in float32 where alpha is small.
        return (drawn[0] + 1e-30) / (drawn[0] + drawn[1] + 2e-30)

    def check_labels(self, spec: tf.TypeSpec | dict | tuple) -> None:
        """Raises unless labels of these specs can be mixed."""
        for each in tf.nest.flatten(spec):
            if self.labels == "mixed" and not each.dtype.is_floating:
                raise ValueError(
                    f"{type(self).__name__} mixes labels too, which is "
                    "impossible with class ids. Expected: one-hot labels "
                    "(keras.utils.to_categorical) or other floats. Received: "
                    f"{each.dtype.name}. Or let the mixed samples be learned "
                    f"from the teacher only: {type(self).__name__}("
                    "labels='none')."
                )


class Mixup(Mixing):
    """Blends two samples: `share * x + (1 - share) * partner`.

    As `augment` of a teacher cache. The teacher says what the blend is, which
    labels mixed in the same shares only guess at. Needs data in arrays, with
    floating point inputs.

    Args:
        alpha: See `Mixing`; the paper takes 0.1 to 0.4, distillation 1.0.
        labels: `"mixed"` or `"none"`, see `Mixing`.

    Reference: https://arxiv.org/abs/1710.09412

    Example:

    ```python
    one = kd.targets.Mixup(alpha=1.0)(x[0], x[1], seed=(1, 2))
    ```
    """

    def __call__(self, x: Arrays, partner: Arrays, seed: Tensor) -> Arrays:
        share = self.share(x, seed)

        def blend(a, b):
            if not a.dtype.is_floating:
                raise ValueError(
                    "Mixup blends floating point inputs. Received: "
                    f"{a.dtype.name}. Convert them before `build`, and in the "
                    "same way before `attach`."
                )
            own = tf.cast(share, a.dtype)
            return own * a + (1 - own) * b

        return tf.nest.map_structure(blend, *_tensors(x, partner))


class CutMix(Mixing):
    """Puts a rectangle of one image into another.

    As `augment` of a teacher cache; needs images `(height, width, channels)`
    in arrays, of any dtype. The share is that of the pixels which stayed.

    Args:
        alpha: See `Mixing`; the paper takes 1.0.
        labels: `"mixed"` or `"none"`, see `Mixing`.

    Reference: https://arxiv.org/abs/1905.04899

    Example:

    ```python
    one = kd.targets.CutMix(alpha=1.0)(x[0], x[1], seed=(1, 2))
    ```
    """

    def __call__(self, x: Arrays, partner: Arrays, seed: Tensor) -> Arrays:
        x, partner = _tensors(x, partner)
        inside = self._inside(x, seed)
        return tf.nest.map_structure(
            lambda a, b: tf.where(inside, b, a), x, partner
        )

    def share(self, x: Arrays, seed: Tensor) -> tf.Tensor:
        inside = self._inside(_tensors(x)[0], seed)
        return 1.0 - tf.reduce_mean(tf.cast(inside, tf.float32))

    def _inside(self, x, seed):
        """Returns which pixels are the partner's: `(height, width, 1)`."""
        image = tf.nest.flatten(x)[0]
        if len(image.shape) != 3:
            raise ValueError(
                "CutMix needs images (height, width, channels). Received a "
                f"sample of shape {tuple(image.shape)}."
            )
        side = tf.sqrt(1.0 - super().share(x, seed))
        # Another seed: the middle must not follow from the share.
        middle = tf.random.stateless_uniform(
            (2,), tf.random.experimental.stateless_fold_in(seed, 1)
        )

        def within(axis):
            length = tf.cast(tf.shape(image)[axis], tf.float32)
            pixels = tf.range(length) + 0.5
            distance = tf.abs(pixels - middle[axis] * length)
            return distance < side * length / 2

        return (within(0)[:, None] & within(1)[None, :])[..., None]


class Partners:
    """All samples, for a mixing augmentation to draw from.

    Args:
        x: All inputs, as arrays.
        labelled: Fingerprints of the samples in the order in which they were
            labelled, if `x` may be in another order.

    Raises:
        ValueError: If one of `labelled` is not in `x`.
    """

    def __init__(self, x: Any, labelled: np.ndarray | None = None):
        self.x = tf.nest.map_structure(tf.convert_to_tensor, x)
        self.marks = all_fingerprints(self.x).numpy()
        self.places = tf.range(len(self.marks), dtype=tf.int64)
        if labelled is not None:
            self.places, known = FingerprintIndex(self.marks).find(labelled)
            missing = np.flatnonzero(~known.numpy())
            if len(missing):
                raise ValueError(
                    "Mixed views draw their partners from all samples that "
                    "were labelled. Expected data that hold all of them. "
                    f"Received: data that lack {len(missing)} of "
                    f"{len(labelled)}, the first is sample {missing[0]} of "
                    "the cache. Attach the whole data, or build a cache for "
                    "this part alone."
                )
            self.marks = labelled

    def draw(self, seeds) -> tf.Tensor:
        """Returns the places of partners, int64 `(batch,)`, from seeds."""
        count = tf.size(self.places, tf.int64)
        # Not by a bitcast: two in a row are merged wrongly inside tf.data.
        high, low = tf.unstack(tf.cast(seeds, tf.int64), axis=1)
        drawn = tf.math.floormod(high * 2**32 + low, count)
        return tf.gather(self.places, drawn)


def _tensors(*samples):
    return tf.nest.map_structure(tf.convert_to_tensor, samples)
