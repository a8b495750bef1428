# SPDX-License-Identifier: Apache-2.0
"""What a distiller can be fed, and what its teacher sees of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras import ops

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from keras_kd.targets.attached import attach_targets
from selection import quick

X, Y = features(), labels()
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def fit(distiller, *data, loss=True, run_eagerly=True, **fit_with):
    loss = cross_entropy() if loss is True else loss
    distiller.compile(keras.optimizers.SGD(0.2), loss, run_eagerly=run_eagerly)
    history = distiller.fit(*data, **{**FIT, **fit_with}).history
    return {key: values[-1] for key, values in history.items()}


def test_distiller_teacher_may_have_another_resolution_and_scale():
    def convolve(seed, size):
        initializer = keras.initializers.GlorotUniform
        return keras.Sequential(
            [
                keras.Input((size, size, 1)),
                layers.Conv2D(4, 3, kernel_initializer=initializer(seed)),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, kernel_initializer=initializer(seed + 1)),
            ]
        )

    def preprocess(images):
        return ops.image.resize(images, (8, 8)) / 127.5 - 1.0

    images = np.random.default_rng(0).uniform(0, 255, (6, 4, 4, 1))
    images = images.astype("float32")
    teacher, student = convolve(1, 8), convolve(2, 4)
    targets = teacher(preprocess(images)).numpy()
    before = student(images).numpy()
    source = kd.teachers.FrozenTeacher(teacher, preprocess=preprocess)
    logs = fit(
        kd.Distiller(source, student, 4.0, 1.0),
        images,
        loss=None,
        run_eagerly=False,
        batch_size=6,
    )
    expected = kl(targets, before, 4.0).mean()
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)


def two_inputs(names, seed):
    initializer = keras.initializers.GlorotUniform(seed)
    inputs = {name: keras.Input((4,), name=name) for name in names}
    x = sum((i + 1.0) * tensor for i, tensor in enumerate(inputs.values()))
    x = layers.Dense(3, kernel_initializer=initializer)(x)
    return keras.Model(inputs, x)


def test_distiller_accepts_dicts_of_inputs():
    data = {"left": X, "right": features(seed=3)}
    teacher, student = (two_inputs(("left", "right"), s) for s in (1, 2))
    targets = teacher(data).numpy()
    before = student(data).numpy()
    logs = fit(kd.Distiller(teacher, student), data, Y, batch_size=len(X))
    expected = kl(targets, before, 4.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)


def test_distiller_teacher_may_have_other_input_names():
    """A teacher that sees more than the student, under its own names."""
    data = {"left": X, "right": features(seed=3)}
    teacher = two_inputs(("image", "sound"), 1)
    student_inputs = {
        name: keras.Input((4,), name=name) for name in ("left", "right")
    }
    student = keras.Model(
        student_inputs, layers.Dense(3)(student_inputs["left"])
    )

    def preprocess(x):
        return {"image": x["left"], "sound": x["right"]}

    targets = teacher(preprocess(data)).numpy()
    before = student(data).numpy()
    source = kd.teachers.FrozenTeacher(teacher, preprocess=preprocess)
    logs = fit(kd.Distiller(source, student), data, Y, batch_size=len(X))
    expected = kl(targets, before, 4.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("student_input", ["left", "right", None])
def test_distiller_student_of_one_input_of_several(student_input):
    """By its name; without one it is not guessed which is meant."""
    data = {"left": X, "right": features(seed=3)}
    inputs = keras.Input((4,), name=student_input)
    student = keras.Model(inputs, layers.Dense(3)(inputs))
    distiller = kd.Distiller(two_inputs(("left", "right"), 1), student)
    if student_input is None:
        for parts in (data, (X, X)):
            with pytest.raises(ValueError, match="Which parts of a batch"):
                fit(distiller, parts, Y)
        return
    before = student(data[student_input]).numpy()
    targets = distiller.teacher(data).numpy()
    logs = fit(distiller, data, Y, batch_size=len(X))
    expected = kl(targets, before, 4.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)


def test_distiller_accepts_tuples_of_inputs():
    parts = X, features(seed=3)
    teacher, student = (two_inputs(("a", "b"), seed) for seed in (1, 2))
    models = [
        keras.Model(list(m.input.values()), m.output)
        for m in (teacher, student)
    ]
    targets, before = (m.predict(list(parts), verbose=0) for m in models)
    expected = kl(targets, before, 4.0).mean()
    logs = fit(kd.Distiller(*models), parts, Y, batch_size=len(X))
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)
    data = attach_targets(parts, {"output": targets}, "logits")
    student = keras.models.clone_model(models[1])
    student.set_weights(two_inputs(("a", "b"), 2).get_weights())
    logs = fit(kd.Distiller(None, student), data, Y, batch_size=len(X))
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)


def test_distiller_attached_targets_of_unknown_rank():
    """As tf.data.Dataset.from_generator gives them without a signature."""
    targets = linear(seed=1)(X).numpy()
    kinds = {"inputs": "float32", "teacher_targets": {"output": "float32"}}

    def batches():
        for at in (0, 12):
            rows = slice(at, at + 12)
            yield attach_targets(X[rows], {"output": targets[rows]}), Y[rows]

    def with_known_inputs(x, y):
        x["inputs"].set_shape((None, 4))
        y.set_shape((None,))
        return x, y

    data = tf.data.Dataset.from_generator(
        batches, output_types=(kinds, "int64")
    ).map(with_known_inputs)
    reference, student = linear(seed=2), linear(seed=2)
    fit(kd.Distiller(linear(seed=1), reference), X, Y, batch_size=12)
    fit(kd.Distiller(None, student), data, batch_size=None, run_eagerly=False)
    assert_same_weights(student, reference, 1e-5)


def as_dataset():
    return (tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),)


def as_pydataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(8 * index, 8 * index + 8)
            return X[rows], Y[rows]

    return (Batches(),)


def as_generator():
    return (((X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)),)


@pytest.fixture(scope="module")
def on_arrays():
    """A student trained on arrays, and its logs."""
    reference = linear(seed=2)
    logs = fit(kd.Distiller(linear(seed=1), reference), X, Y)
    return reference, logs


@pytest.mark.parametrize(
    ("make", "run_eagerly"),
    quick(
        4,
        # A generator's batches have no size that a graph could know.
        [(as_generator, False), (as_generator, True)]
        + [(as_dataset, True), (as_pydataset, True)]
        + [(as_dataset, False), (as_pydataset, False)],
    ),
)
def test_distiller_trains_alike_on_every_kind_of_data(
    make, run_eagerly, on_arrays
):
    (reference, expected), student = on_arrays, linear(seed=2)
    data = make()
    fit_with = {"batch_size": None}
    logs = fit(
        kd.Distiller(linear(seed=1), student),
        *data,
        run_eagerly=run_eagerly,
        **fit_with,
    )
    assert_same_weights(student, reference, 1e-6)
    assert logs == pytest.approx(expected, rel=1e-5)


def test_distiller_train_on_batch_equals_fit():
    reference, student = linear(seed=2), linear(seed=2)
    fit(kd.Distiller(linear(seed=1), reference), X, Y, batch_size=len(X))
    distiller = kd.Distiller(linear(seed=1), student)
    distiller.compile(keras.optimizers.SGD(0.2), cross_entropy())
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    assert {"loss", "student_loss", "soft_targets"} <= set(logs)
    assert_same_weights(student, reference, 1e-6)


def several_losses():
    return [
        kd.losses.SoftTargets(4.0),
        kd.losses.FeatureMatching("hidden", "hidden", projector="auto"),
    ]


def attached(teacher):
    names = ["output", "hidden"]
    return attach_targets(X, kd.tap(teacher, names).predict(X, verbose=0))


@pytest.mark.parametrize("kind", quick(1, ["numpy", "dataset"]))
def test_distiller_targets_with_the_data_equal_a_live_teacher(kind):
    teacher = mlp(width=12, seed=1)
    reference, student = mlp(seed=2), mlp(seed=2)
    keras.utils.set_random_seed(3)
    live = kd.Distiller(
        teacher, reference, distillation_losses=several_losses()
    )
    expected = fit(live, X, Y, epochs=2)

    data = attached(teacher)
    keras.utils.set_random_seed(3)
    distiller = kd.Distiller(
        None, student, distillation_losses=several_losses()
    )
    fit_with = {"run_eagerly": False, "epochs": 2}
    if kind == "numpy":
        logs = fit(distiller, data, Y, **fit_with)
    else:
        batches = tf.data.Dataset.from_tensor_slices((data, Y)).batch(8)
        logs = fit(distiller, batches, batch_size=None, **fit_with)

    projector = distiller.projectors["feature_matching"]
    assert_same_weights(
        projector, live.projectors["feature_matching"], tolerance=1e-5
    )
    assert_same_weights(student, reference, tolerance=1e-5)
    assert logs == pytest.approx(expected, rel=1e-4)


def test_distiller_with_attached_targets_evaluates_and_predicts_plain_data():
    distiller = kd.Distiller(None, mlp(seed=2))
    data = attach_targets(X, {"output": mlp(seed=1)(X).numpy()})
    logs = fit(distiller, data, Y, validation_data=(X, Y))
    assert logs["val_loss"] > 0.0
    np.testing.assert_allclose(
        distiller.predict(X, verbose=0),
        distiller.student.predict(X, verbose=0),
        atol=1e-6,
    )


def test_distiller_makes_projectors_also_after_a_look_at_the_student():
    distiller = kd.Distiller(
        None, mlp(seed=2), distillation_losses=several_losses()
    )
    distiller.predict(X, verbose=0)
    fit(distiller, attached(mlp(width=12, seed=1)), Y)
    projector = distiller.projectors["feature_matching"]
    assert {w.path for w in projector.weights} <= {
        w.path for w in distiller.trainable_weights
    }


def test_distiller_attached_targets_need_no_labels():
    reference, student = linear(seed=2), linear(seed=2)
    teacher = linear(seed=1)
    fit(kd.Distiller(teacher, reference, 4.0, 1.0), X, loss=None)
    data = attach_targets(X, {"output": teacher(X).numpy()})
    fit(kd.Distiller(None, student, 4.0, 1.0), data, loss=None)
    assert_same_weights(student, reference, 1e-6)


def test_distiller_reads_attached_targets_as_logits_whatever_the_teacher_is():
    logits = features(seed=9)[:, :3]
    data = attach_targets(X, {"output": logits})
    reference, student = mlp(seed=2), mlp(seed=2)
    expected = fit(kd.Distiller(None, reference), data, Y)
    softmax = keras.Sequential(
        [keras.Input(X.shape[1:]), layers.Dense(3, activation="softmax")]
    )
    logs = fit(kd.Distiller(softmax, student), data, Y)
    assert logs == expected
    assert_same_weights(student, reference)
