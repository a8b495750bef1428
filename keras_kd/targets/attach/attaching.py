# SPDX-License-Identifier: Apache-2.0
"""Attaching: each sample meets the targets that its own content names."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_kd.data.batches import gather
from keras_kd.data.batches import length
from keras_kd.data.reading import Streams
from keras_kd.data.reading import parts_of
from keras_kd.data.sample_shapes import check_samples
from keras_kd.data.splits import as_dataset
from keras_kd.targets.attach import epochs
from keras_kd.targets.attach.lookup import Lookup
from keras_kd.targets.attach.lookup import ViewCheck
from keras_kd.targets.attached import SAMPLE_INDEX
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.augment.views import Views
from keras_kd.targets.hashing.fingerprint import fingerprints

_CHUNK = 256  # samples that are looked up at a time where no batch is asked


def attach(
    cache: Any,
    data: Any,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    augment: Callable | None = None,
) -> tf.data.Dataset:
    """Returns a data set that carries the targets of its samples.

    Args:
        cache: A finished `TeacherCache`; the others are those of its `attach`.
    """
    arrays, count = _arrays(data), None
    if arrays is None:
        batches = epochs.of_stream(_stream(data, batch_size, shuffle))
        spec = batches.element_spec["element"]
    else:
        spec, count = arrays, length(arrays)
        seed = random.randrange(2**31) if seed is None else seed
        batches = epochs.of_arrays(count, batch_size or _CHUNK, shuffle, seed)
    shapes = cache.manifest.get("sample_shapes")
    if shapes and len(spec):
        check_samples(spec[0], shapes)
    found = batches.map(
        _attaching(cache, arrays, spec, augment),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    if count is not None and batch_size is None:
        counted = tf.data.experimental.assert_cardinality(count)
        found = found.unbatch().apply(counted)
    return found.prefetch(tf.data.AUTOTUNE)


def _attaching(cache, arrays, spec, augment):
    """Returns the function of one batch."""
    lookup = Lookup(cache)
    views = _views(cache, lookup, arrays, spec, augment)
    check = views and ViewCheck(cache)
    # Arrays stay as they are, so each sample is looked up once, not in each
    # epoch anew.
    known = None if arrays is None else lookup.all_rows(arrays[0])

    def function(batch):
        places = batch["places"]
        if arrays is None:
            x, *rest = batch["element"]
            marks = fingerprints(x)
            rows = lookup.rows(x, marks, places)
        else:
            (x, *rest), marks, rows = gather((arrays, *known), places)
        view = tf.zeros_like(rows)
        if views is not None:
            # Where a stream repeats within an epoch, that counts as well.
            turn = batch["epoch"] + places // len(cache)
            number = tf.bitcast(marks, tf.int64)
            view = (number % len(views) + turn) % len(views)
            if rest:
                all_y = None if arrays is None else arrays[1]
                rest[0] = views.labels(x, rest[0], all_y, view, marks)
            x = check.check(views.apply(x, view, marks), rows, view, places)
        # A row is also a sample's own number, for losses that remember it.
        targets = {**lookup.targets(rows, view), SAMPLE_INDEX: rows}
        return (attach_targets(x, targets), *rest)

    return function


def _views(cache, lookup, arrays, spec, augment) -> Views | None:
    """Returns what makes the views again, `None` if there are none."""
    labelled_with = cache.manifest["settings"]["augment"]
    augment = augment or cache.augment
    if labelled_with is None:
        if augment is None:
            return None
        raise ValueError(
            "This cache was built without `augment`, so the teacher saw the "
            "samples as they are. Expected: augment=None. Give `augment` to "
            "`build`, with another directory."
        )
    if augment is None:
        raise ValueError(
            "This cache holds targets of augmented views, which have to be "
            "made again. Expected: `attach(data, augment=...)` with the "
            "function that it was built with. Received: augment=None"
        )
    x = None if arrays is None else arrays[0]
    views = Views.of(augment, cache.options, x, lookup.marks)
    if views.identity != labelled_with:
        raise ValueError(
            "`augment` is not the function that this cache was built with: "
            "its code or the values it uses differ. Give the same function, "
            "or build another cache."
        )
    if views.partners is not None and len(spec) > 1:
        augment.check_labels(spec[1])
    return views


def _arrays(data) -> tuple | None:
    """Returns arrays as a tuple `(x, y, ...)`, `None` for a stream."""
    if isinstance(data, Streams):
        return None
    return tf.nest.map_structure(tf.convert_to_tensor, parts_of(data))


def _stream(data, batch_size, shuffle) -> tf.data.Dataset:
    if batch_size is not None or shuffle:
        raise ValueError(
            "`batch_size` and `shuffle` are for arrays. A data set is taken "
            "as it comes: batch it before `attach`, shuffle it before or "
            f"after. Received: {type(data).__name__}, "
            f"batch_size={batch_size}, shuffle={shuffle}"
        )
    return as_dataset(data)
