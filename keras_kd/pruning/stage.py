# SPDX-License-Identifier: Apache-2.0
"""prune(): the stage that returns a pruned copy of a student."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_kd import tasks
from keras_kd.core.arguments import check_count
from keras_kd.core.arguments import check_learning_rate
from keras_kd.core.copying import copy_of
from keras_kd.core.fused_batch_norm import fused_batch_norm
from keras_kd.core.model_inputs import check_takes_all
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import LossWeightsLike
from keras_kd.core.type_aliases import Split
from keras_kd.core.type_aliases import TaskLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.parts import take
from keras_kd.data.reading import strings_for_keras
from keras_kd.data.splits import Data
from keras_kd.data.splits import read_split
from keras_kd.data.splits import split_of
from keras_kd.data.splits import with_known_count
from keras_kd.distillers.default_losses import task_to_train
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.finite_weights import FiniteWeights
from keras_kd.distillers.guarded import guard_labels
from keras_kd.distillers.step_variables import make_step_variables
from keras_kd.distillers.value_checks import check_values
from keras_kd.pruning.callback import Pruning
from keras_kd.pruning.kernels import prunable_kernels
from keras_kd.pruning.kernels import sparsity_table
from keras_kd.targets.attached import split_targets


def prune(
    student: keras.Model,
    data: DataLike | Split,
    sparsity: float = 0.8,
    teacher: TeacherLike | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    temperature: float | None = None,
    alpha: float = 0.7,
    distillation_losses: LossLike | None = None,
    loss: LabelLossLike | None = None,
    loss_weights: LossWeightsLike | None = None,
    task: TaskLike | None = None,
    schedule: Callable | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    verbose: int = 0,
    **options,
) -> tuple[keras.Model, StageRecord]:
    """Prunes a copy of a trained student, while its teacher keeps teaching.

    The sparsity rises over the first 70% of the steps; the rest recovers.
    The student itself is not touched. Zeros make a file smaller only where
    they are packed (a compressed archive, or a .tflite of a model that is
    sparse enough, see `export`), and the model no faster.

    Args:
        student: A built, trained model.
        data: `Data` (or a dict of splits), arrays `(x, y)` or `(x, y,
            sample_weight)`, or a batched `tf.data.Dataset` to train on.
        sparsity: Share of zeros to reach, in (0, 1).
        teacher: What `Distiller` takes as a teacher. `None` learns from the
            targets that come with the data, if any, else from the labels
            alone.
        epochs: Passes over the training data.
        batch_size: Examples in a step, where `data` holds arrays.
        learning_rate: For Adam: a float or a Keras schedule.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
        loss: Student loss. Defaults to that of `task`, else to the one the
            student is compiled with, else to that of the task,
            where model and labels leave no doubt of it.
        loss_weights: As in `compile`. Defaults to those the student is
            compiled with, where `loss` does.
        task: What outputs and labels mean; see `Distiller`.
        schedule: See `Pruning`.
        callbacks: More callbacks for `fit`. They see `val_loss` if `data` is
            a `Data`.
        seed: Of shuffling, dropout and projectors: equal arguments give equal
            weights, whatever ran before. It becomes Keras' random seed. Not
            covered is the order of a `tf.data.Dataset` that shuffles itself.
        verbose: As in `fit`.
        **options: More arguments of `Pruning`, such as `exclude`.

    Returns:
        The pruned model, uncompiled, and a record with its `sparsity`,
        `parameters`, `nonzero_parameters` and sparsity per layer.

    Raises:
        ValueError: If an argument is out of range, or the student is not
            built, cannot be copied or has no kernel to prune.

    Example:

    ```python
    pruned, record = kd.prune(student, data, sparsity=0.8, teacher=teacher)
    ```
    """
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    check_learning_rate("learning_rate", learning_rate)
    pruning = Pruning(sparsity, schedule=schedule, **options)
    split = read_split(split_of(data, "train"), "data")
    check_values(data, student)
    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    copy = copy_of(student)
    few = strings_for_keras(split_targets(take(split, 8))[0])
    _check_same(student, copy, few)
    if loss is None and loss_weights is None and student.loss:
        loss_weights = student.get_compile_config()["loss_weights"]
    task = task_to_train(task)
    if loss is None and task is not None:
        loss = task.label_loss(student)
    if loss is None and not student.loss:
        # Its last layer does not tell classes from numbers.
        labels = _some_labels(split)
        if labels is not None:
            loss = tasks.infer(student, labels).label_loss(student)
    loss = loss or student.loss
    arrays = not isinstance(split, tf.data.Dataset)
    if not arrays:
        split = with_known_count(split)  # the schedule asks for its steps
    x = split[0] if arrays else split.element_spec[0]
    # Targets may come with the data.
    distilled = teacher is not None or split_targets(x)[1] is not None
    trained = copy
    if distilled:
        trained = Distiller(
            teacher=teacher,
            student=copy,
            temperature=None if distillation_losses else temperature,
            alpha=alpha,
            distillation_losses=distillation_losses,
            task=task,
        )
    trained.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=loss,
        loss_weights=loss_weights,
    )
    parts = strings_for_keras(split) if arrays else (split,)
    if not distilled:
        check_takes_all(copy, x)
        guard_labels(copy)
        make_step_variables(copy, *parts[:2])
    watched = bool(callbacks) and isinstance(data, (Data, Mapping))
    finite = [] if distilled else [FiniteWeights()]  # a distiller has its own
    with fused_batch_norm(copy):  # with a teacher and without
        trained.fit(
            **dict(zip(("x", "y", "sample_weight"), parts, strict=False)),
            batch_size=batch_size if arrays else None,
            shuffle=arrays,  # of a data set Keras would warn that it cannot
            epochs=epochs,
            validation_data=split_of(data, "validation") if watched else None,
            callbacks=[pruning, *callbacks, *finite],
            verbose=verbose,
        )
    pruning.apply_masks()
    # A second copy leaves the optimizer's state behind: it would triple the
    # size of the saved file.
    pruned = copy_of(copy)
    kernels = prunable_kernels(pruned, pruning.include, pruning.exclude)
    serialize = keras.saving.serialize_keras_object
    settings = {
        "sparsity": pruning.target,
        "schedule": pruning.schedule_in_use.get_config(),
        "epochs": epochs,
        "batch_size": batch_size if arrays else None,
        "learning_rate": serialize(learning_rate),
        "loss": serialize(loss),
        "loss_weights": loss_weights,
        "distilled": distilled,
        "seed": seed,
        **{key: _plain(value) for key, value in options.items()},
    }
    if distilled:
        settings["alpha"] = alpha
        losses = list(trained.distillation_losses)
        settings["distillation_losses"] = serialize(losses)
    return pruned, StageRecord(
        "prune",
        "pruned",
        settings=settings,
        metrics=sparsity_table(pruned, kernels),
        seconds=time.perf_counter() - began,
    )


def _some_labels(split):
    """Returns labels to tell the task by, `None` where there are none."""
    if isinstance(split, tf.data.Dataset):
        split = next(split.as_numpy_iterator())
        split = split if isinstance(split, tuple) else (split,)
    return split[1] if len(split) > 1 else None


def _check_same(student, copy, x):
    """Raises if a copy does not answer as its original."""
    answers = [
        keras.tree.flatten(model.predict_on_batch(inputs_for(model, x)))
        for model in (student, copy)
    ]
    for own, theirs in zip(*answers, strict=True):
        if not np.allclose(own, theirs, rtol=1e-3, atol=1e-5):
            apart = float(np.max(np.abs(own - theirs)))
            raise ValueError(
                f"A copy of {student.name!r} does not answer as the model "
                f"does: {apart:.3g} apart on the first examples. Expected "
                "layers whose whole state is in their weights and their "
                "config; give others `save_assets` and `load_assets`."
            )


def _plain(value):
    """Returns an option as JSON: layer classes by their names."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.__name__ if isinstance(value, type) else value
