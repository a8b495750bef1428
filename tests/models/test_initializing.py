# SPDX-License-Identifier: Apache-2.0
"""A student begins with layers of its teacher, exactly, or nothing changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd

WIDTH = 4


class Block(layers.Layer):
    """A composite layer, such as a transformer's."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(WIDTH, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return x + self.inner(x)


class Encoder(layers.Layer):
    def __init__(self, depth, **kwargs):
        super().__init__(**kwargs)
        # Numbered by Keras: block, block_1, ... in the first model only.
        self.blocks = [Block() for _ in range(depth)]

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def stack(depth, classes=3):
    """Blocks side by side in one model."""
    x = keras.Input((WIDTH,))
    y = layers.Dense(WIDTH, name="embed")(x)
    for index in range(depth):
        y = layers.Dense(WIDTH, name=f"block_{index}")(y)
    return filled(keras.Model(x, layers.Dense(classes, name="head")(y)))


def nested(depth):
    """The same as a backbone in a model, named by Keras."""
    x = keras.Input((WIDTH,))
    backbone = stack(depth)
    return filled(keras.Model(x, layers.Dense(2, name="scores")(backbone(x))))


def composite(depth):
    """Blocks that no graph shows: in a layer in the model."""
    x = keras.Input((WIDTH,))
    y = Encoder(depth, name="encoder")(x)
    return filled(keras.Model(x, layers.Dense(3, name="head")(y)))


def filled(model):
    """Gives every weight of every model a value of its own."""
    for weight in model.weights:
        weight.assign(np.random.default_rng().normal(size=weight.shape))
    return model


def weights(model, path):
    layer = model
    for part in path.split("/"):
        layers = layer._flatten_layers(recursive=False, include_self=False)
        (layer,) = (inner for inner in layers if inner.name == part)
    return layer.get_weights()


def assert_copied(teacher, student, pairs):
    for own, theirs in pairs.items():
        for a, b in zip(
            weights(student, own), weights(teacher, theirs), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("of", "to", "chosen"),
    [
        (12, 6, [0, 2, 4, 7, 9, 11]),  # DistilBERT's own script
        (6, 3, [0, 2, 5]),
        (6, 2, [0, 5]),
        (4, 4, [0, 1, 2, 3]),
        (3, 1, [0]),
    ],
)
def test_every_other_layer_is_chosen_as_for_distilbert(of, to, chosen):
    teacher, student = stack(of), stack(to)
    pairs = kd.initialize_from(teacher, student)
    blocks = {f"block_{i}": f"block_{j}" for i, j in enumerate(chosen)}
    assert pairs == {"embed": "embed", **blocks, "head": "head"}
    assert_copied(teacher, student, pairs)


@pytest.mark.parametrize("build", [nested, composite])
def test_every_other_layer_is_found_in_models_and_layers(build):
    teacher, student = build(4), build(2)
    pairs = kd.initialize_from(teacher, student)
    assert len(pairs) == (5 if build is nested else 3)
    assert all("/" in path for path in list(pairs)[:-1])
    assert_copied(teacher, student, pairs)
    assert "_3" in list(pairs.values())[-3 if build is nested else -2]


def test_layers_are_named_by_path_or_by_attribute():
    teacher, student = composite(4), composite(2)
    kd.initialize_from(
        teacher, student, {"encoder/blocks/1": "encoder/blocks/2"}
    )
    own, theirs = (m.get_layer("encoder").blocks for m in (student, teacher))
    kept = own[0].get_weights()[0]
    np.testing.assert_array_equal(own[1].inner.kernel, theirs[2].inner.kernel)
    path = f"encoder/{theirs[3].name}/inner"
    kd.initialize_from(teacher, student, {"encoder/blocks/1/inner": path})
    np.testing.assert_array_equal(own[1].inner.kernel, theirs[3].inner.kernel)
    np.testing.assert_array_equal(own[0].get_weights()[0], kept)


def test_new_head_of_the_student_stays_as_it_is():
    teacher, student = nested(3), stack(3)
    head = student.get_layer("head").get_weights()
    backbone = teacher.layers[1].name
    pairs = {f"block_{i}": f"{backbone}/block_{i}" for i in range(3)}
    assert kd.initialize_from(teacher, student, pairs) == pairs
    np.testing.assert_array_equal(
        student.get_layer("head").get_weights()[0], head[0]
    )


def test_every_other_leaves_what_has_no_match():
    pairs = kd.initialize_from(stack(1), composite(1))
    assert pairs == {"head": "head"}


def test_adapted_statistics_come_with_the_weights():
    def build():
        scale = layers.Normalization(name="scale")
        return keras.Sequential([keras.Input((WIDTH,)), scale])

    teacher, student = build(), build()
    x = np.random.default_rng(0).normal(5.0, 2.0, (32, WIDTH))
    teacher.layers[0].adapt(x)
    kd.initialize_from(teacher, student)
    np.testing.assert_allclose(student(x), teacher(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"block_0": "block_1", "head": "embed"},
            r"'head'.*4, 3\).*4, 4\)",
        ),
        ({"block_0": "block_9"}, r"'block_9'.*is no 'block_9'.*mean 'block_"),
        ({"blok_0": "block_0"}, r"no layer 'blok_0'.*mean 'block_0'"),
        ({"block_0": "layers"}, "the path of one layer. Received: a list"),
        ({"block_0": "layers/77"}, "is no '77'"),
        ({}, "No layer of .* matches"),
        ("all", "must be {student layer: teacher layer} or 'every other'"),
    ],
    ids=str,
)
def test_nothing_is_changed_on_an_error(chosen, message):
    teacher, student = stack(4), stack(2)
    before = student.get_weights()
    with pytest.raises(ValueError, match="(?s)" + message):
        kd.initialize_from(teacher, student, chosen)
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        (lambda: stack(2), lambda: stack(3), "has 3 layers like 'block_0'"),
        (lambda: stack(2, classes=5), lambda: stack(2), "'head'.*'head'"),
        (
            lambda: stack(1),
            lambda: keras.Sequential([layers.Dense(3, name="head")]),
            "has no weights yet",
        ),
    ],
    ids=["deeper", "classes", "unbuilt"],
)
def test_every_other_of_models_that_do_not_fit(teacher, student, message):
    teacher, student = teacher(), student()
    with pytest.raises(ValueError, match="(?s)" + message):
        kd.initialize_from(teacher, student)


def test_student_of_a_kerashub_task_begins_with_its_teachers_layers():
    import keras_hub

    def bert(depth):
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=20,
            num_layers=depth,
            num_heads=2,
            hidden_dim=4,
            intermediate_dim=4,
            max_sequence_length=6,
        )
        return keras_hub.models.BertTextClassifier(backbone, num_classes=3)

    teacher, student = bert(4), bert(2)
    pairs = kd.initialize_from(teacher, student)
    assert len(pairs) == 4 + 2 + 1 + 1  # embeddings, blocks, pooler, head
    assert_copied(teacher, student, pairs)
    one = {"backbone/transformer_layer_1": "backbone/transformer_layer_2"}
    kd.initialize_from(teacher, student, one)
    np.testing.assert_array_equal(
        student.backbone.get_layer("transformer_layer_1").get_weights()[0],
        teacher.backbone.get_layer("transformer_layer_2").get_weights()[0],
    )
