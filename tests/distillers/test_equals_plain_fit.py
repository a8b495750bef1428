# SPDX-License-Identifier: Apache-2.0
"""With alpha=0 a distiller trains exactly what `student.fit` trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_kd as kd
from distillers.tiny import EXTRA_LOGS
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp
from selection import quick

X, Y = features(), labels()


@keras.saving.register_keras_serializable(package="tests")
class Penalty(layers.Layer):
    """Adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.01 * ops.mean(ops.square(x)))
        return x


def penalised():
    l2 = keras.regularizers.L2(0.01)
    return mlp(
        layers.Dense(
            5, kernel_regularizer=l2, activity_regularizer="l2", name="middle"
        ),
        Penalty(),
    )


def noisy():
    student = mlp(
        layers.BatchNormalization(),
        layers.Dropout(0.3, seed=3),
        layers.Dense(5, name="middle"),
        layers.Dropout(0.3),
    )
    student.get_layer("hidden").trainable = False
    return student


def mlp_in(policy):
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu", dtype=policy)(inputs)
    x = layers.Dense(3, dtype=policy)(x)
    student = keras.Model(inputs, x)
    student.dtype_policy = keras.DTypePolicy(policy)
    return student


class Subclassed(keras.Model):
    """A model without a graph, whose call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu")
        self.scores = layers.Dense(3)

    def call(self, x):
        return self.scores(self.hidden(x))


def case(name, build=mlp, compile_with=None, fit_with=None):
    return pytest.param(build, compile_with or {}, fit_with or {}, id=name)


WEIGHTED = {
    "sample_weight": np.linspace(0.0, 2.0, len(X)),
    "validation_split": 0.25,
    "validation_batch_size": 2,
}
CASES = [
    case("l2_add_loss_and_activity_regularizer", penalised),
    case(
        "dropout_batch_normalization_and_frozen_layer",
        noisy,
        compile_with={"run_eagerly": True},
        fit_with={"batch_size": 10},
    ),
    case(
        "subclassed_and_adam",
        Subclassed,
        compile_with={
            "optimizer": lambda: keras.optimizers.Adam(0.01),
            "run_eagerly": True,
        },
        fit_with={"batch_size": 10},
    ),
    case(
        "sample_weight_metrics_and_validation_split",
        compile_with={
            "metrics": ["accuracy"],
            "weighted_metrics": ["accuracy"],
            "run_eagerly": True,
        },
        fit_with=WEIGHTED,
    ),
    case(
        "class_weight_and_validation_data",
        penalised,
        compile_with={"metrics": ["accuracy"], "steps_per_execution": 2},
        fit_with={
            "class_weight": {0: 1.0, 1: 3.0, 2: 0.5},
            "validation_data": (X[:7] + 1.0, Y[:7], np.arange(7.0)),
        },
    ),
    case(
        "gradient_accumulation",
        compile_with={
            "optimizer": lambda: keras.optimizers.Adam(
                0.01, gradient_accumulation_steps=2
            )
        },
    ),
    case(
        "clipnorm",
        compile_with={
            "optimizer": lambda: keras.optimizers.SGD(0.5, clipnorm=0.1)
        },
    ),
    case(
        "global_clipnorm_and_averaged_weights",
        compile_with={
            "optimizer": lambda: keras.optimizers.AdamW(
                0.01, global_clipnorm=0.1, use_ema=True
            )
        },
    ),
    case("mixed_float16", lambda: mlp_in("mixed_float16")),
    case("mixed_bfloat16", lambda: mlp_in("mixed_bfloat16")),
    case(
        "sample_weight_in_a_graph",
        compile_with={"weighted_metrics": ["accuracy"]},
        fit_with=WEIGHTED,
    ),
    case("noise_in_a_graph", noisy),
    case("subclassed_in_a_graph", Subclassed),
]


def momentum():
    """With a state, as Adam, but traced in a third of the time."""
    return keras.optimizers.SGD(0.1, momentum=0.9)  # each run makes its own


def run(student, model, compile_with, fit_with, x=X, y=Y):
    arguments = {
        "optimizer": momentum,
        "loss": cross_entropy(),
        "jit_compile": False,
        **compile_with,
    }
    optimizer = arguments.pop("optimizer")
    fit_with = {"epochs": 2, "batch_size": 5, "verbose": 0, **fit_with}
    if callable(fit_with.get("callbacks")):
        fit_with["callbacks"] = fit_with["callbacks"]()
    model.compile(optimizer(), **arguments)
    keras.utils.set_random_seed(11)
    history = model.fit(x, y, **fit_with).history
    return student, model.optimizer, history


def compare(
    build, compile_with, fit_with, x=X, y=Y, tap="output", tolerance=0.0
):
    teacher = mlp(width=16, seed=50) if x is X else Fixed()
    runs = []
    for distil in (False, True):
        keras.utils.set_random_seed(7)
        model = student = build()
        if distil:
            loss = kd.losses.SoftTargets(4.0, student=tap)
            model = kd.Distiller(
                teacher, student, alpha=0.0, distillation_losses=loss
            )
        runs.append(run(student, model, compile_with, fit_with, x, y))
    (student, optimizer, history), (student_2, optimizer_2, history_2) = runs
    assert_same_weights(student, student_2, tolerance)
    state, state_2 = (
        [v.numpy() for v in o.variables] for o in (optimizer, optimizer_2)
    )
    assert_same_weights(state, state_2, tolerance)
    extra = set(history_2) - set(history)
    assert extra == EXTRA_LOGS
    for key in history:
        assert history[key] == pytest.approx(
            history_2[key], rel=tolerance, abs=0.0
        ), key
    # A run that changed nothing would be equal too.
    assert len(set(history["loss"])) > 1
    return history, history_2


class Fixed(kd.teachers.Teacher):
    """Favours class 1, whatever the input and its shape."""

    activation = "linear"

    def __call__(self, x):
        x = ops.cast(keras.tree.flatten(x)[0], "float32")
        shape = ops.shape(x)[:1] if x.shape[-1] == 4 else ops.shape(x)
        return {"output": ops.zeros((*shape, 3)) + ops.array([0.0, 2.0, -1.0])}


@pytest.mark.parametrize("build, compile_with, fit_with", quick(4, CASES))
def test_distiller_alpha_0_equals_student_fit(build, compile_with, fit_with):
    compare(build, compile_with, fit_with)


@pytest.mark.slow
def test_distiller_alpha_0_equals_student_fit_under_xla():
    # XLA fuses the two programs differently, which moves the last bit.
    compare(penalised, {"jit_compile": True}, {}, tolerance=1e-6)


@pytest.mark.parametrize("eagerly", quick(1, [True, False]))
def test_distiller_alpha_0_obeys_callbacks_as_student_fit(eagerly):
    def callbacks():
        return [
            keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=1),
            keras.callbacks.ReduceLROnPlateau(
                "val_loss", patience=1, min_delta=1
            ),
        ]

    history, distilled = compare(
        mlp,
        {"run_eagerly": eagerly},
        {
            "validation_split": 0.5,
            "epochs": 9,
            "batch_size": 8,
            "callbacks": callbacks,
        },
    )
    assert 1 < len(history["val_loss"]) < 9
    assert len(set(distilled["learning_rate"])) > 1


@pytest.mark.slow
def test_distiller_alpha_0_equals_student_fit_with_masks():
    def build():
        return keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                layers.Embedding(7, 4, mask_zero=True),
                layers.Dense(3),
            ]
        )

    tokens = np.random.default_rng(0).integers(0, 7, (24, 5))
    tokens[:, 4] = 0
    tags = np.random.default_rng(1).integers(0, 3, (24, 5))
    compile_with = {"metrics": ["accuracy"]}
    compare(build, compile_with, {}, tokens, tags)


def two_outputs(as_dict):
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    kind = layers.Dense(3, name="kind")(x)
    size = layers.Dense(1, name="size")(x)
    outputs = {"kind": kind, "size": size} if as_dict else [kind, size]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("as_dict", "eagerly"),
    quick(1, [(True, True), (True, False), (False, False)]),
)
def test_distiller_alpha_0_equals_student_fit_with_several_outputs(
    as_dict, eagerly
):
    y = {"kind": Y, "size": X[:, :1]}
    history, _ = compare(
        lambda: two_outputs(as_dict),
        {
            "loss": {"kind": cross_entropy(), "size": "mse"},
            "loss_weights": {"kind": 1.0, "size": 0.3},
            "metrics": {"kind": ["accuracy"], "size": ["mae"]},
            "run_eagerly": eagerly,
        },
        {"validation_split": 0.25, "batch_size": 12},
        y=y,
        tap="kind",
    )
    assert {"kind_loss", "size_loss", "kind_accuracy", "size_mae"} <= set(
        history
    )


@pytest.mark.slow
def test_distiller_alpha_0_equals_student_fit_with_a_list_of_losses():
    compare(
        lambda: two_outputs(False),
        {"loss": [cross_entropy(), "mse"], "loss_weights": [1.0, 0.3]},
        {},
        y=[Y, X[:, :1]],
        tap="kind",
    )


@pytest.mark.slow
def test_distiller_alpha_above_0_differs_from_student_fit():
    """The comparison above can fail: a little distillation shows."""
    student = mlp()
    other = mlp()
    distiller = kd.Distiller(mlp(width=16, seed=50), other, alpha=0.01)
    run(student, student, {}, {})
    run(other, distiller, {}, {})
    with pytest.raises(AssertionError):
        assert_same_weights(student, other)
