# SPDX-License-Identifier: Apache-2.0
"""Removing channels: exact where they were dead, refused where unclear."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
import wired_models
from keras_kd.pruning.structured.groups import choose
from keras_kd.pruning.structured.groups import groups_of
from keras_kd.pruning.structured.kinds import TRANSPOSED
from keras_kd.pruning.structured.surgery import cut
from keras_kd.pruning.structured.trace import trace

SMALL = pytest.mark.parametrize(
    "build", wired_models.SMALL, ids=lambda build: build.__name__
)


def randomise(model, seed=1):
    """Gives every weight a value of its own, also those that start equal."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if "kernel" in variable.name or "embeddings" in variable.name:
            continue
        values = generator.uniform(0.2, 1.0, variable.shape)
        if variable.name in ("bias", "beta", "moving_mean"):
            values *= generator.choice([-0.5, 0.5], variable.shape)
        variable.assign(values)
    return model


def batch(model, size=4, seed=0):
    generator = np.random.default_rng(seed)

    def one(tensor):
        shape = (size, *tensor.shape[1:])
        if tensor.dtype == "int32":
            return generator.integers(0, 20, shape).astype("int32")
        return generator.normal(size=shape).astype("float32")

    if isinstance(model, keras.Sequential):
        return one(model.inputs[0])
    return keras.tree.map_structure(one, model.input)


def answers(model, x):
    outputs = keras.tree.flatten(model(x, training=False))
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def distance(first, second):
    """Largest difference of any output, relative to the largest value."""
    pairs = zip(first, second, strict=True)
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)


def random_half(model, seed=0):
    """Returns the graph and, for each channel, whether it stays."""
    graph, generator = trace(model), np.random.default_rng(seed)
    kept = np.ones(graph.size, bool)
    names = [layer.name for layer in model.layers]
    for group in choose(groups_of(graph), names, 0.5, None, ()):
        count = len(group.channels) - group.kept()
        kept[generator.choice(group.channels, count, replace=False)] = False
    return graph, kept


def kill(graph, kept):
    """Sets channels to zero in the model itself, wherever they are made."""
    for traced in graph.layers.values():
        layer = traced.layer
        if not layer.weights:
            continue
        dead = ~kept[graph.roots(traced.ids_out)]
        vectors = {"bias", "gamma", "beta"}
        if getattr(layer, "scale", True) is False:
            vectors.add("moving_mean")  # no gamma to set to zero
        for variable in layer.weights:
            values = variable.numpy()
            if variable.name in vectors:
                values[dead] = 0.0
            elif variable.name in ("pointwise_kernel", "embeddings"):
                values[..., dead] = 0.0
            elif variable.name == "kernel" and isinstance(layer, TRANSPOSED):
                values[..., dead, :] = 0.0
            elif variable.name == "kernel" and traced in graph.producers:
                values[..., dead] = 0.0
            variable.assign(values)


def check_exact(model, tolerance):
    randomise(model)
    x, alive = batch(model), answers(model, batch(model))
    graph, kept = random_half(model)
    changed = distance(alive, answers(cut(model, graph, kept), x))
    kill(graph, kept)
    expected = answers(model, x)
    smaller, record = kd.prune_channels(model, 0.5)
    assert distance(expected, answers(smaller, x)) < tolerance
    # The same cut of living channels is seen, so the answers do tell.
    assert changed > 1e-3
    assert record.metrics["parameters"] == smaller.count_params()
    assert smaller.count_params() < 0.6 * model.count_params()
    return smaller


@SMALL
def test_dead_channels_leave_without_a_trace(build):
    model = build()
    smaller = check_exact(model, tolerance=2e-6)
    assert type(smaller) is type(model)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in smaller.layers] == names


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", wired_models.REAL, ids=lambda build: build.__name__
)
def test_dead_channels_leave_real_models_without_a_trace(build):
    check_exact(build(), tolerance=2e-5)


def two_convolutions(**options):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu", name="first", **options),
            layers.Conv2D(16, 3, activation="relu", name="second", **options),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, name="scores"),
        ]
    )


def parameters(first, second):
    return (
        (27 * first + first)
        + (9 * first * second + second)
        + (second * 10 + 10)
    )


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        (dict(ratio=0.5), (4, 8)),
        (dict(ratio=0.3), (6, 12)),  # 2.4 and 4.8 channels, rounded down
        (dict(ratio=0.99), (1, 1)),
        (dict(ratio=0.6, multiple_of=4), (4, 8)),
        (dict(ratio=0.5, exclude=["first"]), (8, 8)),
        (dict(ratio=0.5, include=["first"]), (4, 16)),
        (dict(include=[layers.Conv2D], exclude=["second"]), (4, 16)),
        (dict(ratio={"first": 0.25}), (6, 16)),
        (dict(ratio={"first": 0.25, "second": 0.75}), (6, 4)),
    ],
)
def test_prune_channels_leaves_the_size_asked_for(arguments, widths):
    model = two_convolutions()
    before = [w.copy() for w in model.get_weights()]
    smaller, record = kd.prune_channels(model, **arguments)
    assert smaller.count_params() == parameters(*widths)
    assert record.metrics["parameters"] == parameters(*widths)
    assert record.metrics["parameters_before"] == parameters(8, 16)
    assert record.metrics["layers"]["first"] == {
        "channels_before": 8,
        "channels": widths[0],
    }
    assert record.metrics["channels"] == sum(widths) + 10
    assert json.loads(json.dumps(record.to_json())) == record.to_json()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_are_chosen_by_class_also_inside_nested_models():
    x = keras.Input((8, 8, 3))
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(8, 3, name="conv")], name="inner"
    )
    y = layers.Flatten()(layers.Conv2D(6, 3, name="conv2")(inner(x)))
    y = layers.Dense(10, name="hidden")(y)
    model = keras.Model(x, layers.Dense(2, name="scores")(y))
    # The last Dense makes the answers: it is passed over, not refused.
    smaller, record = kd.prune_channels(model, include=[layers.Dense])
    assert smaller.get_layer("hidden").units == 5
    assert smaller.get_layer("conv2").filters == 6
    assert record.settings["include"] == ["hidden"]
    smaller, record = kd.prune_channels(model, exclude=[layers.Dense])
    assert smaller.get_layer("hidden").units == 10
    assert smaller.get_layer("inner").get_layer("conv").filters == 4
    smaller, _ = kd.prune_channels(model, include=[layers.Conv2D])
    assert smaller.get_layer("conv2").filters == 3
    assert smaller.get_layer("inner").get_layer("conv").filters == 4


def test_magnitude_keeps_the_largest_filters_as_they_are():
    model = two_convolutions()
    first = model.get_layer("first")
    norms = np.array([3, 0.1, 2, 0.2, 5, 4, 0.3, 0.4], "float32")
    kernel = first.kernel.numpy()
    kernel *= norms / np.linalg.norm(kernel.reshape(-1, 8), axis=0)
    first.kernel.assign(kernel)
    smaller, _ = kd.prune_channels(model, {"first": 0.5})
    stay = [0, 2, 4, 5]
    np.testing.assert_array_equal(
        smaller.get_layer("first").kernel, kernel[..., stay]
    )
    np.testing.assert_array_equal(
        smaller.get_layer("second").kernel,
        model.get_layer("second").kernel.numpy()[:, :, stay],
    )


def test_tied_layers_vote_alike_whatever_their_scale():
    x = keras.Input((3,))
    y = layers.Add()(
        [layers.Dense(4, name=n, use_bias=False)(x) for n in ("a", "b")]
    )
    model = keras.Model(x, layers.Dense(2)(y))
    # Summed as they are, "a" would decide alone, for 1 and 3.
    ones = np.ones((3, 4))
    model.get_layer("a").kernel.assign(100 * ones * [10, 20, 15, 50])
    model.get_layer("b").kernel.assign(ones * [9, 1, 1, 1])
    smaller, _ = kd.prune_channels(model, 0.5)
    for name in ("a", "b"):
        np.testing.assert_array_equal(
            smaller.get_layer(name).kernel,
            model.get_layer(name).kernel.numpy()[:, [0, 3]],
        )


def test_scale_keeps_the_channels_of_large_batch_norm_scales():
    model = wired_models.batch_norm_cnn()
    model.get_layer("first_norm").gamma.assign([1, -3, 0.1, 2, 0.2, 0.0])
    smaller, _ = kd.prune_channels(model, 0.5, by="scale", include=["first"])
    np.testing.assert_array_equal(
        smaller.get_layer("first_norm").gamma, [1, -3, 2]
    )
    np.testing.assert_array_equal(
        smaller.get_layer("first").kernel,
        model.get_layer("first").kernel.numpy()[..., [0, 1, 3]],
    )


@pytest.mark.parametrize("kind", ["array", "pair", "dataset", "data"])
def test_activation_keeps_the_channels_that_answer_to_the_data(kind):
    model = two_convolutions()
    # The largest filters of all, but the bias keeps them silent on the data.
    first, silent = model.get_layer("first"), [0, 3, 4, 6]
    kernel, bias = first.kernel.numpy(), np.zeros(8)
    kernel[..., silent] *= 5
    bias[silent] = -1000.0
    first.set_weights([kernel, bias])
    x, y = batch(model, 10), np.zeros(10)
    data = {
        "array": x,
        "pair": (x, y),
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(4),
        "data": kd.Data(train=(x, y), validation=(x, y)),
    }[kind]
    smaller, _ = kd.prune_channels(model, 0.5, data, by="activation")
    np.testing.assert_array_equal(smaller.get_layer("first").bias, np.zeros(4))
    if kind == "data":
        by_norm, _ = kd.prune_channels(model, 0.5)
        assert (by_norm.get_layer("first").bias.numpy() == -1000).all()


@pytest.mark.parametrize(
    "build",
    [
        wired_models.nested,
        wired_models.dense_block,
        wired_models.two_outputs,
        wired_models.flatten_and_dense,
    ],
    ids=lambda build: build.__name__,
)
def test_activation_sees_every_wiring(build):
    model = randomise(build())
    smaller, _ = kd.prune_channels(model, 0.5, batch(model), by="activation")
    assert smaller.count_params() < 0.6 * model.count_params()


def test_smaller_model_keeps_settings():
    model = two_convolutions(
        kernel_regularizer=keras.regularizers.L2(0.01),
        dtype="mixed_bfloat16",
    )
    model.get_layer("first").trainable = False
    smaller, _ = kd.prune_channels(model, 0.5)
    for old, new in zip(model.layers, smaller.layers, strict=True):
        assert old.trainable == new.trainable
        assert old.dtype_policy == new.dtype_policy
    assert len(smaller.trainable_weights) == len(model.trainable_weights)
    assert smaller.get_layer("second").kernel_regularizer.l2 == np.float32(0.01)
    assert not smaller.compiled


def test_smaller_model_keeps_what_is_frozen_in_a_nested_one():
    model = wired_models.nested()
    inner = model.get_layer("inner")
    inner.trainable = False
    inner.get_layer("deep").trainable = True
    smaller, _ = kd.prune_channels(model, 0.5)
    twin = smaller.get_layer("inner")
    assert not twin.trainable
    assert not twin.get_layer("deep_norm").trainable
    assert twin.get_layer("deep").trainable


def test_smaller_model_saves_loads_and_exports(tmp_path):
    model = wired_models.residual()
    model.compile("adam", "mse")
    smaller, _ = kd.prune_channels(model, 0.5)
    x = batch(smaller)
    expected = answers(smaller, x)
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.saving.load_model(tmp_path / "smaller.keras")
    np.testing.assert_array_equal(answers(loaded, x)[0], expected[0])
    smaller.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(loaded.serve(x), expected[0], atol=1e-6)


class Mine(layers.Layer):
    def call(self, x):
        return x


def with_layer(layer, rank=4):
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="before")(x)
    y = layers.Reshape((36, 4))(y) if rank == 3 else y
    y = layers.Flatten()(layer(y))
    y = layers.Dense(6, name="after")(y)
    return keras.Model(x, layers.Dense(2, name="scores")(y))


UNSUPPORTED = {
    "layer norm": (lambda: layers.LayerNormalization(name="odd"), 4),
    "group norm": (lambda: layers.GroupNormalization(2, name="odd"), 4),
    "softmax": (lambda: layers.Softmax(name="odd"), 4),
    "softmax activation": (lambda: layers.Activation("softmax", name="odd"), 4),
    "softmax convolution": (
        lambda: layers.Conv2D(4, 1, activation="softmax", name="odd"),
        4,
    ),
    "groups": (lambda: layers.Conv2D(4, 1, groups=2, name="odd"), 4),
    "rows normalised": (lambda: layers.BatchNormalization(1, name="odd"), 4),
    "channels merged": (lambda: layers.Reshape((6, 24), name="odd"), 4),
    "permute": (lambda: layers.Permute((3, 1, 2), name="odd"), 4),
    "lambda": (lambda: layers.Lambda(lambda x: x, name="odd"), 4),
    "own layer": (lambda: Mine(name="odd"), 4),
    "recurrent": (lambda: layers.LSTM(4, name="odd"), 3),
    "wrapper": (
        lambda: layers.TimeDistributed(layers.Dense(3), name="odd"),
        3,
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_layer_is_named_and_can_be_passed(kind):
    build, rank = UNSUPPORTED[kind]
    model = with_layer(build(), rank)
    with pytest.raises(ValueError, match="In the way: 'odd'") as caught:
        kd.prune_channels(model)
    # What the message advises works, and leaves the rest to be pruned.
    advice = str(caught.value).partition("exclude=")[2].rstrip(".")
    exclude = json.loads(advice.replace("'", '"'))
    smaller, _ = kd.prune_channels(model, exclude=exclude)
    assert smaller.get_layer("after").units == 3
    graph = trace(model)
    whole = choose(groups_of(graph), exclude, 0.5, None, exclude)
    assert all(not group.blocked for group in whole)


def test_attention_is_refused():
    x = keras.Input((5, 4))
    y = layers.Dense(8, name="embed")(x)
    y = layers.Add()([y, layers.MultiHeadAttention(2, 4, name="look")(y, y)])
    y = layers.GlobalAveragePooling1D()(layers.Dense(6, name="mlp")(y))
    model = keras.Model(x, layers.Dense(2)(y))
    with pytest.raises(ValueError, match="'look' .*exclude=.'embed'."):
        kd.prune_channels(model)
    smaller, _ = kd.prune_channels(model, exclude=["embed"])
    assert smaller.get_layer("mlp").units == 3


def subclassed():
    class Net(keras.Model):
        def call(self, x):
            return x

    return Net()


REFUSED = {
    "ratio": (two_convolutions, dict(ratio=1.0), "between 0 and 1"),
    "no ratio": (two_convolutions, dict(ratio={}), "between 0 and 1"),
    "criterion": (two_convolutions, dict(by="luck"), "'activation'"),
    "multiple": (two_convolutions, dict(multiple_of=0), "at least 1"),
    "string": (two_convolutions, dict(exclude="first"), "a list of layer"),
    "class": (two_convolutions, dict(include=layers.Dense), "a list of layer"),
    "no such class": (
        two_convolutions,
        dict(exclude=[layers.Conv1D]),
        r"Conv1D. Their classes: \['Conv2D', 'Dense'\]",
    ),
    "name": (two_convolutions, dict(exclude=["fist"]), "Near names.*'first'"),
    "ratio name": (two_convolutions, dict(ratio={"firs": 0.5}), "'first'"),
    "output": (
        two_convolutions,
        dict(include=["scores"]),
        "'scores' has no channels that may be removed",
    ),
    "nothing": (
        two_convolutions,
        dict(exclude=["first", "second"]),
        "no channels to remove",
    ),
    "no data": (two_convolutions, dict(by="activation"), "Pass `data`"),
    "no scale": (
        two_convolutions,
        dict(by="scale"),
        r"exclude=\['first', 'second'\]",
    ),
    "tied": (
        wired_models.residual,
        dict(ratio={"stem": 0.5, "conv2d": 0.25}),
        "must have one ratio",
    ),
    "no graph": (subclassed, {}, "without a graph"),
    "channels first": (
        lambda: two_convolutions(data_format="channels_first", padding="same"),
        {},
        "'first' with data_format='channels_first'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_prune_channels_refuses(case):
    build, arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        kd.prune_channels(build(), **arguments)


@pytest.mark.parametrize(
    "last", [layers.Activation("softmax"), layers.Softmax()], ids=type
)
def test_softmax_as_a_last_layer_needs_no_exclude(last):
    x = keras.Input((6,))
    y = layers.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(x, last(layers.Dense(3, name="classes")(y)))
    small, _ = kd.prune_channels(model, 0.5)
    assert small.get_layer("hidden").units == 4
    assert small.get_layer("classes").units == 3
    # In the middle it mixes what would be cut.
    between = keras.Model(
        x, layers.Dense(3)(type(last).from_config(last.get_config())(y))
    )
    with pytest.raises(ValueError, match="softmax .*exclude=\\['hidden'\\]"):
        kd.prune_channels(between, 0.5)
