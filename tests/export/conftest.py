# SPDX-License-Identifier: Apache-2.0
"""One real export that the tests of this folder look at or take apart."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

import keras
import numpy as np
import pytest

from keras_kd.core.records import StageRecord
from keras_kd.export import export


@dataclasses.dataclass
class Exported:
    """A small CNN and where it was exported to."""

    folder: pathlib.Path
    record: StageRecord
    images: np.ndarray
    logits: np.ndarray

    @property
    def version(self):
        return self.folder / "cnn" / "1"

    @property
    def tflite(self):
        return self.folder / "cnn" / "cnn.tflite"


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), name="image"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    images = np.random.default_rng(0).uniform(0, 255, (5, 12, 12, 1))
    images = images.astype("float32")
    folder = tmp_path_factory.mktemp("saved_models")
    record = export(model, folder, "cnn", inputs=images)
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    return Exported(folder, record, images, logits)


@pytest.fixture(scope="session")
def second(tmp_path_factory):
    """An export of another model of the same name and inputs."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1), name="image"),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )
    folder = tmp_path_factory.mktemp("second")
    export(model, folder, "cnn", verbose=False)
    return folder / "cnn"


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of the export that a test may damage."""
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    return dataclasses.replace(exported, folder=folder)
