# SPDX-License-Identifier: Apache-2.0
"""Runs the code of the README and of the pages of the documentation.

A ```python block of a page is run after those before it, with fewer epochs;
what cannot run here (another framework, a server) is a ```py block.
"""

from __future__ import annotations

import pathlib
import re

import keras
from sklearn.datasets import load_digits

import keras_kd as kd

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
# A reader has time for these; a test wants to know that the code runs.
FEWER = (
    (r"\bepochs=\d+", "epochs=1"),
    (r"\bseeds=\([^)]*\)", "seeds=(0,)"),
    (r"\btrials=\d+", "trials=2, confirm=0"),
)


def build(filters, classes=10, size=8):
    return keras.Sequential(
        [
            keras.Input((size, size, 1)),
            keras.layers.Conv2D(filters, 3, strides=2, name="conv_1"),
            keras.layers.Conv2D(filters, 2, name="conv_2"),
            keras.layers.GlobalAveragePooling2D(name="pooled"),
            keras.layers.Dense(classes),
        ]
    )


def names():
    """What docs/guides/index.md says that pages may use, and models more."""
    digits = load_digits()
    x = (digits.images[:96, ..., None] / 16.0).astype("float32")
    y = digits.target[:96].astype("int32")
    train, validation = (x[:64], y[:64]), (x[64:], y[64:])
    return {
        "kd": kd,
        **{"x_train": train[0], "y_train": train[1]},
        **{"x_val": validation[0], "y_val": validation[1]},
        "data": kd.Data(train=train, validation=validation),
        **{"teacher": build(8), "other_teacher": build(6)},
        "same_width_teacher": build(4),
        "teacher_of_four": build(8, classes=4),
        "large_teacher": build(8, size=16),
        "build_student": lambda: build(4),
        "cross_entropy": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ),
    }


def run(text, page):
    """Runs the blocks of a page, in order, in one namespace."""
    given = names()
    for block in BLOCK.findall(text):
        for pattern, fewer in FEWER:
            block = re.sub(pattern, fewer, block)
        exec(compile(block, page, "exec"), given)
