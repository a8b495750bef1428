# SPDX-License-Identifier: Apache-2.0
"""StageFolder: done once, done again when something changed."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.core import stage_cache
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.core.stage_cache import fingerprint_of_model
from keras_kd.core.stage_cache import fingerprint_of_split


def tiny():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


class Stage:
    """A stage that counts how often it is made."""

    def __init__(self):
        self.made = 0

    def __call__(self):
        self.made += 1
        record = StageRecord("student", "student", metrics={"n": self.made})
        return tiny(), record


@pytest.fixture
def stages(tmp_path):
    return StageFolder(tmp_path / "stages")


def test_stage_is_made_once(stages):
    stage = Stage()
    first = stages.run("a", {"epochs": 1}, stage)
    again = StageFolder(stages.directory).run("a", {"epochs": 1}, stage)
    assert stage.made == 1
    assert again == first


def test_stage_is_made_again_when_its_settings_change(stages):
    stage = Stage()
    stages.run("a", {"epochs": 1}, stage)
    stages.run("a", {"epochs": 2}, stage)
    assert stage.made == 2


def test_builder_is_known_by_the_weights_it_loads_not_by_those_it_draws():
    plain = fingerprint_of_model(tiny(), weights=False)
    assert fingerprint_of_builder(tiny) == plain

    def loading(kernel):
        def build():
            model = tiny()
            model.set_weights([kernel, np.zeros(2)])
            return model

        return build

    kernel = np.arange(6.0).reshape(3, 2)
    first, again, other = (
        fingerprint_of_builder(loading(given))
        for given in (kernel, kernel, kernel + 1.0)
    )
    assert first == again
    assert len({plain, first, other}) == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "record"])
def test_stage_is_made_again_when_a_file_is_damaged(stages, damage):
    stage = Stage()
    stages.run("a", {}, stage)
    path = stages.directory / "a.keras"
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "missing":
        path.unlink()
    else:
        (stages.directory / "a.json").write_text('{"stage": ')
    record = stages.run("a", {}, stage)
    assert stage.made == 2
    assert stages.model(record).count_params() == 8


def test_stage_that_fails_leaves_the_old_result(stages):
    stages.run("a", {"epochs": 1}, Stage())

    def fails():
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError):
        stages.run("a", {"epochs": 2}, fails)
    stage = Stage()
    stages.run("a", {"epochs": 1}, stage)
    assert stage.made == 0


def test_fingerprint_of_model_ignores_layer_numbers_but_not_weights():
    first, second = tiny(), tiny()
    assert first.layers[0].name != second.layers[0].name
    assert fingerprint_of_model(first, weights=False) == fingerprint_of_model(
        second, weights=False
    )
    assert fingerprint_of_model(first) != fingerprint_of_model(second)
    second.set_weights(first.get_weights())
    assert fingerprint_of_model(first) == fingerprint_of_model(second)


def test_fingerprint_of_model_sees_the_architecture():
    wide = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    tanh = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
    prints = {
        fingerprint_of_model(model, weights=False)
        for model in (tiny(), wide, tanh)
    }
    assert len(prints) == 3


def test_fingerprint_of_model_sees_what_a_layer_reads():
    def build(skip):
        layers = keras.layers
        inputs = keras.Input((4,))
        first = layers.Dense(4)(inputs)
        second = layers.Dense(4)(first)
        third = layers.Dense(4)(second)
        outputs = layers.Add()([third, [first, second][skip]])
        return keras.Model(inputs, outputs)

    one, same, other = (
        fingerprint_of_model(build(skip), weights=False) for skip in (0, 0, 1)
    )
    assert one == same != other


def test_fingerprint_of_model_sees_names_that_were_chosen():
    def build(first, second):
        return keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(3, name=first),
                keras.layers.Dense(3, name=second),
            ]
        )

    one = fingerprint_of_model(build("hidden", "other"), weights=False)
    turned = fingerprint_of_model(build("other", "hidden"), weights=False)
    assert one != turned  # a loss may ask for "hidden"


def test_fingerprint_of_split_sees_one_changed_value():
    x, y = np.zeros((4, 3), "float32"), np.zeros(4, "int32")
    other = x.copy()
    other[3, 2] = 1e-7
    assert fingerprint_of_split((x, y)) == fingerprint_of_split((x + 0, y))
    assert fingerprint_of_split((x, y)) != fingerprint_of_split((other, y))
    assert fingerprint_of_split((x, y)) != fingerprint_of_split((x, y + 1))


def dataset(x, y, batch=2):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def test_fingerprint_of_dataset_sees_one_changed_label_in_any_order():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    one = fingerprint_of_split(dataset(x, y))
    assert fingerprint_of_split(dataset(x[::-1], y[::-1])) == one
    assert fingerprint_of_split(dataset(x, y + (y == 3))) != one
    assert fingerprint_of_split(dataset(x, y[::-1])) != one
    assert fingerprint_of_split(dataset(x, y, batch=3)) != one
    text = fingerprint_of_split(dataset(x.astype(str), y))
    assert fingerprint_of_split(dataset((x + 1.0).astype(str), y)) != text


def test_fingerprint_of_dataset_with_a_name_reads_nothing():
    def never():
        raise AssertionError("it was read")
        yield

    spec = tf.TensorSpec((None, 3)), tf.TensorSpec((None,))
    data = tf.data.Dataset.from_generator(never, output_signature=spec)
    one, same, other = (
        fingerprint_of_split(data, name) for name in ("a 1", "a 1", "a 2")
    )
    assert one == same != other


def test_fingerprint_of_dataset_without_an_end_is_refused():
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="must end"):
        fingerprint_of_split(dataset(x, x).repeat())


def test_stage_is_made_again_with_another_version_of_a_package(
    tmp_path, monkeypatch
):
    said, stage = [], Stage()
    stages = StageFolder(tmp_path, said.append)
    stages.run("a", {}, stage)
    other = {**stage_cache.versions(), "keras": "2.0"}
    monkeypatch.setattr(stage_cache, "versions", lambda: other)
    stages.run("a", {}, stage)
    assert stage.made == 2
    assert "doing it again with" in said[-1] and "'2.0'" in said[-1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"n": 1', '"n": 9'),  # a figure
        ('"n"', '"m"'),  # a name
        ('"seal"', '"seam"'),
        ('"metrics": {', '"metrics": [], "": {'),
    ],
)
def test_record_that_was_edited_is_not_believed(tmp_path, old, new):
    said, stage = [], Stage()
    stages = StageFolder(tmp_path, said.append)
    stages.run("a", {}, stage)
    path = tmp_path / "a.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match="a.json is"):
        StageRecord.load(path)
    assert stages.run("a", {}, stage).metrics == {"n": 2}
    assert "doing it again" in said[-1]


def test_record_of_before_it_had_a_seal_is_read(tmp_path):
    record = StageRecord("student", "student", {"seed": 0}, {"accuracy": 0.5})
    path = tmp_path / "a.json"
    record.save(path)
    assert StageRecord.load(path) == record
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(json.dumps(content))
    assert StageRecord.load(path) == record
    # Of now, and without: somebody took it off.
    content["settings"]["made_with"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="checksum is missing"):
        StageRecord.load(path)
