# SPDX-License-Identifier: Apache-2.0
"""A recipe that trains in a second, as a user would write one."""

RECIPE = '''
"""Two classes in two numbers: a recipe of one's own."""
import keras
import numpy as np
from keras_kd.data import Data

settings = dict(
    teacher_epochs=3, epochs=3, prune_epochs=2, batch_size=16,
    seeds=(0, 1), learning_rate=0.01,
)

def load_data(rows=96):
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    third = rows // 3
    return Data(
        train=(x[:third], y[:third]),
        validation=(x[third:2 * third], y[third:2 * third]),
        test=(x[2 * third:], y[2 * third:]),
    )

def build(width):
    return keras.Sequential([
        keras.Input((2,), name="point"),
        keras.layers.Dense(width, "relu", use_bias=False),
        keras.layers.Dense(2, use_bias=False),
    ])

def build_teacher():
    return build(32)

def build_student():
    return build(4)
'''
