# SPDX-License-Identifier: Apache-2.0
"""Pruning: exact masks in every kind of fit, and an ordinary model after."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd.core.copying import copy_of
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.pruning import Pruning
from keras_kd.pruning import import_tfmot
from keras_kd.pruning import prunable_kernels
from keras_kd.pruning import prune
from keras_kd.pruning import sparsity_of
from keras_kd.pruning.tfmot import import_engine
from keras_kd.targets.attached import attach_targets
from replicas import two_replicas
from selection import quick

FEATURES, CLASSES = 12, 4


def arrays(count=160, seed=0):
    """Four noisy clusters: learnable in a few steps."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(CLASSES, FEATURES)) * 2
    y = generator.integers(CLASSES, size=count)
    x = centres[y] + generator.normal(size=(count, FEATURES))
    return x.astype("float32"), y


def dense_model():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.BatchNormalization(),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def two_kernels():
    """As few variables as there can be: each takes long to trace."""
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(24, "relu", use_bias=False, name="hidden"),
            layers.Dense(CLASSES, use_bias=False, name="logits"),
        ]
    )


def linear_model():
    """The least that can be pruned."""
    layer = layers.Dense(CLASSES, use_bias=False, name="logits")
    return keras.Sequential([keras.Input((FEATURES,)), layer])


def compiled(model, optimizer=None, **options):
    model.compile(
        optimizer or keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model


def fit(model, pruning, epochs=3, callbacks=(), **options):
    x, y = arrays()
    return model.fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        verbose=0,
        callbacks=[pruning, *callbacks],
        **options,
    )


def values(model):
    return [weight.numpy() for weight in model.weights]


def assert_sparse(kernels, sparsity):
    """Each kernel has its share of zeros, up to one weight."""
    for path, variable in kernels:
        kernel = variable.numpy()
        assert abs(np.mean(kernel == 0) - sparsity) <= 1 / kernel.size, path


class MasksAreExact(keras.callbacks.Callback):
    """Checks at each batch end that sparsity is as the schedule says."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        step = len(self.seen) + 1
        goal = float(self.pruning.schedule_in_use(tf.constant(step))[1])
        assert_sparse(self.pruning.kernels, goal)
        self.seen.append(goal)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "decay": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "accumulated": lambda: keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=2
    ),
}


@pytest.mark.parametrize("optimizer", quick(1, OPTIMIZERS))
def test_pruning_is_exact_after_every_batch(optimizer):
    model = compiled(two_kernels(), OPTIMIZERS[optimizer]())
    pruning = Pruning(0.75)
    check = MasksAreExact(pruning)
    fit(model, pruning, callbacks=[check])
    assert len(check.seen) == 30 and check.seen[0] < check.seen[-1] == 0.75
    assert_sparse(pruning.kernels, 0.75)
    assert [path for path, _ in pruning.kernels] == [
        "hidden/kernel",
        "logits/kernel",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "jit_compile"),
    [
        ("float32", True),
        ("float32", False),
        ("mixed_float16", True),
        ("mixed_bfloat16", True),
    ],
)
def test_pruning_is_exact_with_xla_and_mixed_precision(policy, jit_compile):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(dense_model(), jit_compile=jit_compile)
    finally:
        keras.config.set_dtype_policy("float32")
    pruning = Pruning(0.75)
    fit(model, pruning, callbacks=[MasksAreExact(pruning)])
    assert_sparse(pruning.kernels, 0.75)


@pytest.mark.parametrize("steps_per_execution", quick(1, [3, 10]))
def test_pruning_misses_no_step_inside_an_execution(steps_per_execution):
    model = compiled(two_kernels(), steps_per_execution=steps_per_execution)
    schedule = import_tfmot().sparsity.keras.PolynomialDecay(
        0.0, 0.8, begin_step=0, end_step=14, frequency=7
    )
    pruning = Pruning(schedule=schedule)
    with_zeros = []
    observe = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: with_zeros.append(
            sparsity_of(pruning.kernels)
        )
    )
    fit(model, pruning, epochs=2, callbacks=[observe])
    # Neither 7 nor 14 is a multiple of 3 or 10.
    assert_sparse(pruning.kernels, 0.8)
    assert with_zeros == sorted(with_zeros)


def test_pruning_masks_stay_fixed_after_the_ramp():
    model = compiled(two_kernels())
    zeros = []
    pruning = Pruning(0.8, end_step=10)
    observe = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: zeros.append(
            model.get_layer("hidden").kernel.numpy() == 0
        )
    )
    history = fit(model, pruning, epochs=3, callbacks=[observe])
    np.testing.assert_array_equal(zeros[0], zeros[2])
    assert history.history["sparsity"] == pytest.approx([0.8] * 3, abs=0.01)
    # Canonical zeros: no -0.0, which packs worse.
    kernel = model.get_layer("hidden").kernel.numpy()
    assert not np.signbit(kernel[kernel == 0]).any()


def test_pruning_accepts_constant_sparsity():
    schedule = import_tfmot().sparsity.keras.ConstantSparsity(
        0.5, begin_step=5, frequency=1
    )
    pruning = Pruning(schedule=schedule)
    history = fit(compiled(linear_model()), pruning, epochs=1)
    assert_sparse(pruning.kernels, 0.5)
    assert history.history["sparsity"] == [sparsity_of(pruning.kernels)]


@pytest.mark.parametrize("steps", [1, 7, 1003, 54321])
def test_default_schedule_reaches_the_target_and_leaves_time(steps):
    pruning = Pruning(0.8)
    pruning.set_model(compiled(dense_model()))
    pruning.set_params({"epochs": 1, "steps": steps})
    pruning.on_train_begin()
    config = pruning.schedule_in_use.get_config()["config"]
    end, frequency = config["end_step"], config["frequency"]
    assert end % frequency == 0
    assert steps == 1 or 0.5 * steps < end <= 0.7 * steps
    assert end / frequency < 60


@pytest.mark.slow
def test_pruning_block_and_m_by_n():
    pruning = Pruning(0.5, block_size=(2, 2))
    fit(compiled(dense_model()), pruning)
    hidden = pruning.kernels[0][1].numpy()
    blocks = hidden.reshape(6, 2, 12, 2).transpose(0, 2, 1, 3).reshape(72, 4)
    assert set((blocks == 0).sum(axis=1)) == {0, 4}
    assert np.mean(hidden == 0) == 0.5

    pruning = Pruning(sparsity_m_by_n=(2, 4))
    fit(compiled(dense_model()), pruning)
    hidden = pruning.kernels[0][1].numpy()
    groups = hidden.T.reshape(-1, 4)
    assert ((groups == 0).sum(axis=1) == 2).all()


def test_global_threshold_takes_the_smallest_weights_wherever_they_are():
    """Its witness: all magnitudes sorted by NumPy."""
    model = compiled(two_kernels(), keras.optimizers.SGD(0.0))
    hidden, logits = model.get_layer("hidden"), model.get_layer("logits")
    logits.kernel.assign(logits.kernel * 5.0)
    weights = [hidden.kernel.numpy(), logits.kernel.numpy()]
    pruning = Pruning(0.7, threshold="global")
    fit(model, pruning)
    together = np.sort(np.abs(np.concatenate([w.ravel() for w in weights])))
    limit = together[round(0.7 * together.size)]
    for weight, layer in zip(weights, (hidden, logits), strict=True):
        expected = np.where(np.abs(weight) >= limit, weight, 0.0)
        np.testing.assert_array_equal(layer.kernel, expected)
    shares = [np.mean(layer.kernel.numpy() == 0) for layer in (hidden, logits)]
    assert shares[0] > 0.75 and shares[1] < 0.5
    assert sparsity_of(pruning.kernels) == pytest.approx(0.7, abs=0.002)


@pytest.mark.parametrize("optimizer", quick(1, ["momentum", "decay"]))
def test_global_threshold_is_exact_after_every_batch(optimizer):
    model = compiled(two_kernels(), OPTIMIZERS[optimizer]())
    pruning = Pruning(0.75, threshold="global")
    seen = []

    def check(batch, logs):
        step = len(seen) + 1
        goal = float(pruning.schedule_in_use(tf.constant(step))[1])
        assert sparsity_of(pruning.kernels) == pytest.approx(goal, abs=0.002)
        seen.append(goal)

    look = keras.callbacks.LambdaCallback(on_train_batch_end=check)
    fit(model, pruning, callbacks=[look])
    assert len(seen) == 30 and seen[-1] == 0.75


def kind_model(kind):
    """A model that holds nothing to prune but one layer of a kind."""
    if kind is layers.Embedding:
        x = keras.Input((6,), dtype="int32")
        flat = layers.Flatten()(kind(VOCABULARY, 8, name="pruned")(x))
        return keras.Model(x, layers.Dense(CLASSES, name="logits")(flat))
    flat = (layers.Dense, layers.EinsumDense, *RECURRENT)
    rank = 1 if kind in flat else int(kind.__name__[4])
    x = keras.Input((6,) * (0 if kind is layers.Dense else rank) + (8,))
    if kind in RECURRENT:
        layer = kind(8, name="pruned")
    elif kind is layers.EinsumDense:
        layer = kind("bti,ijk->btjk", (6, 4, 4), name="pruned")
    elif kind is layers.Dense:
        layer = kind(8, name="pruned")
    else:
        layer = kind(8, 3, name="pruned")
    flat = layers.Flatten()(layer(x))
    return keras.Model(x, layers.Dense(CLASSES, name="logits")(flat))


VOCABULARY = 20
RECURRENT = (layers.SimpleRNN, layers.GRU, layers.LSTM)
ON_REQUEST = (*RECURRENT, layers.Embedding)
KINDS = [
    *(layers.Dense, layers.EinsumDense),
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *ON_REQUEST,
]


@pytest.mark.parametrize("kind", quick(2, KINDS))
def test_every_kind_of_layer_is_pruned_exactly(kind):
    model = compiled(kind_model(kind), run_eagerly=True)
    rng = np.random.default_rng(0)
    shape = (32, *model.input_shape[1:])
    x = rng.normal(size=shape).astype("float32")
    if kind is layers.Embedding:
        x = rng.integers(VOCABULARY, size=shape)
    pruning = Pruning(0.6, end_step=2, include=["pruned"])
    model.fit(x, rng.integers(CLASSES, size=32), 16, 2, 0, callbacks=[pruning])
    assert len(pruning.kernels) == (2 if kind in RECURRENT else 1)
    assert_sparse(pruning.kernels, 0.6)
    by_default = [path for path, _ in prunable_kernels(kind_model(kind))]
    assert ("pruned/kernel" in by_default) == (kind not in ON_REQUEST)
    assert "pruned/embeddings" not in by_default


def test_two_of_four_holds_along_the_input_channels_of_a_convolution():
    model = compiled(kind_model(layers.Conv2D), run_eagerly=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6, 6, 8)).astype("float32")
    pruning = Pruning(sparsity_m_by_n=(2, 4), include=["pruned"])
    model.fit(x, rng.integers(CLASSES, size=32), 16, 2, 0, callbacks=[pruning])
    kernel = model.get_layer("pruned").kernel.numpy()
    groups = np.moveaxis(kernel, 2, -1).reshape(-1, 4)
    assert ((groups == 0).sum(axis=1) == 2).all()


@pytest.mark.usefixtures("eager")
def test_prune_records_layer_classes_by_name():
    _, record = prune(
        linear_model(),
        arrays(),
        0.5,
        epochs=1,
        include=[layers.Dense, "logits"],
        threshold="global",
    )
    settings = json.loads(json.dumps(record.to_json()))["settings"]
    assert settings["include"] == ["Dense", "logits"]
    assert settings["threshold"] == "global"


def test_pruning_warns_when_the_target_is_missed():
    schedule = import_tfmot().sparsity.keras.PolynomialDecay(
        0.0, 0.8, begin_step=0, end_step=10, frequency=7
    )
    with pytest.warns(UserWarning, match="frequency does not divide"):
        fit(compiled(linear_model()), Pruning(schedule=schedule))


@pytest.mark.parametrize("first", quick(1, [True, False]))
def test_pruning_survives_restored_weights(first):
    model = compiled(linear_model())
    pruning = Pruning(0.8)
    # "sparsity" only grows, so the best epoch is the first, hardly pruned.
    stop = keras.callbacks.EarlyStopping(
        "sparsity", mode="min", patience=9, restore_best_weights=True
    )
    order = [pruning, stop] if first else [stop, pruning]
    x, y = arrays()
    run = dict(batch_size=16, epochs=4, verbose=0, callbacks=order)
    if first:
        model.fit(x, y, **run)
        assert sparsity_of(pruning.kernels) < 0.79
        with pytest.warns(UserWarning, match="put back"):
            pruning.apply_masks()
    else:
        # Before Pruning at epoch ends too, so it monitors what is there.
        stop.monitor = "loss"
        stop.mode = "max"
        stop.monitor_op = None
        with pytest.warns(UserWarning, match="put back"):
            model.fit(x, y, **run)
    assert_sparse(pruning.kernels, 0.8)


def test_pruning_masks_an_averaging_optimizer():
    optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
    pruning = Pruning(0.8)
    with pytest.warns(UserWarning, match="averaging optimizer"):
        fit(compiled(linear_model(), optimizer), pruning)
    assert_sparse(pruning.kernels, 0.8)


class Interrupted(Exception):
    """Stands for a crash."""


def interrupt(epoch, logs=None):
    if epoch == 2:
        raise Interrupted


def pruned_once():
    """Prunes at step 5 only, so any later update of the masks shows."""
    schedule = import_tfmot().sparsity.keras.ConstantSparsity
    return Pruning(schedule=schedule(0.5, begin_step=5, end_step=5))


@pytest.mark.parametrize(
    ("order", "build"),
    quick(
        1,
        [
            ("pruning_first", pruned_once),
            ("backup_first", lambda: Pruning(0.8, end_step=28)),
            (
                "pruning_first",
                lambda: Pruning(0.8, end_step=28, threshold="global"),
            ),
        ],
    ),
)
def test_pruning_resumes_as_if_never_interrupted(tmp_path, order, build):
    """Epoch 3 begins at step 21: after all pruning, or amid it."""

    def run(extra=(), initial=None):
        keras.utils.set_random_seed(3)
        model = compiled(linear_model(), OPTIMIZERS["momentum"]())
        if initial is not None:
            model.set_weights(initial)
        pruning = build()
        listed = [pruning, *extra]
        if order == "backup_first":
            listed = [*extra, pruning]
        x, y = arrays()
        model.fit(
            x,
            y,
            batch_size=16,
            epochs=4,
            shuffle=False,
            verbose=0,
            callbacks=listed,
        )
        return values(model)

    whole = run()
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    crash = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(Interrupted):
        run([backup, crash])
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    # Other weights at the start prove that the backup was read.
    resumed = run([backup], initial=[np.ones_like(v) for v in whole])
    for expected, received in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(expected, received)


def test_pruning_needs_an_end_where_the_length_is_unknown():
    x, y = arrays()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    unknown = dataset.filter(lambda x, y: True)
    model = compiled(linear_model())
    with pytest.raises(ValueError, match="assert_cardinality"):
        model.fit(unknown, verbose=0, callbacks=[Pruning(0.8)])
    with pytest.raises(ValueError, match="cannot resume at epoch 1"):
        pruning = Pruning(0.8, end_step=9)
        model.fit(
            unknown, epochs=2, initial_epoch=1, verbose=0, callbacks=[pruning]
        )
    pruning = Pruning(0.8, end_step=15)
    model.fit(unknown, epochs=2, verbose=0, callbacks=[pruning])
    assert_sparse(pruning.kernels, 0.8)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", ["layer", "global"])
def test_pruning_under_mirrored_strategy(threshold):
    with two_replicas().scope():
        model = compiled(dense_model())
    pruning = Pruning(0.8, threshold=threshold)
    fit(model, pruning)
    assert sparsity_of(pruning.kernels) == pytest.approx(0.8, abs=0.003)
    if threshold == "layer":
        assert_sparse(pruning.kernels, 0.8)
    for _, variable in pruning.kernels:
        copies = [v.numpy() for v in variable.value.values]
        np.testing.assert_array_equal(copies[0], copies[1])


def rich_model():
    """A nested model, attention, and kinds that are off by default."""
    inner_input = keras.Input((6, 8))
    inner = layers.MultiHeadAttention(2, 4, name="attention")
    inner_output = inner(inner_input, inner_input)
    encoder = keras.Model(inner_input, inner_output, name="encoder")
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 8, name="embedding")(tokens)
    x = layers.LayerNormalization()(encoder(x))
    x = layers.DepthwiseConv1D(3, name="depthwise")(x)
    x = layers.SeparableConv1D(8, 2, name="separable")(x)
    x = layers.LSTM(5, name="lstm")(x)
    return keras.Model(tokens, layers.Dense(CLASSES, name="logits")(x))


ATTENTION = [
    f"encoder/attention/{name}/kernel"
    for name in ("query", "key", "value", "attention_output")
]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (
            None,
            (),
            [*ATTENTION, "separable/pointwise_kernel", "logits/kernel"],
        ),
        (
            None,
            ["encoder", "logits"],
            ["separable/pointwise_kernel"],
        ),
        (["attention"], ["key"], [p for p in ATTENTION if "key" not in p]),
        (["embedding"], (), ["embedding/embeddings"]),
        (["depthwise"], (), ["depthwise/kernel"]),
        ([layers.Embedding], (), ["embedding/embeddings"]),
        (None, [layers.MultiHeadAttention, "separable"], ["logits/kernel"]),
        (
            [layers.RNN],
            (),
            ["lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel"],
        ),
        (
            ["lstm"],
            (),
            ["lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel"],
        ),
    ],
)
def test_prunable_kernels_of_a_nested_model(include, exclude, expected):
    kernels = prunable_kernels(rich_model(), include, exclude)
    assert sorted(path for path, _ in kernels) == sorted(expected)


def test_prunable_kernels_counts_shared_layers_once_and_skips_frozen_ones():
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    frozen = layers.Dense(3, name="frozen", trainable=False)
    model = keras.Model(x, frozen(shared(shared(x))))
    assert [path for path, _ in prunable_kernels(model)] == ["shared/kernel"]


def test_prune_returns_an_ordinary_model_and_leaves_the_student(tmp_path):
    x, y = arrays(640)
    student = compiled(dense_model())
    student.fit(x, y, epochs=3, verbose=0)
    before = values(student)
    iterations = int(student.optimizer.iterations)
    accuracy = np.mean(student.predict(x, verbose=0).argmax(-1) == y)

    held_out = arrays(64, seed=1)
    data = Data(train=(x, y), validation=held_out, test=held_out)
    pruned, record = prune(
        student, data, 0.7, epochs=4, batch_size=32, exclude=["logits"]
    )

    for old, new in zip(before, values(student), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(student.optimizer.iterations) == iterations
    kernel = pruned.get_layer("hidden").kernel.numpy()
    assert round(kernel.size * 0.3) == np.count_nonzero(kernel)
    assert np.count_nonzero(pruned.get_layer("logits").kernel.numpy()) == 96
    answers = pruned.predict(x, verbose=0)
    assert np.mean(answers.argmax(-1) == y) > accuracy - 0.05
    assert type(pruned) is keras.Sequential and not pruned.compiled

    metrics = json.loads(json.dumps(record.to_json()))["metrics"]
    assert metrics["sparsity"] == np.mean(kernel == 0)
    assert metrics["parameters"] == student.count_params()
    nonzero = sum(np.count_nonzero(value) for value in values(pruned))
    assert metrics["nonzero_parameters"] == nonzero
    assert list(metrics["layers"]) == ["hidden/kernel"]
    assert (record.stage, record.name) == ("prune", "pruned")
    assert record.settings["schedule"]["config"]["final_sparsity"] == 0.7

    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), answers)
    assert len(loaded.weights) == len(student.weights)


@pytest.mark.slow
def test_prune_trains_on_a_dataset_and_a_pair_alike(recwarn):
    x, y = arrays()
    student = dense_model()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    for data in ((x, y), dataset):
        pruned, record = prune(student, data, 0.5, epochs=1, batch_size=16)
        assert_sparse(prunable_kernels(pruned), 0.5)
        assert record.settings["schedule"]["config"]["end_step"] == 7
    assert not [one for one in recwarn if "shuffle" in str(one.message)]


def test_prune_takes_strings_and_a_data_set_of_unknown_length():
    words, y = np.array([["a", "b"], ["b", "c"]] * 4), np.array([0, 1] * 4)
    student = keras.Sequential(
        [
            keras.Input((2,), dtype="string"),
            layers.StringLookup(vocabulary=["a", "b", "c"]),
            layers.Embedding(4, 2),
            layers.Flatten(),
            layers.Dense(2, "softmax", use_bias=False),
        ]
    )
    stream = tf.data.Dataset.from_generator(
        lambda: ((words[i : i + 4], y[i : i + 4]) for i in (0, 4)),
        output_signature=(
            tf.TensorSpec((None, 2), tf.string),
            tf.TensorSpec((None,), tf.int64),
        ),
    )
    for data in ((words, y), stream):
        pruned, record = prune(student, data, 0.5, epochs=2, batch_size=4)
        assert_sparse(prunable_kernels(pruned), 0.5)
        assert record.settings["schedule"]["config"]["end_step"] == 2


@pytest.mark.slow
def test_prune_passes_callbacks_validation_scores():
    x, y = arrays()
    seen = {}
    record_logs = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.update(logs)
    )
    data = Data(train=(x, y), validation=(x, y), test=(x, y))
    prune(dense_model(), data, epochs=1, callbacks=[record_logs])
    assert {"loss", "val_loss", "sparsity"} <= set(seen)


@pytest.mark.slow
def test_prune_learns_from_the_teacher_while_it_prunes():
    x, y = arrays(640)
    teacher = compiled(dense_model())
    teacher.fit(x, y, epochs=5, verbose=0)
    taught = teacher.predict(x, verbose=0).argmax(-1)
    before = values(teacher)
    # Without any label, all that this untrained student learns, it learns
    # from the teacher; once run in the step, once brought by the data.
    nothing = np.full_like(y, UNLABELLED)
    attached = attach_targets(x, {"output": teacher.predict(x, verbose=0)})
    student = dense_model()
    options = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01}
    for inputs, source in ((x, teacher), (attached, None)):
        pruned, record = prune(
            student, (inputs, nothing), 0.6, teacher=source, **options
        )
        assert_sparse(prunable_kernels(pruned), 0.6)
        agreement = pruned.predict(x, verbose=0).argmax(-1) == taught
        assert np.mean(agreement) > 0.95
        assert record.settings["distilled"] and record.settings["alpha"] == 0.7
        assert type(pruned) is keras.Sequential
    for old, new in zip(before, values(teacher), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.usefixtures("eager")
def test_prune_with_alpha_zero_equals_pruning_without_a_teacher():
    teacher, student = linear_model(), linear_model()
    results = []
    for options in ({}, {"teacher": teacher, "alpha": 0.0}):
        keras.utils.set_random_seed(5)
        pruned, _ = prune(
            student, arrays(), epochs=2, learning_rate=0.1, **options
        )
        results.append(values(pruned))
    for plain, distilled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, distilled, atol=1e-6)


@pytest.mark.slow
def test_prune_is_a_function_of_its_arguments():
    student = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(6, "relu"),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )
    found = []
    for other in (1, 2):
        keras.utils.set_random_seed(other)  # something else went on before
        pruned, record = prune(
            student, arrays(32), 0.5, epochs=1, batch_size=8, seed=3
        )
        assert record.settings["seed"] == 3
        found.append(pruned.get_weights()[0])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("as_dataset", quick(1, [True, False]))
def test_prune_passes_over_examples_without_a_label(as_dataset):
    x, y = arrays(640)
    hidden = np.where(np.arange(640) % 2, y, UNLABELLED)
    data = (x, hidden)
    if as_dataset:
        data = tf.data.Dataset.from_tensor_slices(data).batch(32)
    pruned, record = prune(
        linear_model(), data, 0.5, epochs=4, batch_size=32, learning_rate=0.03
    )
    assert np.mean(pruned.predict(x, verbose=0).argmax(-1) == y) > 0.9
    assert not record.settings["distilled"]


@pytest.mark.usefixtures("eager")
def test_prune_keeps_the_loss_weights_of_the_student():
    """An output of weight 0 stays as it was, but for what is pruned."""
    x, y = arrays(32)

    def pruned(**options):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((FEATURES,))
        heads = [layers.Dense(4, name=name)(inputs) for name in ("a", "b")]
        student = keras.Model(inputs, heads)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        student.compile("sgd", [loss, loss], loss_weights=[1.0, 0.0])
        model, record = prune(
            student, (x, [y, y]), 0.5, epochs=1, batch_size=32, **options
        )
        before = student.get_weights()[3]
        return np.abs(model.get_weights()[3] - before).max(), record

    moved, record = pruned()
    assert moved == 0.0
    assert record.settings["loss_weights"] == [1.0, 0.0]
    assert pruned(loss_weights=[1.0, 1.0])[0] > 0.0


@pytest.mark.usefixtures("eager")
def test_prune_ends_sparse_when_early_stopping_restores_weights():
    stop = keras.callbacks.EarlyStopping(
        "sparsity", mode="min", patience=9, restore_best_weights=True
    )
    with pytest.warns(UserWarning, match="put back"):
        pruned, record = prune(
            linear_model(), arrays(), 0.8, epochs=4, callbacks=[stop]
        )
    assert_sparse(prunable_kernels(pruned), 0.8)


class Doubled(layers.Layer):
    """A custom layer that was never registered."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = layers.Dense(units)

    def call(self, inputs):
        return 2 * self.inner(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Subclassed(keras.Model):
    """A model without a graph."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = Doubled(units)

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def models_to_copy():
    x = keras.Input((FEATURES,))
    custom = keras.Model(x, Doubled(3)(layers.Lambda(lambda t: t + 1)(x)))
    subclassed = Subclassed(3)
    subclassed(np.zeros((2, FEATURES), "float32"))
    return {"sequential": dense_model(), "lambda": custom, "sub": subclassed}


@pytest.mark.parametrize("kind", ["sequential", "lambda", "sub"])
def test_copy_of_gives_the_same_answers_with_weights_of_its_own(kind):
    model = models_to_copy()[kind]
    x, _ = arrays(8)
    twin = copy_of(model)
    np.testing.assert_array_equal(twin(x), model(x))
    twin.set_weights([value + 1 for value in twin.get_weights()])
    assert not np.array_equal(twin(x), model(x))


def test_copy_of_names_the_model_it_cannot_copy():
    class NoConfig(keras.Model):
        def __init__(self, function):
            super().__init__(name="stubborn")
            self.inner = layers.Dense(2)
            self.function = function

        def call(self, inputs):
            return self.function(self.inner(inputs))

    model = NoConfig(lambda t: t)
    model(np.zeros((1, 2), "float32"))
    with pytest.raises(ValueError, match="'stubborn' cannot be copied"):
        copy_of(model)


BAD_CALLS = [
    (lambda: Pruning(0.0), "between 0 and 1"),
    (lambda: Pruning(1.0), "Received: 1.0"),
    (lambda: Pruning(end_step=0), "at least 1"),
    (lambda: Pruning(schedule="polynomial"), "PruningSchedule"),
    (lambda: Pruning(exclude="logits"), "list of layer names"),
    (lambda: Pruning(include=layers.Dense), "list of layer names or classes"),
    (lambda: Pruning(threshold="model"), '"layer" or "global"'),
    (
        lambda: Pruning(threshold="global", block_size=(2, 2)),
        "the latter without `block_size`",
    ),
    (
        lambda: prunable_kernels(dense_model(), [layers.Conv2D]),
        "Received: Conv2D. Their classes: .'BatchNorm",
    ),
    (lambda: prunable_kernels(dense_model(), ["hiden"]), r"\['hidden'\]"),
    (lambda: prunable_kernels(dense_model(), None, ["x"]), "Near names"),
    (
        lambda: prunable_kernels(dense_model(), None, ["hidden", "logits"]),
        "no kernel to prune",
    ),
    (
        lambda: prune(keras.Sequential([layers.Dense(2)]), arrays()),
        "must be built",
    ),
    (lambda: prune(dense_model(), arrays()[0]), "pair of arrays"),
]


@pytest.mark.parametrize("number", range(len(BAD_CALLS)))
def test_bad_call_raises_a_helpful_error(number):
    call, text = BAD_CALLS[number]
    with pytest.raises(ValueError, match=text):
        call()


def test_engine_is_where_tfmot_keeps_it():
    """If this fails, tfmot moved its private engine: see pruning/tfmot.py."""
    engine = import_engine()
    for name in ("conditional_mask_update", "weight_mask_op"):
        assert callable(getattr(engine, name))
    kernel = tf.Variable([[1.0, -2.0], [3.0, -4.0]])
    mask, threshold = tf.Variable(tf.ones((2, 2))), tf.Variable(0.0)
    schedule = import_tfmot().sparsity.keras.ConstantSparsity(0.5, 0)
    step = tf.constant(0)
    pruned = [(kernel, mask, threshold)]
    one = engine(lambda: step, pruned, schedule, (1, 1), "AVG", None)
    one.conditional_mask_update()
    one.weight_mask_op()
    assert kernel.numpy().tolist() == [[0, 0], [3, -4]]


HYGIENE = """
import os, sys
{before}
import keras
import keras_kd.pruning
import numpy as np
assert ("tensorflow_model_optimization" in sys.modules) == {imported}
environ = dict(os.environ)
x, y = np.eye(8, dtype="float32"), np.arange(8) % 2
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
pruned, record = keras_kd.pruning.prune(model, (x, y), 0.5, epochs=2)
assert record.metrics["sparsity"] == 0.5
assert dict(os.environ) == environ, "environment changed"
assert type(pruned).__module__.startswith("keras."), type(pruned)
import tensorflow as tf
print(os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.Model.__module__)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "imported", "expected"),
    [
        ("", False, "None keras.src.models.model"),
        # Somebody else's import has made its choice; pruning still works.
        (
            "import tensorflow_model_optimization",
            True,
            "1 tf_keras.src.engine.training",
        ),
    ],
)
def test_prune_leaves_the_process_as_it_was(before, imported, expected):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            HYGIENE.format(before=before, imported=imported),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == expected
