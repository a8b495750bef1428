# SPDX-License-Identifier: Apache-2.0
"""MutualDistiller: several students that teach each other while they learn."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import keras
import tensorflow as tf
from keras import ops

from keras_kd import losses as losses_module
from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import as_dataset
from keras_kd.distillers import unlabelled
from keras_kd.distillers.custom_loops import CustomLoops
from keras_kd.distillers.guarded import guard_labels
from keras_kd.distillers.loss_metrics import LossMetrics
from keras_kd.distillers.mutual_optimizers import MutualOptimizers
from keras_kd.distillers.mutual_students import MutualStudents
from keras_kd.distillers.mutual_students import peer_losses
from keras_kd.distillers.step_checks import StepChecked
from keras_kd.distillers.step_checks import StepChecks
from keras_kd.distillers.text_inputs import TextInputs


@keras.saving.register_keras_serializable(package="keras_kd")
class MutualDistiller(StepChecked, TextInputs, CustomLoops, keras.Model):
    """Trains several students at once, each learning from all the others.

        loss_i = alpha * mean over j != i of T^2 KL(p_j || p_i)
                 + (1 - alpha) * student_loss_i

    Deep mutual learning: no trained teacher is needed. Use it to train a
    few networks, alike or not, where a single one overfits; keep the best of
    them or, at the price of all, their mean. That mean (`evaluate` and
    `predict` of this model) is the baseline a single student has to beat.

    A step runs every student once, and all of them are updated from the same
    answers; the paper updates them in turn. With `alpha=0` they train as in
    `student.fit`, each on its own. A peer's answer is a target, it gets no
    gradient. Regularisation keeps its full weight at every alpha. A class id
    of -1 marks an example without a label; it is learned from peers only.

    It is a `keras.Model`. `compile` takes Keras' arguments, compiles every
    student with copies of them, and returns the model; `optimizer` may also
    be a list, one per student. Learning-rate callbacks act on each.

    Logs hold the ensemble's figures under their own names, and for each
    student, from 1 on, `student_1_loss` (in training: what it minimises),
    `student_1_soft_targets` (training only) and its metrics, as in
    `val_student_1_accuracy`. `loss` is the mean over students in training,
    and the label loss of the ensemble in evaluation.

    Args:
        students: Two or more `keras.Model`s of the same inputs and classes,
            each with one output, all ending alike (softmax, sigmoid or
            logits; a model without a graph is read by the loss). The
            ensemble's answer is of the same kind.
        temperature: Softening T > 0. Assignable at any time, as is alpha.
        alpha: Weight of the peers in `[0, 1]`. At 1 nothing is learned from
            the labels; 0.5 is the paper's equal weight, of half its loss
            (it adds the two): its learning rate for SGD is twice as high
            here.
        name: Name of the model.

    Raises:
        ValueError: If there are fewer than two students, two are one object
            or share weights, or they cannot be compared.

    Example:

    ```python
    mutual = kd.MutualDistiller([build_student(), build_student()])
    mutual.compile("adam", loss=cross_entropy, metrics=["accuracy"])
    mutual.fit(x, y, validation_data=(x_val, y_val), epochs=5)
    mutual.best_student((x_val, y_val)).save("student.keras")
    ```

    Reference: https://arxiv.org/abs/1706.00384
    """

    alpha = Scalar(minimum=0.0, maximum=1.0)

    def __init__(
        self,
        students: Iterable[keras.Model],
        temperature: float = 1.0,
        alpha: float = 0.5,
        name: str = "mutual_distiller",
        **kwargs,
    ):
        students = list(students)
        peers = MutualStudents(students)
        # Each student casts its inputs and scales its loss by its own policy.
        kwargs = {"dtype": "float32", "autocast": False, **kwargs}
        super().__init__(name=name, **kwargs)
        self.alpha = alpha
        self.students = students
        self._peers = peers
        self._soft_targets = losses_module.SoftTargets(temperature)
        self._log = LossMetrics(f"{p}soft_targets" for p in peers.prefixes)
        self._guard = StepChecks()
        self.built = all(student.built for student in students)

    @property
    def temperature(self) -> float:
        """Temperature of the peers' answers."""
        return self._soft_targets.temperature

    @temperature.setter
    def temperature(self, value):
        self._soft_targets.temperature = value

    def best_student(self, data: Split) -> keras.Model:
        """Returns the student that does best on labelled data.

        Best is the highest accuracy if the model was compiled with one,
        otherwise the lowest loss; of equals the first.

        Args:
            data: Arrays `(x, y)` or a batched `tf.data.Dataset`: validation
                data, since a choice on test data would flatter the test.
        """
        logs = self.evaluate(as_dataset(data), return_dict=True, verbose=0)
        found = [f"{prefix}accuracy" for prefix in self._peers.prefixes]
        if all(key in logs for key in found):
            figures = [logs[key] for key in found]
        else:
            figures = [-logs[f"{p}loss"] for p in self._peers.prefixes]
        return self.students[figures.index(max(figures))]

    # How it trains.

    @functools.wraps(keras.Model.compile)
    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        *args,
        **kwargs,
    ):
        shared = (loss, loss_weights, metrics, weighted_metrics, *args)
        self._peers.compile(self._guard, optimizer, *shared, **kwargs)
        super().compile(MutualOptimizers(self.students), *shared, **kwargs)
        guard_labels(self)
        return self

    def call(self, x, training=None):
        return self._peers.mean(self._peers.answers(x, training), self.loss)

    def train_step(self, data):
        self._guard.begin_step()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is None:
            raise ValueError(
                "MutualDistiller needs labels: students that know nothing can "
                "teach each other nothing. Mark examples without a label by "
                "the class id -1."
            )
        peers = self._peers
        with tf.GradientTape() as tape:
            answers = peers.answers(x, training=True)
            scores = peers.scores(answers, self.loss)
            soft_targets = peer_losses(
                scores, self._soft_targets, sample_weight
            )
            label_losses = peers.label_losses(x, y, answers, sample_weight)
            alpha = Scalar.tensor(self, "alpha")
            # As in Distiller: regularisation on both sides, so that it has
            # full weight at every alpha.
            losses = [
                alpha * (soft + regularisation) + (1.0 - alpha) * hard
                for soft, regularisation, hard in zip(
                    soft_targets,
                    map(unlabelled.regularisation, self.students),
                    label_losses,
                    strict=True,
                )
            ]
            scaled = [
                student.optimizer.scale_loss(loss)
                for student, loss in zip(self.students, losses, strict=True)
            ]
        # Of the sum of these losses only its own has a gradient for a student.
        weights = [student.trainable_weights for student in self.students]
        peers.apply(tape.gradient(scaled, weights))

        loss = sum(losses) / len(losses)
        logs = self._update(x, y, answers, losses, loss, sample_weight)
        names = [f"{prefix}soft_targets" for prefix in peers.prefixes]
        values = dict(zip(names, soft_targets, strict=True))
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        return {**logs, **self._log.update(values, {}, size)}

    def test_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        answers = self._peers.answers(x, training=False)
        losses = self._peers.label_losses(x, y, answers, sample_weight)
        mean = self._peers.mean(answers, self.loss)
        loss = self._compute_loss(x, y, mean, sample_weight)
        return self._update(x, y, answers, losses, loss, sample_weight)

    def _total_loss(self, x, y, sample_weight):
        raise ValueError(
            "A MutualDistiller has one loss for each student. Train by fit or "
            "train_on_batch; training=False gives the ensemble's label loss."
        )

    def _compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Returns the label loss of the ensemble, without regularisation."""
        return self._compile_loss(y, y_pred, sample_weight)

    def _update(self, x, y, answers, losses, loss, sample_weight):
        """Adds a batch to all metrics; returns the results so far."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        losses = [value * replicas for value in losses]
        mean = self._peers.mean(answers, self.loss)
        self._peers.update(x, y, answers, losses, sample_weight)
        size = ops.shape(keras.tree.flatten(x)[0])[0]
        self._loss_tracker.update_state(loss * replicas, size)
        return self.compute_metrics(x, y, mean, sample_weight)

    def get_metrics_result(self):
        return {**super().get_metrics_result(), **self._peers.results()}

    def reset_metrics(self):
        super().reset_metrics()
        for student in self.students:
            student.reset_metrics()

    def _symbolic_build(self, iterator=None, data_batch=None):
        for student in self.students:
            student._symbolic_build(iterator, data_batch)
        super()._symbolic_build(iterator, data_batch)

    # How it is saved.

    def __dir__(self):
        # Keras saves what it finds by `dir`; the students hold their own.
        return [name for name in super().__dir__() if name != "optimizer"]

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
            "students": [serialize(student) for student in self.students],
            "temperature": self.temperature,
            "alpha": self.alpha,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = keras.saving.deserialize_keras_object(
            dict(config), custom_objects=custom_objects
        )
        return cls(**config)

    def get_compile_config(self):
        # Each student keeps its own optimizer in its own config.
        config = super().get_compile_config()
        return {key: config[key] for key in config if key != "optimizer"}

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        super().compile(MutualOptimizers(self.students), **config)
        guard_labels(self)
