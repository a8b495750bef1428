# SPDX-License-Identifier: Apache-2.0
"""The public checks find what they are there to find."""

from __future__ import annotations

import inspect
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import reference
from keras_kd import testing
from keras_kd.core.scalars import Scalar
from keras_kd.distillers.distiller import Distiller
from keras_kd.losses import DistillationLoss
from keras_kd.losses import FeatureMatching
from keras_kd.losses import SoftTargets
from keras_kd.losses import soft_targets
from keras_kd.teachers import FrozenTeacher
from keras_kd.teachers import Teacher
from keras_kd.testing import ContractError
from keras_kd.testing import check_distiller
from keras_kd.testing import check_loss
from keras_kd.testing import check_teacher
from selection import quick

register = keras.saving.register_keras_serializable(package="test_testing")


def test_example_of_the_module_docstring_runs():
    (example,) = re.findall(r"```python\n(.*?)```", testing.__doc__, re.S)
    scope = {"__name__": "example"}
    exec(example, scope)  # noqa: S102
    scope["test_cosine_distance"]()


def test_example_of_the_module_docstring_shows_a_true_message():
    @register
    class CosineDistance(DistillationLoss):
        def call(self, y_true, y_pred):
            return ops.mean(abs(y_true - y_pred))

    with pytest.raises(ContractError) as caught:
        check_loss(CosineDistance(), teacher_shape=(6, 8))
    shown = " ".join(testing.__doc__.split())
    assert str(caught.value).split(";")[0] in shown


# Losses, each broken in one way.


@register
class NoSquare(SoftTargets):
    def call(self, y_true, y_pred):
        temperature = Scalar.tensor(self, "temperature")
        return super().call(y_true, y_pred) / temperature**2


@register
class Clipped(SoftTargets):
    def call(self, y_true, y_pred):
        temperature = Scalar.tensor(self, "temperature")
        p = ops.softmax(y_true / temperature)
        q = ops.clip(ops.softmax(y_pred / temperature), 1e-7, 1.0)
        kl = ops.sum(p * ops.log(ops.maximum(p, 1e-7) / q), axis=-1)
        return temperature**2 * kl


@register
class IntoTeacher(FeatureMatching):
    def __call__(self, y_true, y_pred, sample_weight=None):
        values = self.call(y_true, y_pred)
        weight = 1.0 if sample_weight is None else sample_weight
        return ops.mean(values * weight)


@register
class ReducesBatch(FeatureMatching):
    def call(self, y_true, y_pred):
        return ops.mean(super().call(y_true, y_pred))


@register
class Swapped(SoftTargets):
    def call(self, y_true, y_pred):
        return super().call(y_pred, y_true)


@register
class StopsStudent(SoftTargets):
    def call(self, y_true, y_pred):
        return super().call(y_true, ops.stop_gradient(y_pred))


@register
class IgnoresWeights(FeatureMatching):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred)


@register
class SpreadsMean(FeatureMatching):
    def call(self, y_true, y_pred):
        values = super().call(y_true, y_pred)
        return ops.ones_like(values) * ops.mean(values)


@register
class OrderMatters(FeatureMatching):
    def call(self, y_true, y_pred):
        values = super().call(y_true, y_pred)
        return values * ops.arange(1.0, 1.0 + ops.shape(values)[0])


@register
class SquareRoot(FeatureMatching):
    def call(self, y_true, y_pred):
        return ops.sqrt(super().call(y_true, y_pred))


@register
class Overflows(FeatureMatching):
    def call(self, y_true, y_pred):
        return super().call(ops.exp(y_true), ops.exp(y_pred))


@register
class Negative(FeatureMatching):
    def call(self, y_true, y_pred):
        return -super().call(y_true, y_pred)


@register
class Offset(FeatureMatching):
    def call(self, y_true, y_pred):
        return 1.0 + super().call(y_true, y_pred)


@register
class EagerOnly(FeatureMatching):
    def call(self, y_true, y_pred):
        values = super().call(y_true, y_pred)
        # AutoGraph would take it; a training step does not run through it.
        return values if ops.max(y_pred) > 0.0 else 2.0 * values


@register
class KnownBatch(FeatureMatching):
    def call(self, y_true, y_pred):
        values = super().call(y_true, y_pred)
        return values * ops.ones((y_pred.shape[0],))


@register
class TrainingOnly(FeatureMatching):
    def call(self, y_true, y_pred):
        values = super().call(y_true, y_pred)
        return values if tf.executing_eagerly() else 2.0 * values


@register
class BakedTemperature(DistillationLoss):
    logits = True

    def __init__(self, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        return soft_targets(y_true, y_pred, self.temperature)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@register
class UnusedTemperature(SoftTargets):
    def call(self, y_true, y_pred):
        return FeatureMatching.call(self, y_true, y_pred)


@register
class Forgetful(SoftTargets):
    def get_config(self):
        config = super().get_config()
        del config["temperature"]
        return config


@register
class WrongRole(SoftTargets):
    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred) * ops.sign(y_true[..., 0])


class Unregistered(SoftTargets):
    __module__ = "nowhere"


BROKEN = [
    (NoSquare, "the gradient keeps its scale at high temperatures"),
    (Clipped, "the value equals the reference"),
    (IntoTeacher, "no gradient reaches the teacher"),
    (ReducesBatch, "one value per example"),
    (Swapped, "the value equals the reference"),
    (StopsStudent, "the gradient reaches the student"),
    (IgnoresWeights, "sample weights count"),
    (SpreadsMean, "does not depend on the others"),
    (OrderMatters, "values move along when rows change places"),
    (SquareRoot, "values and gradients are finite"),
    (Overflows, "the loss is the mean of its values"),
    (Negative, "the loss is not negative"),
    (WrongRole, "the loss is not negative"),
    (Offset, "a student that equals the teacher has loss 0"),
    (EagerOnly, "it can be compiled"),
    (KnownBatch, "it can be compiled"),
    (TrainingOnly, "compiled and eager values are equal"),
    (BakedTemperature, "assigning `temperature` changes a compiled step"),
    (UnusedTemperature, "`temperature` matters"),
    (Forgetful, "a loss can be rebuilt from its config"),
    (Unregistered, "a loss can be rebuilt from its config"),
]


@pytest.mark.parametrize(
    ("broken", "promise"), BROKEN, ids=[b.__name__ for b, _ in BROKEN]
)
def test_check_loss_names_the_broken_promise(broken, promise):
    arguments = {}
    if broken in (Clipped, Swapped):
        arguments["reference"] = reference.soft_targets
    with pytest.raises(ContractError, match=re.escape(promise)) as caught:
        check_loss(broken(), **arguments)
    message = str(caught.value)
    assert message.startswith(f"{broken.__name__} breaks the promise")
    assert "Expected: " in message
    assert "Received: " in message


def test_check_loss_finds_a_loss_that_descent_does_not_lower():
    @register
    class Uphill(FeatureMatching):
        def call(self, y_true, y_pred):
            values = super().call(y_true, y_pred)
            return 2.0 * ops.stop_gradient(values) - values

    with pytest.raises(ContractError, match="gradient descent lowers it"):
        check_loss(Uphill())


def test_check_loss_finds_a_value_that_ignores_the_mask():
    @register
    class WholeSequence(SoftTargets):
        def __call__(self, y_true, y_pred, sample_weight=None):
            y_pred = ops.identity(y_pred) if False else y_pred + 0.0
            return super().__call__(y_true, y_pred, sample_weight)

    mask = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    with pytest.raises(ContractError, match="a mask leaves positions out"):
        check_loss(WholeSequence(), teacher_shape=(3, 3, 5), mask=mask)


def test_check_loss_takes_label_aware_losses():
    @register
    class TrueClass(DistillationLoss):
        label_aware = True

        def call(self, y_true, y_pred):
            teacher, label = y_true
            chosen = ops.one_hot(ops.cast(label, "int32"), y_pred.shape[-1])
            return ops.sum(chosen * ops.square(teacher - y_pred), axis=-1)

    def twin(teacher, student, labels):
        rows = np.arange(len(labels))
        return np.square(teacher - student)[rows, labels]

    check_loss(TrueClass(), reference=twin)
    labels = np.array([4, 4, 0, 0, 1, 1])
    check_loss(TrueClass(), reference=twin, labels=labels)


def test_check_loss_takes_relational_losses():
    @register
    class Similarity(DistillationLoss):
        def call(self, y_true, y_pred):
            teacher, student = (
                ops.normalize(y @ ops.transpose(y), axis=-1)
                for y in (y_true, y_pred)
            )
            return ops.mean(ops.square(teacher - student), axis=-1)

    @register
    class AnyWidth(Similarity):
        def check_shapes(self, teacher_shape, student_shape):
            pass

    shapes = {"teacher_shape": (5, 8), "student_shape": (5, 3)}
    check_loss(AnyWidth(), **shapes, zero_at_equal=False, relational=True)
    with pytest.raises(ContractError, match="does not depend on the others"):
        check_loss(AnyWidth(), **shapes, zero_at_equal=False)
    with pytest.raises(ContractError, match="override check_shapes"):
        check_loss(Similarity(), **shapes, zero_at_equal=False)


def test_check_loss_takes_special_inputs():
    def probabilities(generator, shape):
        return generator.dirichlet(np.ones(shape[-1]), size=shape[:-1])

    @register
    class CrossEntropyOfMaps(DistillationLoss):
        def call(self, y_true, y_pred):
            return -ops.sum(y_true * ops.log(ops.maximum(y_pred, 1e-3)), -1)

    with pytest.raises(ContractError, match="not negative"):
        check_loss(CrossEntropyOfMaps(), zero_at_equal=False)
    check_loss(CrossEntropyOfMaps(), zero_at_equal=False, sample=probabilities)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher_shape": (1, 5)}, "of at least 2"),
        ({"student_shape": (5, 5)}, "one batch size"),
        ({"student_shape": (6, 4)}, "pass zero_at_equal=False"),
    ],
)
def test_check_loss_refuses_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_loss(SoftTargets(), **arguments)


# Teachers.


def network(width=8, dropout=0.0, activation=None):
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(width, activation="relu", name="hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(3, activation=activation),
        ]
    )


RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6)).astype("float32")
Y = RNG.integers(0, 3, size=16)


def test_check_teacher_takes_models_and_teachers():
    model = network(dropout=0.5, activation="softmax")
    model.trainable = False
    check_teacher(model, X, taps=["hidden", "output"])
    check_teacher(FrozenTeacher(model, preprocess=lambda x: 2.0 * x), X)


class TrainMode(FrozenTeacher):
    def __call__(self, x):
        return {"output": self.model(x, training=True)}


class ListTeacher(FrozenTeacher):
    def __call__(self, x):
        return [self.model(x)]


class MeanTeacher(FrozenTeacher):
    def __call__(self, x):
        return {"output": ops.mean(self.model(x), axis=0)}


class WrongShape(FrozenTeacher):
    def shape(self, name):
        return (None, 7)


class HostTeacher(FrozenTeacher):
    def __call__(self, x):
        return {"output": np.asarray(self.model(x)) + 0.0}


class Touching(FrozenTeacher):
    def __call__(self, x):
        self.model.trainable = False
        return super().__call__(x)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (TrainMode, "it gives one answer to one question"),
        (ListTeacher, "it gives the taps it was prepared for"),
        (MeanTeacher, "a tap has one row per example"),
        (WrongShape, "shape() tells the shape of a tap"),
        (HostTeacher, "it runs in a compiled step"),
        (Touching, "asking a teacher changes nothing in it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_teacher_names_the_broken_promise(broken, promise):
    with pytest.raises(ContractError, match=re.escape(promise)):
        check_teacher(broken(network(dropout=0.5)), X)


def test_check_teacher_finds_moving_statistics():
    with pytest.raises(ContractError, match="changes nothing.*moving_mean"):
        check_teacher(_MovesStatistics(network()), X)


class _MovesStatistics(FrozenTeacher):
    def __call__(self, x):
        self.model(x, training=True)
        return {"output": ops.ones((ops.shape(x)[0], 3))}


def test_check_teacher_finds_logits_called_probabilities():
    class Said(Teacher):
        activation = "softmax"

        def __call__(self, x):
            return {"output": 2.0 * x}

    with pytest.raises(ContractError, match="probabilities in 'output'"):
        check_teacher(Said(), X)


# Distillers.

TEACHER_WIDTH = 10


def compiled(teacher=None, losses=None, kind=Distiller, **network_settings):
    """Returns a new distiller on small networks with batch norm."""
    distiller = kind(
        teacher or network(TEACHER_WIDTH),
        network(4, **network_settings),
        distillation_losses=losses,
    )
    distiller.compile(
        # With a state, as Adam, but traced in a third of the time.
        keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return distiller


def with_features(teacher):
    features = FeatureMatching(teacher="hidden", student="hidden")
    return compiled(teacher, [SoftTargets(), features])


def without_labels(teacher):
    distiller = Distiller(teacher, network(4, dropout=0.5), alpha=1.0)
    return distiller.compile("sgd")


def test_check_distiller_passes():
    teacher = network(TEACHER_WIDTH)
    # As a graph it runs anyway; by XLA, the test of ensembles does.
    check_distiller(lambda: with_features(teacher), X, Y, ways=["eager"])


@pytest.mark.slow
@pytest.mark.parametrize("make", [compiled, with_features, without_labels])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_check_distiller_passes_every_way(make, activation):
    teacher = network(TEACHER_WIDTH, dropout=0.5, activation=activation)
    y = None if make is without_labels else Y
    check_distiller(lambda: make(teacher), X, y)


class TwiceTeacher(Distiller):
    def train_step(self, data):
        self._loss_terms.teacher(data[0])
        return super().train_step(data)


class TwiceStudent(Distiller):
    def train_step(self, data):
        logs = super().train_step(data)
        self.student(data[0], training=True)
        return logs


class TeacherInTest(Distiller):
    def test_step(self, data):
        self._loss_terms.teacher(data[0])
        return super().test_step(data)


class TrackedTeacher(Distiller):
    def __init__(self, teacher, *args, **kwargs):
        super().__init__(teacher, *args, **kwargs)
        self.tracked = teacher


class TrainsTeacher(Distiller):
    def train_step(self, data):
        for weight in self._loss_terms.given_teacher.model.weights:
            weight.assign(weight * 1.001)
        return super().train_step(data)


class Lazy(Distiller):
    def train_step(self, data):
        weights = [w + 0.0 for w in self.student.weights]
        logs = super().train_step(data)
        for weight, before in zip(self.student.weights, weights, strict=True):
            weight.assign(before)
        return logs


class ShortHistory(Distiller):
    def train_step(self, data):
        logs = super().train_step(data)
        return {"loss": logs["loss"]}


class Retraces(Distiller):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "alpha" and hasattr(self, "train_function"):
            self.train_function = None


@pytest.mark.parametrize(
    ("broken", "promise"),
    quick(
        2,
        [
            (
                TwiceTeacher,
                "the teacher runs once per training step, else never",
            ),
            (TwiceStudent, "the student runs once per batch"),
            (
                TeacherInTest,
                "the teacher runs once per training step, else never",
            ),
            (
                TrackedTeacher,
                "its weights are the student's and the projectors'",
            ),
            (TrainsTeacher, "training leaves the teacher as it was"),
            (Lazy, "training changes the student"),
            (Retraces, "assigning alpha or temperature does not trace again"),
            (ShortHistory, "the history tells every part of the loss"),
        ],
    ),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_distiller_names_the_broken_promise(broken, promise):
    def make():
        distiller = compiled(kind=broken)
        distiller.jit_compile = False
        return distiller

    with pytest.raises(ContractError, match=re.escape(promise)):
        check_distiller(make, X, Y, ways=[])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 5}, "multiple of twice the batch size"),
        ({"ways": ["tpu"]}, "`ways` must be of"),
    ],
)
def test_check_distiller_refuses_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_distiller(compiled, X, Y, **arguments)


@pytest.mark.parametrize("check", [check_loss, check_teacher, check_distiller])
def test_check_shows_an_example(check):
    assert "```python" in inspect.getdoc(check)
