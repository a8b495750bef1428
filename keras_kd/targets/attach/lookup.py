# SPDX-License-Identifier: Apache-2.0
"""Looking up stored targets by the content of samples, inside tf.data."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.batches import gather
from keras_kd.targets.hashing.fingerprint import fingerprints
from keras_kd.targets.hashing.index import FingerprintIndex
from keras_kd.targets.hashing.index import all_fingerprints

IN_MEMORY = 2**28
"""Bytes up to which targets are held in memory; others stay on the disk."""


class Lookup:
    """The rows of a cache by fingerprint, and what is stored in them.

    All is done in the graph, for whole batches, except for targets too large
    for memory: those are read from files that the system maps and caches.
    Each file is compared with its sha256 before anything is read from it.

    Args:
        cache: A finished `TeacherCache`.
    """

    def __init__(self, cache: Any):
        self.cache = cache
        self.views = cache.options.views
        self.marks = cache.fingerprints
        self._index = FingerprintIndex(self.marks)
        for shard in cache.shards:
            shard.check()
        self._fields = self._held_fields()
        self._encodings = cache.encodings

    # Which row.

    def all_rows(self, x) -> tuple:
        """Returns fingerprints and rows of all samples of arrays.

        Raises:
            ValueError: If a sample is not in the cache.
        """
        marks = all_fingerprints(x)
        rows, known = self._index.find(marks)
        if not tf.reduce_all(known):
            missing = np.flatnonzero(~known.numpy())
            first = int(missing[0])
            which = f"the first of {len(missing)} such, of {len(marks)} in all"
            raise ValueError(self._unknown(first, marks.numpy()[first], which))
        return marks, rows

    def rows(self, x, marks, places):
        """Returns the row of each sample; an unknown one is an error.

        Args:
            x: The batch, which is looked at where something is wrong.
            marks: Its fingerprints, uint64 `(batch,)`.
            places: Place of each sample in the data, int64 `(batch,)`.
        """
        rows, known = self._index.find(marks)

        def refuse():
            as_one = tf.nest.map_structure(lambda t: t[tf.newaxis], x)
            _, is_one = self._index.find(fingerprints(as_one))
            arguments = [marks, places, known, is_one]
            return tf.numpy_function(self._refuse, arguments, tf.int64)

        rows = tf.cond(tf.reduce_all(known), lambda: rows, refuse)
        return tf.ensure_shape(rows, tf.nest.flatten(x)[0].shape[:1])

    def _refuse(self, marks, places, known, is_one):
        if is_one.all():
            raise ValueError(
                "The data set that was attached gives single samples. "
                "Expected batches: call `.batch(...)` before `attach`."
            )
        first = int(np.argmin(known))
        raise ValueError(
            self._unknown(
                int(places[first]),
                marks[first],
                f"number {first} of its batch; "
                f"{int((~known).sum())} of {len(known)} there are like it",
            )
        )

    def _unknown(self, place, mark, which):
        there = "nothing"
        if place < len(self.marks):
            there = f"a sample with fingerprint {self.marks[place]:#018x}"
        return (
            f"Sample {place} of the data ({which}) is not in the cache "
            f"{self.cache.directory}. Expected: a sample that was labelled; "
            f"at place {place} the cache holds {there}. Received: one with "
            f"fingerprint {mark:#018x}. Usual causes: it was augmented, "
            "rescaled or cast (uint8, float32) after `build` and before "
            "`attach` (to augment, give `augment` to `build`); or it is other "
            "data (to add them, `cache.extend(teacher, data)`)."
        )

    # What is stored in it.

    def targets(self, rows, views) -> dict[str, Any]:
        """Returns `{tap: target}` of some rows, as the losses take them.

        Args:
            rows: int64 `(batch,)`.
            views: Which view of each, int64 `(batch,)`.
        """
        if self._fields is not None:
            found = gather(self._fields, rows * self.views + views)
        else:
            found = self._read(rows, views)
        return {
            tap: self._encodings[tap].target(fields)
            for tap, fields in found.items()
        }

    def _held_fields(self):
        """Returns all fields as tensors, or `None` if they are too large."""
        sizes = [
            file.stat().st_size
            for shard in self.cache.shards
            for file in shard.folder.glob("tap*.npy")
        ]
        if sum(sizes) > IN_MEMORY:
            return None
        rows = np.arange(len(self.marks)).repeat(self.views)
        views = np.tile(np.arange(self.views), len(self.marks))
        fields = self.cache.read(rows, views)
        return tf.nest.map_structure(tf.convert_to_tensor, fields)

    def _read(self, rows, views):
        like = self.cache.read([0], [0])

        def read(rows, views):
            return tf.nest.flatten(self.cache.read(rows, views))

        dtypes = [array.dtype for array in tf.nest.flatten(like)]
        found = tf.numpy_function(read, [rows, views], dtypes)
        for tensor, array in zip(found, tf.nest.flatten(like), strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        return tf.nest.pack_sequence_as(like, found)


class ViewCheck:
    """Compares replayed views with those that the teacher saw.

    Args:
        cache: A finished `TeacherCache` that was built with `augment`.
    """

    def __init__(self, cache: Any):
        found = [shard.read("view_fingerprint") for shard in cache.shards]
        self._marks = tf.constant(np.concatenate(found).view("int64"))

    def check(self, x, rows, views, places):
        """Returns `x`; another view than the one labelled is an error."""
        marks = tf.bitcast(fingerprints(x), tf.int64)
        at = tf.stack([rows, views], axis=1)
        same = tf.gather_nd(self._marks, at) == marks
        passed = tf.cond(
            tf.reduce_all(same),
            lambda: True,
            lambda: tf.numpy_function(
                self._refuse, [same, places, views], tf.bool
            ),
        )
        with tf.control_dependencies([passed]):
            return tf.nest.map_structure(tf.identity, x)

    def _refuse(self, same, places, views):
        first = int(np.argmin(same))
        raise ValueError(
            f"View {views[first]} of sample {places[first]} of the data is "
            "not the one that the teacher saw, though the sample is the same "
            "(as it is for "
            f"{int((~same).sum())} of {len(same)} in this batch). Expected: "
            "the same pixels. Usual causes: a function that `augment` calls "
            "was changed, or TensorFlow computes it differently here (another "
            "version or machine). Build the cache again."
        )
