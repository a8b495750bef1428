# SPDX-License-Identifier: Apache-2.0
"""Golden answers: a copy of an export can be checked anywhere."""

from __future__ import annotations

import shutil

import keras
import pytest
from keras import layers

from keras_kd.export import export
from keras_kd.export import verify_directory
from keras_kd.export.manifest import golden_path
from keras_kd.export.manifest import write_manifest


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(400), layers.Dense(3)]
    )
    export(model, folder, "model", verbose=False)
    return folder / "model"


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "model")


def flip(path, offset=-400):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


@pytest.mark.slow
def test_verify_directory_accepts_a_copy(copy):
    found = list(verify_directory(copy))
    names = ["1", "model.tflite", "serving"]
    assert found == [(copy / name, None) for name in names]


def test_verify_directory_names_the_damaged_file(copy):
    flip(copy / "1" / "variables" / "variables.data-00000-of-00001")
    flip(copy / "model.tflite")
    problems = dict(verify_directory(copy))
    assert "variables.data-00000-of-00001 is damaged" in problems[copy / "1"]
    # The golden answers know which file they belong to.
    assert "model.tflite" in problems[copy / "model.tflite"]


@pytest.mark.slow
def test_verify_directory_compares_answers_not_only_hashes(copy, tmp_path):
    keras.utils.set_random_seed(1)  # other weights than the exported model's
    other = keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(400), layers.Dense(3)]
    )
    export(other, tmp_path / "other", "model", ["saved_model"], verbose=False)
    version = tmp_path / "other" / "model" / "1"
    shutil.copy(golden_path(copy / "1"), golden_path(version))
    write_manifest(version)
    (_, problem), *_ = verify_directory(version.parent)
    assert "is not the model that was exported" in problem


def test_verify_directory_refuses_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no exported model"):
        list(verify_directory(tmp_path))


def test_saved_model_holds_every_weight_once(exported):
    data = exported / "1" / "variables" / "variables.data-00000-of-00001"
    weights = 4 * (6 * 400 + 400 + 400 * 3 + 3)
    assert weights < data.stat().st_size < 1.2 * weights
