# SPDX-License-Identifier: Apache-2.0
"""StepChecks: bad numbers in a compiled step become a Python error.

An assertion inside a step that XLA compiles is dropped without a word, and
one NaN from the teacher or one label out of range then turns every weight of
the student into NaN. So the step counts what is wrong into a variable and
goes on with a harmless value; after the step the host reads the count.
"""

from __future__ import annotations

import functools
import inspect

import keras
import numpy as np
from keras import ops

from keras_kd.distillers.finite_weights import FiniteWeights
from keras_kd.distillers.finite_weights import spoilt_weights
from keras_kd.distillers.step_variables import make_step_variables
from keras_kd.distillers.steps_together import steps_for
from keras_kd.distillers.value_checks import check_fit
from keras_kd.targets.attached import split_targets

_MESSAGES = {
    "not_finite": (
        "The teacher's output has NaN or Inf for {count} example(s) of "
        "{batch}. Expected finite numbers. Check the inputs of this batch, "
        "the teacher and its preprocessing."
    ),
    "teacher_form": (
        "What the teacher's output is cannot be told for certain in {batch}. "
        "Expected rows in [0, 1] that sum to 1, which are probabilities, or "
        "numbers below 0, which are logits, and the same in all batches. "
        "Received: numbers from {low:.3g} to {high:.3g}. Say what it is: "
        "kd.teachers.FrozenTeacher(model, outputs='logits') or "
        "'probabilities'; for targets that come with the data "
        "kd.attach_targets(x, targets, outputs='logits')."
    ),
    "student_form": (
        "What the student's output is cannot be told for certain in {batch}: "
        "its last layer, and the label loss if there is one, do not say it, "
        "and its numbers, from {low:.3g} to {high:.3g}, do not show it. Say "
        "what it is: kd.Distiller(teacher, student, outputs='logits') or "
        "'probabilities'."
    ),
    "sums": (
        "Probabilities of classes must lie in [0, 1], and each row must sum "
        "to 1. Received in {batch}: numbers from {low:.3g} to {high:.3g} that "
        "do not. Are they logits, say outputs='logits'; are they yes/no units "
        "that are to teach classes, have them scaled to the sum 1: "
        "activation='softmax'."
    ),
    "units": (
        "Probabilities of yes/no units must lie in [0, 1]. Received in "
        "{batch}: numbers from {low:.3g} to {high:.3g}. Are they logits, say "
        "outputs='logits'."
    ),
    "labels": (
        "{count} label(s) of {batch} are out of range. Expected whole class "
        "ids from 0 to the number of the student's outputs minus 1 (0 to 1 "
        "for yes/no units, numbers for one-hot rows), or -1 for an example "
        "without a label."
    ),
    "sizes": (
        "The student's map has other sizes than the teacher's in {batch}. "
        "Expected taps with as many positions as each other. Pass "
        "projector='auto' to the distillation loss, which resizes the "
        "student's, or tap layers with the same strides."
    ),
    "temperature": (
        "The classes of {count} sampled target(s) of {batch} were drawn at "
        "another temperature than the loss has. Set the loss to the "
        "temperature of the cache, or store targets with `top_k` or dense "
        "ones, which serve every temperature."
    ),
    "classes": (
        "{count} class id(s) of the sparse targets of {batch} are none of the "
        "student's classes. Expected a student with as many outputs as the "
        "teacher that was stored; for a part of its classes, store the "
        "answers of kd.teachers.ClassMapping."
    ),
}


class StepChecks:
    """Counts bad values in a step and raises on the host.

    A plain object: its variable is in no checkpoint. Under
    `tf.distribute` each replica counts, and the counts are summed.
    """

    def __init__(self):
        self.batch = 0
        self._counts = keras.Variable(
            np.zeros(len(_MESSAGES), "int32"),
            trainable=False,
            aggregation="sum",
            synchronization="on_read",
        )
        self._range = keras.Variable(
            np.zeros(2, "float32"),
            trainable=False,
            aggregation="mean",
            synchronization="on_read",
        )
        # Steps of this epoch up to the first bad one, and whether the present
        # one is among them; several may run before the host looks.
        self._good, self._counting = (
            keras.Variable(
                value,
                dtype="int32",
                trainable=False,
                aggregation="only_first_replica",
                synchronization="on_read",
            )
            for value in (0, 1)
        )

    def begin_step(self) -> None:
        """Call it first in a step: after a bad one, nothing more counts."""
        none = ops.cast(ops.all(ops.equal(self._counts, 0)), "int32")
        self._counting.assign(none)
        self._good.assign_add(none)

    def begin_epoch(self) -> None:
        """Numbers batches from 0 again."""
        self.batch = 0
        self._good.assign(0)

    def finite(self, targets: dict) -> dict:
        """Returns targets with NaN and Inf replaced by 0, counting them."""
        checked, all_good = [], True
        for target in keras.tree.flatten(targets):
            target = ops.convert_to_tensor(target)
            if keras.backend.is_float_dtype(target.dtype):
                good = ops.isfinite(target)
                rows = ops.reshape(good, (ops.shape(good)[0], -1))
                all_good = ops.logical_and(all_good, ops.all(rows, axis=1))
                target = ops.where(good, target, ops.zeros_like(target))
            checked.append(target)
        self.count("not_finite", ops.logical_not(all_good))
        return keras.tree.pack_sequence_as(targets, checked)

    def count_range(self, kind: str, bad, values) -> None:
        """Counts a batch that is bad, and keeps the range of its values."""
        bad = ops.logical_and(bad, self._counting > 0)
        self.count(kind, bad)
        ends = ops.stack([ops.min(values), ops.max(values)])
        self._range.assign(ops.where(bad, ends, ops.copy(self._range)))

    def count(self, kind: str, bad) -> None:
        """Counts what `_MESSAGES[kind]` reports, by booleans of any shape."""
        places = ops.arange(len(_MESSAGES)) == list(_MESSAGES).index(kind)
        number = ops.sum(ops.cast(bad, "int32")) * self._counting
        self._counts.assign_add(ops.cast(places, "int32") * number)

    def watch(self, step, steps: int, model: keras.Model):
        """Returns a compiled function of `steps` batches that is checked."""

        def watched(iterator):
            own, model.steps_per_execution = model.steps_per_execution, steps
            try:
                logs = step(iterator)  # Keras reads it when it traces
            finally:
                model.steps_per_execution = own
            one = inspect.isgenerator(iterator)  # of `train_on_batch`
            self.raise_if_tripped(1 if one else steps, model)
            return logs

        return watched

    def raise_if_tripped(
        self, steps: int, model: keras.Model | None = None
    ) -> None:
        """Raises a `ValueError` if the last `steps` steps counted anything."""
        first, self.batch = self.batch, self.batch + steps
        counts = ops.convert_to_numpy(self._counts)
        if not counts.any():
            return
        self._counts.assign(np.zeros_like(counts))
        self._counting.assign(1)
        last = int(ops.convert_to_numpy(self._good)) - 1
        batch = f"batch {max(first, last)}"
        if last < 0 and steps > 1:  # an evaluation does not number its steps
            batch = f"batches {first} to {first + steps - 1}"
        found = zip(_MESSAGES.values(), counts, strict=True)
        message, count = next(pair for pair in found if pair[1])
        low, high = ops.convert_to_numpy(self._range)
        batch = f"{batch} of this epoch"
        message = message.format(count=count, batch=batch, low=low, high=high)
        unspoilt = model is not None and not spoilt_weights(model)
        kept = "; the student's weights are finite" * unspoilt
        raise ValueError(f"{message} It was stopped here{kept}.")


class StepChecked:
    """What a `keras.Model` that trains by losses of ours inherits first.

    It has a `StepChecks` in `_guard` and a `LossMetrics` in `_log`. Keras
    makes the functions of a fit and of an evaluation once; here each is
    looked at by the guard after every call. Arrays are looked at before the
    first step, and the weights after each epoch.

    Where nobody has set `steps_per_execution`, steps of a `fit` run together,
    and those of anything else do not: `evaluate(steps=...)` would round up.
    """

    _steps_given = False
    _steps_traced: int | None = None
    _steps_elsewhere: int | None = None

    @functools.wraps(keras.Model.compile)
    def compile(self, *args, **kwargs):
        signature = inspect.signature(keras.Model.compile)
        given = signature.bind(self, *args, **kwargs).arguments
        self._steps_given = "steps_per_execution" in given
        return super().compile(*args, **kwargs)

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        given = inspect.signature(super().fit).bind(*args, **kwargs)
        x, y = map(given.arguments.get, ("x", "y"))
        students = getattr(self, "students", None) or [self.student]
        check_fit(split_targets(x)[0], y, students, self.loss)
        make_step_variables(self, x, y)
        watch = FiniteWeights()
        callbacks = given.arguments.get("callbacks")
        if isinstance(callbacks, keras.callbacks.CallbackList):
            watch.set_model(self)
            callbacks.append(watch)
        else:
            given.arguments["callbacks"] = [
                *keras.tree.flatten(callbacks or []),
                watch,
            ]
        self._steps_elsewhere = steps = self.steps_per_execution
        if not self._steps_given and steps == 1:
            steps = steps_for(self, given.arguments)
        if steps != self._steps_traced:
            self.train_function = None
        self.steps_per_execution = steps
        try:
            return super().fit(*given.args, **given.kwargs)
        finally:
            self.steps_per_execution = self._steps_elsewhere
            self._steps_elsewhere = None

    def reset_metrics(self):
        super().reset_metrics()
        self._log.reset()
        self._guard.begin_epoch()

    def _get_metrics_result_or_logs(self, logs):
        # Keras' own takes the replicas' mean of what is not in `metrics`.
        result = {**self.get_metrics_result(), **self._log.result()}
        return {key: result.get(key, logs[key]) for key in logs}

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force)
            steps = self._steps_traced = self.steps_per_execution
            self.train_function = self._guard.watch(
                self.train_function, steps, self
            )
        if self._steps_elsewhere is not None:
            # The iterator of `fit` has read it by now, none of others has.
            self.steps_per_execution = self._steps_elsewhere

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force)
            steps = self.steps_per_execution
            self.test_function = self._guard.watch(
                self.test_function, steps, self
            )
