# SPDX-License-Identifier: Apache-2.0
"""compress() from data to verified files, for six tasks on small real data.

Scans of digits, patients (scikit-learn's diabetes), and the words of this
project's documents. What a file is worth is what its model is worth.
"""

from __future__ import annotations

import functools
import math
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers
from keras import tree
from sklearn import datasets

import keras_kd as kd

pytestmark = pytest.mark.slow

WIDE, NARROW = 32, 8
# Class 0 is the background, 1 the ink of an odd digit, 2 of an even one.
INK = 8.0


@functools.cache
def scans():
    x, y = datasets.load_digits(return_X_y=True)
    return x.astype("float32").reshape(-1, 8, 8, 1), y


@functools.cache
def words():
    """Letters of words of four to eight letters, 0 behind them."""
    root = pathlib.Path(__file__).parents[2]
    text = "\n".join(
        path.read_text("utf-8") for path in sorted(root.glob("docs/*/*.md"))
    )
    found = sorted(set(re.findall(r"\b[a-z]{4,8}\b", text)))
    rows = [[ord(c) - 96 for c in word] + [0] * 8 for word in found]
    return np.array([row[:8] for row in rows], "int32")


def head(shape, *body):
    return keras.Sequential([keras.Input(shape), *body])


def classification():
    x, y = scans()
    body = lambda width: head(  # noqa: E731
        (8, 8, 1),
        layers.Flatten(),
        layers.Dense(width, "relu"),
        layers.Dense(10),
    )
    return kd.tasks.Classification(), x / 16, y, body


def multi_label():
    """Is it even, above four, and has it a closed loop?"""
    x, y = scans()
    labels = np.stack([y % 2 == 0, y > 4, np.isin(y, (0, 6, 8, 9))], -1)
    body = lambda width: head(  # noqa: E731
        (8, 8, 1),
        layers.Flatten(),
        layers.Dense(width, "relu"),
        layers.Dense(3, "sigmoid"),
    )
    return kd.tasks.MultiLabel(), x / 16, labels.astype("int32"), body


def regression():
    x, y = datasets.load_diabetes(return_X_y=True)
    x = (x / x.std(axis=0)).astype("float32")
    body = lambda width: head(  # noqa: E731
        (10,), layers.Dense(width, "relu"), layers.Dense(1)
    )
    return kd.tasks.Regression(), x, (y / 100).astype("float32"), body


def segmentation():
    x, y = scans()
    masks = np.where(x[..., 0] >= INK, 2 - (y % 2)[:, None, None], 0)
    body = lambda width: head(  # noqa: E731
        (8, 8, 1),
        layers.Conv2D(width, 5, padding="same", activation="relu"),
        layers.Conv2D(width, 5, padding="same", activation="relu"),
        layers.Conv2D(3, 1),
    )
    return kd.tasks.Segmentation(), x / 16, masks.astype("int32"), body


def of_letters(units):
    return lambda width: head(
        (8,),
        layers.Embedding(27, width),
        layers.Conv1D(width, 3, padding="causal", activation="relu"),
        layers.Dense(units),
    )


def tagging():
    """Runs of vowels are the spans; what is behind the word does not count."""
    x = words()
    is_vowel = np.isin(x, [ord(c) - 96 for c in "aeiou"])
    begins = is_vowel & ~np.roll(is_vowel, 1, axis=1)
    begins[:, 0] = is_vowel[:, 0]
    tags = np.where(begins, 1, np.where(is_vowel, 2, 0))
    task = kd.tasks.Tagging(tags=("O", "B-V", "I-V"))
    return task, x, np.where(x > 0, tags, -1).astype("int32"), of_letters(3)


def language_model():
    x = words()
    following = np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)
    return kd.tasks.LanguageModel(), x, following, of_letters(27)


def several_outputs():
    """Which digit, and how much ink: classes and a number of one picture."""
    x, y = scans()
    ink = x.mean(axis=(1, 2, 3))[:, None]

    def body(width):
        inputs = keras.Input((8, 8, 1))
        hidden = layers.Dense(width, "relu")(layers.Flatten()(inputs))
        kind = layers.Dense(10, name="kind")(hidden)
        size = layers.Dense(1, name="ink")(hidden)
        return keras.Model(inputs, {"kind": kind, "ink": size})

    parts = {"kind": kd.tasks.Classification(), "ink": kd.tasks.Regression()}
    task = kd.tasks.get(parts, headline="kind")
    return task, x / 16, {"kind": y, "ink": ink.astype("float32")}, body


@pytest.mark.parametrize(
    "case",
    [
        several_outputs,
        classification,
        multi_label,
        regression,
        segmentation,
        tagging,
        language_model,
    ],
    ids=lambda case: case.__name__,
)
def test_files_are_worth_what_their_model_is(case, tmp_path):
    task, x, y, build = case()
    order = np.random.default_rng(0).permutation(len(x))[:400]
    rows = lambda part: tree.map_structure(lambda a: a[part], (x, y))  # noqa: E731
    train, held = rows(order[:300]), rows(order[300:])
    data = kd.Data(train=train, validation=held)
    keras.utils.set_random_seed(0)
    teacher = build(WIDE)
    teacher.compile(keras.optimizers.Adam(1e-2), loss=task.label_loss(teacher))
    # Keras knows no -1: what has no label is class 0 to the teacher.
    marked = isinstance(task, kd.tasks.Tagging)
    labels = np.maximum(train[1], 0) if marked else train[1]
    teacher.fit(train[0], labels, epochs=10, verbose=0)
    report = kd.compress(
        teacher,
        lambda: build(NARROW),
        data,
        tmp_path / "student",
        task=task,
        epochs=2,
        batch_size=32,
        learning_rate=1e-2,
        seeds=(0, 1),
        prune_epochs=1,
        verbose=0,
    )
    rows = {record.name: record.metrics for record in report.records}
    name = task.headline.name
    model = rows["pruned"][name]
    assert math.isfinite(model)
    for file in ("SavedModel", ".tflite"):
        assert rows[file][name] == pytest.approx(model, rel=1e-3, abs=1e-3)
    for path in (tmp_path / "student").glob("*.tflite"):
        found = kd.measure(path, held, task=task, latency=False)
        assert found[name] == rows[".tflite"][name]
    assert all(
        why is None
        for _, why in kd.export.verify_directory(tmp_path / "student")
    )
    pairs = [
        rows[kind].get("accuracies") or rows[kind]["headlines"]
        for kind in ("distilled", "control")
    ]
    better = [task.headline.better(*pair) for pair in zip(*pairs, strict=True)]
    assert report.gain.mean == pytest.approx(np.mean(better))
    assert task.headline.difference_unit in str(report.gain)
