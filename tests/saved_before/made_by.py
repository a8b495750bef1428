# SPDX-License-Identifier: Apache-2.0
"""Wrote the files beside it, with keras_kd as it was before its modules moved.

Run at commit 7168733 as `python made_by.py FOLDER`; it cannot make those
files again today, since what it tests is that files of *then* still load.
The models and data it speaks of serve the tests as the known truth.
"""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np

import keras_kd as kd

CLASSES = 3


def features(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)).astype("float32")


def split(count, seed=0):
    x = features(count, seed)
    return x, x[:, :CLASSES].argmax(axis=1).astype("int32")


def data():
    return kd.Data(split(96), split(32, 1), split(32, 2))


def build(width):
    return keras.Sequential(
        [
            keras.Input((4,), name="features"),
            keras.layers.Dense(width, activation="relu", name="hidden"),
            keras.layers.Dense(CLASSES, name="scores"),
        ]
    )


def build_student():
    return build(4)


def build_teacher():
    """Not trained: weights that are the same wherever they are made."""
    teacher = build(16)
    rng = np.random.default_rng(7)
    teacher.set_weights(
        [rng.normal(size=w.shape).astype("float32") for w in teacher.weights]
    )
    return teacher


def build_exits():
    x = keras.Input((4,), name="features")
    shallow = keras.layers.Dense(8, activation="relu")(x)
    early = keras.layers.Dense(CLASSES, name="early")(shallow)
    deep = keras.layers.Dense(8, activation="relu")(shallow)
    last = keras.layers.Dense(CLASSES, name="last")(deep)
    return keras.Model(x, {"early": early, "last": last})


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


RUN = {"epochs": 2, "batch_size": 32, "seeds": (0,), "prune_epochs": 1}
SEARCH = {"trials": 4, "epochs": 2, "batch_size": 32, "confirm": 1}


def make(folder: pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    x, y = split(96)
    answers = {}

    losses = [
        kd.losses.SoftTargets(4.0),
        kd.losses.FeatureMatching("hidden", "hidden"),
    ]
    distiller = kd.Distiller(
        build_teacher(), build_student(), distillation_losses=losses
    ).compile("adam", loss=cross_entropy(), metrics=["accuracy"])
    distiller.fit(x, y, batch_size=32, epochs=1, verbose=0)
    distiller.save(folder / "distiller.keras")
    answers["distiller"] = distiller.predict(x, verbose=0)

    mutual = kd.MutualDistiller([build_student(), build_student()])
    mutual.compile("adam", loss=cross_entropy(), metrics=["accuracy"])
    mutual.fit(x, y, batch_size=32, epochs=1, verbose=0)
    mutual.save(folder / "mutual.keras")
    answers["mutual"] = mutual.predict(x, verbose=0)

    exits = build_exits()
    exits.save(folder / "exits.keras")
    quick = kd.EarlyExit(exits, ["early", "last"], threshold=0.5)
    answers["exits"], answers["answered_by"] = quick.predict(x)
    np.savez(folder / "answers.npz", **answers)

    for name, options in {"dense": {}, "sparse": {"top_k": 2}}.items():
        cache = kd.TeacherCache(folder / "targets" / name, **options)
        cache.build(build_teacher(), (x, y))

    kd.compress(build_teacher(), build_student, data(), folder / "run", **RUN)
    kd.search(
        build_teacher(),
        build_student,
        data(),
        directory=folder / "search",
        **SEARCH,
    )


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]).absolute())
