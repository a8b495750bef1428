# SPDX-License-Identifier: Apache-2.0
"""A tiny teacher, its data, and a process that labels, for tests of caches.

python tests/targets/labelled.py DIRECTORY [part parts]
"""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np

import keras_kd as kd
from keras_kd.core.file_lock import LOCK

SAMPLES, FEATURES, CLASSES = 1000, 4, 3


def samples(count=SAMPLES, seed=0):
    shape = (count, FEATURES)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def teacher(seed=0, activation=None):
    initializer = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(
                8, "relu", kernel_initializer=initializer(seed), name="hidden"
            ),
            keras.layers.Dense(
                CLASSES,
                activation,
                kernel_initializer=initializer(seed + 1),
                name="scores",
            ),
        ]
    )


def build(directory, x=None, **kwargs):
    """Builds a small cache of several shards, the last one short."""
    options = {"shard_size": 300, "dtype": "float32"}
    options |= {k: kwargs.pop(k) for k in list(kwargs) if k in _OPTIONS}
    cache = kd.TeacherCache(directory, **options)
    data = (samples() if x is None else x,)
    who = kwargs.pop("who", None) or teacher()
    fixed = {"batch_size": 64, "verbose": False}
    return cache.build(who, data, **{**fixed, **kwargs})


_OPTIONS = ("taps", "dtype", "top_k", "sampled", "temperature", "shard_size")


def contents(directory):
    """Returns the bytes of a cache's files by relative path, not its lock."""
    directory = pathlib.Path(directory)
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


if __name__ == "__main__":
    part = tuple(map(int, sys.argv[2:])) or None
    build(sys.argv[1], samples(40_000), shard_size=500, part=part)
