# SPDX-License-Identifier: Apache-2.0
"""Training one student, with or without its teacher, the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import losses as losses_module
from keras_kd.core import output_heads
from keras_kd.core.progress import TrainingProgress
from keras_kd.core.progress import say
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.data.splits import labels_of
from keras_kd.distillers import unlabelled
from keras_kd.distillers.distiller import Distiller
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.cache import TeacherCache
from keras_kd.training.training_step import MEASURED
from keras_kd.training.training_step import MEASURED_FROM
from keras_kd.training.training_step import check_step
from keras_kd.training.training_step import look_at
from keras_kd.training.training_step import measure_step


def train(
    build: Callable[[], keras.Model],
    data: Data,
    *,
    title: str | None,
    seed: int = 0,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: Any = 1e-3,
    loss: Any = None,
    teacher: Any = None,
    targets: np.ndarray | None = None,
    labels: TeacherCache | None = None,
    temperature: float = 4.0,
    alpha: float = 0.7,
    distillation_losses: Any = None,
    metrics: Sequence[Any] | None = None,
    watch: tuple[str, str] | None = None,
    step: str | None = MEASURED,
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
        loss: Label loss; `None` for `heads.default_loss`.
        teacher: What `Distiller` takes.
        targets: The teacher's logits for `data.train`, in its order; the
            teacher is then not run.
        labels: A cache of the teacher's answers to `data.train`, likewise.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
        metrics: What to measure; `None` for the accuracy of a classifier.
        watch: Figure whose best epoch is kept and its direction, such as
            `("val_accuracy", "max")`, which is the default of a classifier;
            of others it is `("val_loss", "min")`.
        step: `"measured"`: a training of 4,000 steps or more first measures
            whether more `steps_per_execution` are faster, and says what was
            chosen; what is learned is the same to the last bit. `None`: it
            does not.

    Returns:
        The trained model, and a dict of its `epochs`, `best_epoch`, `steps`,
        `seconds`, the best value of the watched figure, and the `history`.
    """
    check_step(step)
    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = build()
    loss = output_heads.default_loss(model) if loss is None else loss
    default = default_metrics(loss)
    has_targets = targets is not None or labels is not None
    distilled = teacher is not None or has_targets
    trained = model
    if distilled:
        copied = copies_of(distillation_losses)
        trained = Distiller(
            None if has_targets else teacher,
            model,
            temperature=None if copied else temperature,
            alpha=alpha,
            distillation_losses=copied,
        )
    arguments = fit_arguments(
        data.train,
        batch_size,
        seed,
        targets,
        labels,
        labelled_only=unlabelled.is_sparse(loss) and not distilled,
    )
    epoch, sample = look_at(arguments, data.train, batch_size, labels)
    steps = epochs * epoch
    if isinstance(learning_rate, (int, float)):
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, steps
        )
    trained.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=loss,
        metrics=default if metrics is None else list(metrics),
    )
    watched, mode = watch or (
        ("val_accuracy", "max") if default else ("val_loss", "min")
    )
    # By the number of steps, so that the clock decides on speed alone.
    if step == MEASURED and sample and steps >= MEASURED_FROM:
        chosen = measure_step(trained, sample(), batch_size, steps)
        if chosen and title is not None:
            say(f"{title}: {chosen}")
    keep_best = KeepBest(watched, mode)
    callbacks = [keep_best]
    if title is not None:
        callbacks.append(TrainingProgress(title, watched))
    try:
        history = trained.fit(
            **arguments,
            epochs=epochs,
            validation_data=data.validation,
            callbacks=callbacks,
            verbose=0,
        ).history
    finally:
        for progress in callbacks[1:]:
            progress.close()
    return model, {
        "epochs": epochs,
        "best_epoch": keep_best.best_epoch,
        "steps": int(trained.optimizer.iterations),
        "seconds": time.perf_counter() - began,
        watched: history[watched][keep_best.best_epoch],
        "history": history,
    }


class KeepBest(keras.callbacks.EarlyStopping):
    """Ends a training with the weights of its best epoch.

    It never stops early: every training takes the same number of steps.

    Args:
        monitor: Figure to watch.
        mode: `"max"` or `"min"`.

    Raises:
        ValueError: After the first epoch, if the figure is not measured.
    """

    def __init__(self, monitor: str, mode: str):
        super().__init__(
            monitor, mode=mode, patience=2**31, restore_best_weights=True
        )

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"{self.monitor!r} is not among what is measured. Expected "
                f"one of {sorted(logs or {})}. Pass it in `metrics`, too."
            )
        super().on_epoch_end(epoch, logs)


def default_metrics(loss: Any) -> list[str]:
    """Returns what is measured where nothing is asked for."""
    classifies = "crossentropy" in (unlabelled.loss_name(loss) or "")
    return ["accuracy"] if classifies else []


def copies_of(distillation_losses: Any) -> list | None:
    """Returns losses of its own for every training: they hold variables.

    Args:
        distillation_losses: What `Distiller` takes; `None` stays `None`.
    """
    if distillation_losses is None:
        return None
    if not isinstance(distillation_losses, (list, tuple)):
        distillation_losses = [distillation_losses]
    losses = map(losses_module.get, distillation_losses)
    return [type(loss).from_config(loss.get_config()) for loss in losses]


def fit_arguments(
    split,
    batch_size: int,
    seed: int,
    targets: np.ndarray | None = None,
    labels: TeacherCache | None = None,
    labelled_only: bool = False,
) -> dict[str, Any]:
    """Returns the arguments of `fit` that bring a training split.

    Args:
        split: Arrays `(x, y)`, or a batched `tf.data.Dataset`.
        batch_size: Examples in a step, for arrays.
        seed: Of the shuffling, where the data set does it.
        targets: See `train`.
        labels: See `train`.
        labelled_only: Whether unlabelled examples are left out, and the
            others repeated to as many steps.
    """
    if labels is not None:
        split = labels.attach(split, batch_size, shuffle=True, seed=seed)
    if labelled_only:
        labels = labels_of(split)
        if np.any(labels == UNLABELLED):
            return _labelled_batches(split, labels, batch_size, seed)
    if isinstance(split, tf.data.Dataset):
        return {"x": split, "shuffle": False}  # Keras would warn it cannot
    x, y = split
    if targets is not None:
        x = attach_targets(x, {"output": targets})
    return {"x": x, "y": y, "batch_size": batch_size}


def steps_per_epoch(arguments: dict[str, Any]) -> int:
    """Returns the steps of an epoch with these arguments of `fit`."""
    if "steps_per_epoch" in arguments:
        return arguments["steps_per_epoch"]
    if isinstance(arguments["x"], tf.data.Dataset):
        return int(arguments["x"].reduce(0, lambda count, _: count + 1))
    return math.ceil(len(arguments["y"]) / arguments["batch_size"])


def _labelled_batches(split, labels, batch_size, seed):
    """Only the labelled examples, repeated to as many steps an epoch."""
    if labels.ndim > 1:
        raise ValueError(
            "A control needs whole examples with or without a label. Received: "
            f"labels of shape {labels.shape} with some ids of {UNLABELLED}."
        )
    keep = np.flatnonzero(labels != UNLABELLED)
    if not len(keep):
        raise ValueError(
            "No training example has a label, so there is no control to "
            "train. Pass control=False."
        )
    if isinstance(split, tf.data.Dataset):
        steps = steps_per_epoch({"x": split})
        examples = split.unbatch().filter(lambda x, y: y != UNLABELLED)
        batch_size = math.ceil(len(labels) / steps)
    else:
        steps = math.ceil(len(labels) / batch_size)
        examples = tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda a: np.asarray(a)[keep], tuple(split))
        )
    batches = examples.shuffle(len(keep), seed=seed).repeat().batch(batch_size)
    return {
        "x": batches.prefetch(tf.data.AUTOTUNE),
        "steps_per_epoch": steps,
        "shuffle": False,  # done above; Keras would warn that it cannot
    }
