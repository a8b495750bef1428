# SPDX-License-Identifier: Apache-2.0
"""Training a control, a student or a trial of a search, the same way."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd import losses as losses_module
from keras_kd.core import output_heads
from keras_kd.core.arguments import check_count
from keras_kd.core.arguments import check_learning_rate
from keras_kd.core.fused_batch_norm import fused_batch_norm
from keras_kd.core.label_losses import loss_name
from keras_kd.core.model_inputs import check_takes_all
from keras_kd.core.progress import TrainingProgress
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import OptimizerLike
from keras_kd.data.reading import strings_for_keras
from keras_kd.data.splits import as_data
from keras_kd.distillers import unlabelled
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.finite_weights import FiniteWeights
from keras_kd.distillers.guarded import guard_labels
from keras_kd.distillers.step_variables import make_step_variables
from keras_kd.distillers.steps_together import steps_together
from keras_kd.targets.cache import TeacherCache
from keras_kd.tasks import Headline
from keras_kd.tasks import Task
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.fit_arguments import steps_per_epoch
from keras_kd.training.keep_best import KeepBest
from keras_kd.training.optimizers import optimizer_for
from keras_kd.training.step_tuning import StepSettings
from keras_kd.training.task_of import JudgeEpochs


def train(
    build: Callable[[], keras.Model],
    data: DataLike,
    *,
    title: str | None,
    seed: int = 0,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: Any = 1e-3,
    loss: Any = None,
    teacher: Any = None,
    targets: Any = None,
    cache: TeacherCache | None = None,
    temperature: float = 4.0,
    alpha: float = 0.7,
    distillation_losses: Any = None,
    metrics: Sequence[Any] | None = None,
    watch: tuple[str, str] | None = None,
    task: Task | None = None,
    optimizer: OptimizerLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    loss_weights: Any = None,
    augment: Callable | None = None,
) -> tuple[keras.Model, dict]:
    """Builds a model and trains it; the best epoch on validation is kept.

    With a teacher (or its `targets`) the model is distilled. Without one it
    learns from the labelled examples alone, in as many steps of the same
    batch size: the control. One seed gives both the same initial weights.

    Args:
        build: Returns a new model.
        data: Its `train` and `validation` splits are used.
        title: What the progress bar calls it; `None` for no bar.
        seed: Seed of the initial weights, dropout and shuffling.
        epochs: Passes over `data.train`.
        batch_size: Examples in a step, where the splits are arrays.
        learning_rate: For Adam: the peak of a cosine decay to zero over the
            whole training, or a Keras schedule.
        loss: Label loss; `None` for the one that fits the model's output.
        teacher: What `Distiller` takes.
        targets: The teacher's output on `data.train`, in its order, as
            `attach_targets` takes it; the teacher is then not run.
        cache: A cache of the teacher's answers to `data.train`, likewise.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
        metrics: What to measure; `None` for the accuracy of a classifier.
        watch: Metric whose best epoch is kept and its direction, such as
            `("val_accuracy", "max")`, which is the default of a classifier;
            of others it is `("val_loss", "min")`.
        task: What gives the loss and metrics that are `None`, and the
            headline whose best epoch is kept.
        optimizer: See `optimizer_for`.
        callbacks: More callbacks of `fit`.
        loss_weights: Of the outputs, as in `compile`.
        augment: See `augmented`; for arrays. A teacher sees the same.

    Returns:
        The trained model, and a dict of its `epochs`, `best_epoch`, `steps`,
        `seconds`, the best value of the watched metric, and the `history`.
    """
    began = time.perf_counter()
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    check_learning_rate("learning_rate", learning_rate)
    data = as_data(data)
    keras.utils.set_random_seed(seed)
    model = trained = build()
    judging: list[keras.callbacks.Callback] = []
    asked = names_of(metrics or [], model)
    loss, metrics = loss_and_metrics(model, loss, metrics, task)
    if task is not None:
        headline, name = task.headline, f"val_{task.headline.name}"
        watch = watch or (name, headline.direction)
        if watch[0] == name and headline.name not in names_of(metrics, model):
            judging = [JudgeEpochs(task, data.validation)]
    has_targets = targets is not None or cache is not None
    distilled = teacher is not None or has_targets
    if distilled:
        copied = copies_of(distillation_losses)
        trained = Distiller(
            None if has_targets else teacher,
            model,
            temperature=None if copied else temperature,
            alpha=alpha,
            distillation_losses=copied,
            task=task,
        )
    arguments = fit_arguments(
        data.train,
        batch_size,
        seed,
        targets,
        cache,
        labelled_only=not distilled and has_missing(loss),
        augment=augment,
    )
    steps = steps_per_epoch(arguments)
    trained.compile(
        optimizer=optimizer_for(optimizer, learning_rate, epochs * steps),
        loss=loss,
        loss_weights=loss_weights,
        metrics=metrics,
    )
    if not distilled:
        check_takes_all(model, arguments["x"])
        guard_labels(model)
        callbacks = [*callbacks, FiniteWeights()]  # as a distiller has it
        make_step_variables(model, arguments["x"], arguments.get("y"))
    together = steps_together(
        steps, trained.distribute_strategy, "steps_per_epoch" in arguments
    )
    StepSettings(trained.jit_compile, together).apply(trained)
    best = ("val_accuracy", "max") if default_metrics(loss) else None
    with fused_batch_norm(model):  # a control as a student has it
        facts = fit_best(
            trained.fit,
            arguments,
            data.validation,
            watch or best or ("val_loss", "min"),
            title=title,
            judging=judging,
            callbacks=callbacks,
            epochs=epochs,
        )
    shown = facts["best_epoch"] - 1
    for name in (f"val_{name}" for name in asked):
        if name in facts["history"]:
            facts[name] = facts["history"][name][shown]
    # Whoever trains on has callbacks that count batches.
    StepSettings(trained.jit_compile, 1).apply(trained)
    return model, {
        "epochs": epochs,
        "steps": int(trained.optimizer.iterations.numpy()),
        "seconds": time.perf_counter() - began,
        **facts,
    }


def has_missing(loss: Any) -> bool:
    """Whether labels of any loss may be missing: class ids, zeros and ones."""
    if isinstance(loss, dict):
        return any(map(has_missing, loss.values()))
    return unlabelled.is_sparse(loss) or unlabelled.is_binary(loss)


def names_of(metrics: Any, model: keras.Model) -> set[str]:
    """Returns the names that a model logs metrics of `compile` under."""
    if isinstance(metrics, dict):
        several = len(getattr(model, "outputs", None) or metrics) > 1
        return {
            f"{output}_{name}" if several else name
            for output, each in metrics.items()
            for name in names_of(each, model)
        }
    return {getattr(metric, "name", metric) for metric in metrics}


def validation_value(
    metrics: dict[str, Any], headline: Headline | None = None
) -> float:
    """Returns what trainings are compared by; more is better.

    That is the headline, unless another figure was watched.
    """
    if headline is not None and f"val_{headline.name}" in metrics:
        return headline.better(metrics[f"val_{headline.name}"], than=0.0)
    if "val_accuracy" in metrics:
        return metrics["val_accuracy"]
    return -metrics["val_loss"]


def fit_best(
    fit: Callable[..., keras.callbacks.History],
    arguments: dict[str, Any],
    validation: Any,
    watch: tuple[str, str],
    *,
    title: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    judging: Sequence[keras.callbacks.Callback] = (),
    **options: Any,
) -> dict[str, Any]:
    """Trains a control, a student or a trial; its best epoch is kept.

    Args:
        fit: The `fit` of a compiled model, or what trains one likewise.
        arguments: What `fit_arguments` returned.
        validation: The validation split.
        watch: See `train`.
        title: See `train`.
        callbacks: More of them.
        judging: Those that log what is watched, called first.
        **options: Other arguments of `fit`.

    Returns:
        `best_epoch`, the best value of the watched metric, and `history`.
    """
    keep_best = KeepBest(*watch)
    bars = [] if title is None else [TrainingProgress(title, watch[0])]
    try:
        history = fit(
            **arguments,
            **options,
            validation_data=strings_for_keras(validation),
            callbacks=[*judging, keep_best, *callbacks, *bars],
            verbose=0,
        ).history
    finally:
        for bar in bars:
            bar.close()
    return {
        "best_epoch": keep_best.best_epoch,
        watch[0]: float(keep_best.best),
        "history": {k: list(map(float, v)) for k, v in history.items()},
    }


def default_metrics(loss: Any) -> list[str]:
    """Returns what is measured where nothing is asked for."""
    classifies = "crossentropy" in (loss_name(loss) or "")
    return ["accuracy"] if classifies else []


def loss_and_metrics(
    student: keras.Model,
    loss: Any = None,
    metrics: Any = None,
    task: Task | None = None,
) -> tuple[Any, Any]:
    """Returns what a student is compiled with; see `train` for `None`."""
    if task is not None:
        loss = task.label_loss(student) if loss is None else loss
        metrics = task.metrics(student) if metrics is None else metrics
    else:
        loss = output_heads.default_loss(student) if loss is None else loss
        metrics = default_metrics(loss) if metrics is None else metrics
    for metric in keras.tree.flatten(metrics):
        # Keras empties it after the first epoch only, and what it counted in
        # an earlier training would be in this one's figures.
        if isinstance(metric, keras.Metric):
            metric.reset_state()
    return loss, metrics


def copies_of(distillation_losses: Any) -> list | None:
    """Returns losses of its own for every training: they hold variables."""
    if not distillation_losses:
        return distillation_losses
    losses = losses_module.get_all(distillation_losses)
    return [type(loss).from_config(loss.get_config()) for loss in losses]
