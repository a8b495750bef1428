# SPDX-License-Identifier: Apache-2.0
"""Distiller: trains a student from a teacher's targets and the labels."""

from __future__ import annotations

import functools
import warnings

import keras
import tensorflow as tf
from keras import ops

from keras_kd.core.output_kinds import check_outputs
from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import TaskLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.distillers import unlabelled
from keras_kd.distillers.compatibility import check_pair
from keras_kd.distillers.custom_loops import CustomLoops
from keras_kd.distillers.default_losses import losses_or_default
from keras_kd.distillers.default_losses import task_to_train
from keras_kd.distillers.guarded import guard_labels
from keras_kd.distillers.keras_names import KerasNames
from keras_kd.distillers.keras_names import refuse_arguments
from keras_kd.distillers.loss_metrics import LossMetrics
from keras_kd.distillers.loss_terms import LossTerms
from keras_kd.distillers.own_step import has_own_loss
from keras_kd.distillers.own_step import learns_labels
from keras_kd.distillers.own_step import measured
from keras_kd.distillers.own_step import own_loss
from keras_kd.distillers.per_output import outputs_of
from keras_kd.distillers.saved_by_keras import SavedByKeras
from keras_kd.distillers.step_checks import StepChecked
from keras_kd.distillers.step_checks import StepChecks
from keras_kd.distillers.text_inputs import TextInputs
from keras_kd.targets.attached import split_targets
from keras_kd.tasks.distilling import compile_arguments


@keras.saving.register_keras_serializable(package="keras_kd")
class Distiller(  # type: ignore[misc]  # two of these wrap `fit`
    StepChecked, SavedByKeras, KerasNames, TextInputs, CustomLoops, keras.Model
):
    """Trains a student from a teacher and from the labels.

        total = alpha * distillation + (1 - alpha) * student_loss

    where `distillation` is the weighted sum of the distillation losses and
    `student_loss` is what `student.fit` would minimise. (`alpha` weighs the
    *distillation*: the `student_loss_weight` of Keras is `1 - alpha`.)

    It is a `keras.Model`: `compile`, `fit`, callbacks and metrics are Keras'
    own. Regularisation and `add_loss` terms keep their full weight whatever
    alpha is; with `alpha=0` training equals `student.fit`. `evaluate` and
    `predict` are the student's and never run the teacher. Checkpoints hold
    the student (and projectors), never the teacher.

    Labels: `alpha=1` needs none (`fit(x)`). -1 for a class id, or for the 0
    or 1 of a yes/no unit, marks what has no label: it is learned from the
    teacher only, and metrics pass over it. A loss's `ignore_class` is left
    out altogether. A sample weight weighs an example in every term.

    Outputs: all this holds for each of several outputs, and in whatever form
    `loss` is given; `loss_weights` weigh an output whole, its labels and its
    teacher. A student's own `compute_loss` is used. A model may end in logits,
    a softmax or a sigmoid; teacher and student are each read for it, and the
    label loss is, by what it returns if it is your own function. What none
    says, say by `outputs` or `task`; else the first batches must show it for
    certain. Sigmoid and one-unit outputs, and logits compiled with a binary
    cross-entropy, are distilled unit by unit (Bernoulli): a softmax teaches
    them its `log p - log(1 - p)`. Numbers that are no class scores need a loss
    that fits, such as `kd.losses.Regression`.

    Args:
        teacher: A trained `keras.Model`, a list of them (an ensemble), a
            `keras_kd.teachers.Teacher`, or `None` if targets are in the data.
        student: The `keras.Model` to train.
        temperature: Short for
            `distillation_losses=SoftTargets(temperature)`, which is 4.0.
        alpha: Weight of the distillation in `[0, 1]`. Assignable at any
            time, as is `temperature`, without retracing.
        distillation_losses: A distillation loss, a list of them, or a dict
            of either by output, as in `{"kind": SoftTargets(2.0), "size":
            FeatureMatching()}`.
        name: Name of the model.
        outputs: What the student's output is, where it cannot be read:
            `"logits"`, `"probabilities"` or `"values"`, or a dict of these by
            output. For the teacher's see `kd.teachers.FrozenTeacher`.
        task: What outputs and labels mean, of `keras_kd.tasks`, or a dict of
            tasks by output. It brings what is not given: distillation losses
            here, label loss and metrics in `compile`.

    Raises:
        ValueError: If the two models cannot be compared (classes, shapes, tap
            names), are one object, or an argument is out of range.

    Example:

    ```python
    distiller = kd.Distiller(teacher, student, temperature=4.0, alpha=0.7)
    distiller.compile("adam", loss=cross_entropy, metrics=["accuracy"])
    distiller.fit(x, y, epochs=5)
    distiller.student.save("student.keras")
    ```

    Reference: https://arxiv.org/abs/1503.02531
    """

    alpha = Scalar(minimum=0.0, maximum=1.0)

    def __init__(
        self,
        teacher: TeacherLike | None = None,
        student: keras.Model = None,
        temperature: float | None = None,
        alpha: float = 0.7,
        distillation_losses: LossLike | None = None,
        name: str = "distiller",
        outputs: str | dict | None = None,
        task: TaskLike | None = None,
        **kwargs,
    ):
        refuse_arguments(temperature, kwargs)
        check_pair(teacher, student)
        check_outputs(outputs)
        task = task_to_train(task)
        given = distillation_losses, temperature, task
        losses, is_default = losses_or_default(*given)
        # The student's policy decides on loss scaling, as in student.fit.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, **kwargs)
        self.alpha, self.student = alpha, student
        self.projectors: dict[str, keras.layers.Layer] = {}
        self._outputs, self._task = outputs, task
        self._learn_from(teacher, losses, is_default)
        terms = self._loss_terms
        self._log = LossMetrics(terms.losses, terms.agreements.values())
        self._guard = StepChecks()

    # What it is made of.

    @property
    def teacher(self):
        """The teacher as it was given; assign another one at any time."""
        return self._loss_terms.given_teacher

    @teacher.setter
    def teacher(self, teacher):
        check_pair(teacher, self.student)
        is_default = self._loss_terms.default
        self._learn_from(teacher, self.distillation_losses, is_default)

    def _learn_from(self, teacher, losses, is_default):
        said = self._outputs, is_default, self._task
        self._loss_terms = LossTerms(teacher, self.student, losses, *said)
        self._make_projectors()
        self.supports_jit = self._loss_terms.supports_jit
        self.train_function = None

    def __setattr__(self, name, value):
        if name == "teacher":
            # Past Keras' tracking, which would make the teacher a layer.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        # Keras saves what it finds by `dir`: not these, to keep the teacher
        # out of every file and each projector in it once.
        hidden = {"teacher", "distillation_losses"}
        return [name for name in super().__dir__() if name not in hidden]

    @property
    def distillation_losses(self) -> list:
        """The distillation losses, in order."""
        return list(self._loss_terms.losses.values())

    @property
    def temperature(self) -> float:
        """Temperature of the first loss that has one; sets all of them."""
        return self._loss_terms.with_temperature()[0].temperature

    @temperature.setter
    def temperature(self, value):
        for loss in self._loss_terms.with_temperature():
            loss.temperature = value

    @property
    def output_names(self):
        """The student's, by which `compile` finds losses and metrics."""
        return self.student.output_names

    # How it trains.

    @functools.wraps(keras.Model.compile)
    def compile(self, *args, **kwargs):
        given = compile_arguments(self._task, self.student, args, kwargs)
        super().compile(**given)
        guard_labels(self, self._guard)
        self._loss_terms.check_kinds(self.loss)
        return self

    def call(self, x, training=None):
        return self._student_pass(*split_targets(x), training)[0]

    def _student_pass(self, x, targets, training):
        # The first batch makes projectors whose shapes come with the data.
        prediction, taps = self._loss_terms.student_pass(x, training)
        self._make_projectors(targets, taps)
        return prediction, taps

    def train_step(self, data):
        self._guard.begin_step()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, attached = split_targets(x)
        targets = self._loss_terms.targets(x, attached, self._guard)
        with tf.GradientTape() as tape:
            parts = self._parts(x, targets, y, sample_weight)
            loss, values, agreement, y_pred = parts
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        if weights:
            gradients = tape.gradient(scaled, weights)
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        else:
            warnings.warn("The student has no trainable weights.", stacklevel=2)
        self._loss_terms.after_step()

        batch_size = ops.shape(keras.tree.flatten(x)[0])[0]
        replicas = self.distribute_strategy.num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, batch_size)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        logs.update(self._log.update(values, agreement, batch_size))
        return logs

    def _parts(self, x, targets, y, sample_weight):
        """Returns the total, its parts by name, the agreement, the answer."""
        y_pred, taps = self._student_pass(x, targets.taps, training=True)
        student_loss = self._compute_loss(x, y, y_pred, sample_weight)
        outputs = outputs_of(self, y_pred, y, sample_weight)
        values, agreement = self._loss_terms.values(
            targets, taps, self.projectors, outputs
        )
        distillation = self._loss_terms.weighted_sum(
            values, self.optimizer.iterations, outputs
        )
        alpha = Scalar.tensor(self, "alpha")
        # The student's loss holds its regularisation; adding it to the
        # other side too gives it full weight at every alpha.
        total = alpha * (distillation + unlabelled.regularisation(self))
        total = total + (1.0 - alpha) * student_loss
        if learns_labels(self, y):
            values = {"student_loss": student_loss, **values}
        return total, values, agreement, y_pred

    def _total_loss(self, x, y, sample_weight):
        x, attached = split_targets(x)
        targets = self._loss_terms.targets(x, attached, self._guard)
        return self._parts(x, targets, y, sample_weight)[0]

    def test_step(self, data):
        return measured(self, data, super().test_step)

    def _compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns what `student.fit` would minimise (no distillation)."""
        if not learns_labels(self, y):
            if training:
                unlabelled.check_not_needed(y, self.alpha)
            return unlabelled.regularisation(self)
        if has_own_loss(self.student):
            return own_loss(self, x, y, y_pred, sample_weight, training)
        return keras.Model.compute_loss(self, x, y, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if y is None:
            return {"loss": self._loss_tracker.result()}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def reset_metrics(self):
        super().reset_metrics()
        if self._loss_terms.teacher is not None:
            self._loss_terms.teacher.begin_epoch()

    def get_metrics_result(self):
        compiled = self._compile_metrics
        if compiled is not None and not compiled.built:
            return {}  # no label has come by yet
        return super().get_metrics_result()

    def _make_projectors(self, targets=None, taps=None):
        """Makes what is missing as soon as the shapes are known."""
        if not self.projectors:
            made = self._loss_terms.make_projectors(targets, taps)
            self._tracker.unlock()  # predict() before fit() has locked it
            self.projectors = made or {}
            self._is_complete = self.student.built and made is not None
            self.built = self._is_complete
