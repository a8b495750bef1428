# SPDX-License-Identifier: Apache-2.0
"""Function matching: the pictures that teacher and student are compared on."""

from __future__ import annotations

import tensorflow as tf
from keras import ops

from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.reading import parts_of
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import split_of


def function_matching(
    data: Data | Split | Arrays,
    crop: float | None = 0.25,
    mixup: float | None = 1.0,
    flip: bool = False,
    batch_size: int = 128,
    seed: int = 0,
) -> tf.data.Dataset:
    """Returns augmented images alone, to match two functions on.

    The student is to give the teacher's answer on every picture: also on
    crops that miss the object and on blends of two pictures, for which no
    label exists. So no label is used, and the teacher must see the very
    picture the student sees. It does: `Distiller` gives both the same batch.
    Use `alpha=1` and a live teacher; answers stored once (`attach_targets`)
    belong to other pictures. Give it many epochs: the paper's students still
    improve after hundreds, and do not overfit.

    Every image is cropped and resized to its old size, perhaps mirrored, and
    then blended with another of its batch. Each pass over the result draws
    anew; the same seed gives the same passes.

    Args:
        data: Images `(examples, height, width, channels)` of any range, with
            labels or without (they are dropped): an array, a pair `(x, y)`,
            a batched `tf.data.Dataset`, or a `Data` (its training split).
            Arrays are shuffled; a dataset keeps its order.
        crop: Smallest share of the area that a crop may keep, in `(0, 1]`;
            `None` for no crop. Sides keep a ratio of 3:4 to 4:3.
        mixup: Concentration of the Beta distribution of the blend: 1.0 for
            any blend equally (the paper's), less for weaker ones; `None` for
            none.
        flip: Whether half of the images are mirrored left to right. Not for
            digits and letters.
        batch_size: Examples in a batch, where `data` holds arrays.
        seed: Seed of the order and of all that is drawn.

    Returns:
        Dataset of float32 batches `(batch, height, width, channels)`.

    Raises:
        ValueError: If the inputs are no images (token ids, texts, a dict), or
            an argument is out of range.

    Example:

    ```python
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=1.0)
    distiller.compile("adam")
    distiller.fit(kd.function_matching(images, crop=0.5), epochs=2)
    ```

    Reference: https://arxiv.org/abs/2106.05237
    """
    _check_share("crop", crop, 1.0)
    _check_share("mixup", mixup, float("inf"))
    inputs = _inputs(data, batch_size, seed)
    _check_images(inputs.element_spec)
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)

    def augment(x, seed):
        x = tf.cast(x, "float32")
        crop_seed, flip_seed, blend_seed = tf.unstack(
            tf.random.split(seed, 3), axis=0
        )
        if crop is not None:
            x = random_crops(x, crop, crop_seed)
        if flip:
            x = _random_flips(x, flip_seed)
        if mixup is not None:
            x = mixed_up(x, mixup, blend_seed)
        return x

    # A seed for each batch: what is drawn does not depend on which of the
    # parallel calls is first.
    batches = tf.data.Dataset.zip(inputs, seeds.batch(2))
    return batches.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def random_crops(x, smallest: float, seed):
    """Returns a random part of every image, resized to the whole.

    `smallest` is the smallest share of the area kept, in `(0, 1]`.
    """
    draw = tf.random.stateless_uniform((4, tf.shape(x)[0]), seed)
    share = smallest + (1.0 - smallest) * draw[0]
    # Uniform in its logarithm: 3:4 is as likely as 4:3.
    widest = tf.math.log(tf.minimum(4.0 / 3.0, 1.0 / share))
    ratio = tf.exp(widest * (2.0 * draw[1] - 1.0))
    height, width = tf.sqrt(share * ratio), tf.sqrt(share / ratio)
    # Pixel centres of a part span `share * (size - 1)` pixels of the whole.
    last = tf.cast(tf.shape(x)[1:3] - 1, x.dtype)
    top = draw[2] * (1.0 - height) * last[0]
    left = draw[3] * (1.0 - width) * last[1]
    zero = tf.zeros_like(top)
    parts = ops.image.affine_transform(
        x,
        tf.stack([width, zero, left, zero, height, top, zero, zero], axis=1),
        data_format="channels_last",
    )
    return tf.ensure_shape(parts, x.shape)


def mixed_up(x, concentration: float, seed):
    """Returns every image blended with another one of the batch.

    The share is drawn from Beta(a, a); a is the concentration.

    Reference: https://arxiv.org/abs/1710.09412
    """
    order_seed, share_seed = tf.unstack(tf.random.split(seed, 2), axis=0)
    batch = tf.shape(x)[0]
    # Beta(a, a) is G / (G + H) for two of Gamma(a).
    gamma = tf.random.stateless_gamma(
        (2, batch, 1, 1, 1), share_seed, alpha=concentration
    )
    share = tf.math.divide_no_nan(gamma[0], gamma[0] + gamma[1])
    order = tf.argsort(tf.random.stateless_uniform((batch,), order_seed))
    return share * x + (1.0 - share) * tf.gather(x, order)


def _random_flips(x, seed):
    heads = tf.random.stateless_uniform((tf.shape(x)[0], 1, 1, 1), seed) < 0.5
    return tf.where(heads, tf.reverse(x, axis=[2]), x)


def _inputs(data, batch_size, seed):
    """Returns a batched dataset of the inputs alone."""
    split = split_of(data, "train")
    if isinstance(split, tf.data.Dataset):
        return as_dataset(split).map(lambda x, *_: x)
    x, *_ = parts_of(split)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    return dataset.shuffle(len(dataset), seed=seed).batch(batch_size)


def _check_images(spec):
    if not isinstance(spec, tf.TensorSpec):
        raise ValueError(
            "Function matching blends images, so it needs one input that "
            "holds them. Expected images (batch, height, width, channels). "
            f"Received: {type(spec).__name__} of inputs. Augment the images "
            "before they are put together."
        )
    if spec.dtype == tf.string or spec.shape.rank != 4:
        raise ValueError(
            "Function matching crops and blends images; there is nothing "
            "between two token ids or texts. Expected images "
            "(batch, height, width, channels). Received: inputs of shape "
            f"{tuple(spec.shape)} and dtype {spec.dtype.name}. For other "
            "data distil without it: Distiller(..., alpha=1.0).fit(x)."
        )


def _check_share(name, value, largest):
    if value is not None and not 0.0 < value <= largest:
        raise ValueError(
            f"`{name}` must be None or a number above 0"
            + (f" and at most {largest:g}" if largest < 2.0 else "")
            + f". Received: {name}={value!r}"
        )
