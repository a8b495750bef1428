# SPDX-License-Identifier: Apache-2.0
"""HyperDistiller: a distillation whose settings KerasTuner searches."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.errors import FatalTypeError
from keras_tuner.errors import FatalValueError

from keras_kd import losses as losses_module
from keras_kd import teachers
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import MetricLike
from keras_kd.core.type_aliases import SearchedLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.step_variables import build_optimizer
from keras_kd.tasks import Task
from keras_kd.tasks.base import TEMPERATURE
from keras_kd.tasks.distilling import losses_for
from keras_kd.training.trainer import copies_of
from keras_kd.training.trainer import loss_and_metrics
from keras_kd.tuning.space.searchable import Searched
from keras_kd.tuning.space.searchable import is_choice
from keras_kd.tuning.space.searchable import takes_hp
from keras_kd.tuning.trials.decay import DecayFromPeak
from keras_kd.tuning.trials.labelled_once import LabelledOnce
from keras_kd.tuning.trials.shared_step import SharedSteps
from keras_kd.tuning.trials.shared_step import build_for


class HyperDistiller(keras_tuner.HyperModel):
    """A `keras_tuner.HyperModel` of distilled students, for any tuner.

    Searches temperature, alpha and learning rate; and whatever else
    `build_student` and `distillation_losses` ask of `hp`: the student's
    architecture, the losses, their weights, the teacher's taps. Checkpoints
    hold student, projectors and optimizer, never the teacher; a best model
    is a `Distiller`, its `student` the plain model to keep.

    Name an objective that does not depend on T and alpha, such as
    `"val_accuracy"`.

    Two things make trials cheap. Over arrays the teacher is run once, where
    the losses want no more than its output: keep passing the same array
    objects. And trials of one architecture share one compiled step; each
    ends as it would alone.

    Args:
        teacher: What `Distiller` takes.
        build_student: Returns a new student, uncompiled or not; takes `hp`
            or nothing.
        temperature: A number, a range `(low, high)` (searched by logarithm),
            or a list to choose from: of every loss that has a temperature.
            `None` leaves the losses theirs.
        alpha: Weight of the distillation in `[0, 1]`, likewise; a range is
            searched linearly.
        learning_rate: For Adam, likewise; a range is searched by logarithm.
        distillation_losses: `None` for `SoftTargets`, a loss or a list, or a
            function of `hp` that returns them.
        loss: Label loss; `None` for the one that fits the student's output.
        metrics: As in `compile`; `None` for the accuracy of classifiers.
        task: What gives losses and metrics that are `None`, of
            `keras_kd.tasks`.
        steps: Training steps over which a cosine decay takes the learning
            rate to zero; `None` keeps it constant.
        name: See `keras_tuner.HyperModel`.
        tunable: See `keras_tuner.HyperModel`.
        share_steps: Whether trials of one architecture share a compiled
            step. Turn it off for custom layers whose `get_config` leaves out
            what changes their computation.
        steps_per_execution: As in `compile`.

    Raises:
        ValueError: If a range or another argument makes no sense.

    Example:

    ```python
    import keras_tuner

    def distillation_losses(hp):
        weight = hp.Float("weight", 0.1, 10.0, sampling="log")
        kind = hp.Choice("kind", ["features", "attention"])
        losses = kd.losses
        method = {
            "features": losses.FeatureMatching,
            "attention": losses.AttentionTransfer,
        }[kind]
        tap = hp.Choice("teacher_tap", ["conv_2", "conv_4"])
        projector = "auto" if kind == "features" else None
        between = method(tap, "conv_4", weight=weight, projector=projector)
        return [losses.SoftTargets(), between]

    hyper_distiller = kd.HyperDistiller(
        teacher, build_student, distillation_losses=distillation_losses
    )
    tuner = keras_tuner.RandomSearch(
        hyper_distiller, objective="val_accuracy", max_trials=2, seed=1
    )
    tuner.search(x, y, validation_data=(x_val, y_val), verbose=0)
    student = tuner.get_best_models()[0].student
    ```

    Reference: https://keras.io/keras_tuner/
    """

    def __init__(
        self,
        teacher: TeacherLike | None,
        build_student: Callable[..., keras.Model],
        temperature: SearchedLike = (1.0, 20.0),
        alpha: SearchedLike = (0.0, 1.0),
        learning_rate: SearchedLike = (1e-4, 1e-2),
        distillation_losses: LossLike | Callable[..., LossLike] | None = None,
        loss: LabelLossLike | None = None,
        metrics: Sequence[MetricLike] | None = None,
        task: Task | None = None,
        steps: int | None = None,
        name: str | None = None,
        tunable: bool = True,
        share_steps: bool = True,
        steps_per_execution: int = 1,
    ):
        super().__init__(name=name, tunable=tunable)
        teachers.get(teacher)  # raises if it is none
        self._takes_hp = takes_hp(build_student)
        if steps is not None and (
            not isinstance(steps, int) or isinstance(steps, bool) or steps < 1
        ):
            raise ValueError(
                "`steps` must be a positive whole number of training steps, "
                f"or None for a constant rate. Received: steps={steps!r}"
            )
        if distillation_losses is None:
            distillation_losses = losses_module.SoftTargets()
            if task is not None:
                distillation_losses = losses_for(task)
        if not is_choice(distillation_losses):
            copies_of(distillation_losses)  # raises if one is none
        self.teacher = teacher
        self._build_student = build_student
        self.space = {
            "temperature": None
            if temperature is None
            else Searched("temperature", temperature, TEMPERATURE),
            "alpha": Searched("alpha", alpha, 0.7, is_share=True),
            "learning_rate": Searched("learning_rate", learning_rate, 1e-3),
        }
        self.distillation_losses = distillation_losses
        self.loss = loss
        self.metrics = metrics
        self.task = task
        self.steps = steps
        self.share_steps = share_steps
        self.steps_per_execution = steps_per_execution
        self._labels = LabelledOnce(teacher)
        self._shared = SharedSteps()
        self._last_student = None

    def build(self, hp: keras_tuner.HyperParameters) -> Distiller:
        """Returns a new, compiled distiller with the settings in `hp`.

        Raises:
            FatalValueError: If student, teacher and losses do not fit. It
                ends a search, which would fail in the same way again.
        """
        return self._distiller(hp)

    def _distiller(self, hp):
        # Apart from `build`, which KerasTuner wraps.
        with _fatal_errors():
            losses = self.losses(hp)
        alpha = self.value(hp, "alpha")
        rate = self.value(hp, "learning_rate")
        # Not inside: one architecture of many may be impossible.
        student = self.build_student(hp)
        with _fatal_errors():
            if student is self._last_student:
                raise ValueError(
                    "`build_student` must return a new model each time. "
                    "Received the model of the trial before, whose weights "
                    "are trained."
                )
            self._last_student = student
            distiller = Distiller(
                self.teacher,
                student,
                alpha=alpha,
                distillation_losses=losses,
                task=self.task,
            )
            loss, metrics = self.loss_and_metrics(student)
        if self.steps is not None:
            rate = DecayFromPeak(rate, self.steps)
        distiller.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=loss,
            metrics=metrics,
            steps_per_execution=self.steps_per_execution,
        )
        # Without it a checkpoint could not bring the optimizer's state back.
        build_optimizer(distiller)
        return distiller

    def build_student(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns a new student."""
        return self._build_student(*([hp] if self._takes_hp else []))

    def losses(
        self, hp: keras_tuner.HyperParameters, temperature: float | None = None
    ) -> list:
        """Returns new losses, with the trial's temperature or a given one."""
        losses = self.distillation_losses
        losses = copies_of(losses(hp) if is_choice(losses) else losses)
        heated = [loss for loss in losses if hasattr(loss, "temperature")]
        if heated and temperature is None:
            # Not asked for in vain: it would be one dimension more.
            temperature = self.value(hp, "temperature")
        if temperature is not None:
            for loss in heated:
                loss.temperature = temperature
        return losses

    def loss_and_metrics(self, student: keras.Model) -> tuple[Any, list]:
        """Returns what a student is compiled with."""
        given = loss_and_metrics(student, self.loss, self.metrics, self.task)
        loss, metrics = given
        return loss, keras.tree.map_structure(_copy_of_metric, metrics)

    def value(self, hp: keras_tuner.HyperParameters, name: str) -> float | None:
        """Returns a trial's temperature, alpha or learning rate."""
        searched = self.space[name]
        return None if searched is None else searched.ask(hp)

    def fit(self, hp, model, *args, **kwargs) -> keras.callbacks.History:
        """Trains a model that `build` returned.

        Args:
            hp: The trial's hyperparameters.
            model: A distiller; it ends trained.
            *args: As in `keras.Model.fit`.
            **kwargs: Likewise. Callbacks see the distiller that is trained,
                which is another one than `model` where steps are shared.
        """
        # Of the class: an instance's own `fit` may be wrapped.
        signature = inspect.signature(keras.Model.fit)
        arguments = signature.bind(model, *args, **kwargs).arguments
        del arguments["self"]
        arguments["x"] = self._labels.attach(
            model, arguments.get("x"), verbose=arguments.get("verbose") != 0
        )
        build_for(model, arguments["x"])
        if not self.share_steps:
            return model.fit(**arguments)
        return self._shared.fit(
            model, lambda: self._distiller(hp.copy()), **arguments
        )


def _copy_of_metric(metric):
    if isinstance(metric, keras.metrics.Metric):  # they hold variables
        return type(metric).from_config(metric.get_config())
    return metric


@contextlib.contextmanager
def _fatal_errors():
    """Turns an error that every trial would meet into the end of a search."""
    try:
        yield
    except ValueError as error:
        raise FatalValueError(str(error)) from error
    except TypeError as error:
        raise FatalTypeError(str(error)) from error
