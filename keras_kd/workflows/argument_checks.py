# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a run that can be known before its first step."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import tasks
from keras_kd import teachers
from keras_kd.core.arguments import check_count
from keras_kd.core.arguments import check_learning_rate
from keras_kd.core.arguments import check_number
from keras_kd.core.arguments import check_seeds
from keras_kd.core.arguments import check_sparsity
from keras_kd.core.model_inputs import check_takes_all
from keras_kd.data.preprocessing import check_preprocess
from keras_kd.data.sample_shapes import check_inputs
from keras_kd.data.splits import Data
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.value_checks import check_labels
from keras_kd.distillers.value_checks import check_numbers
from keras_kd.distillers.value_checks import check_values
from keras_kd.engines.named import check_engine
from keras_kd.export.formats.variants import check_formats
from keras_kd.export.formats.variants import variants
from keras_kd.export.signatures.answers import check_head
from keras_kd.tasks.reading import class_numbers
from keras_kd.training.optimizers import check_optimizer
from keras_kd.training.task_of import task_of
from keras_kd.training.trainer import copies_of

SPLITS = ("train", "validation", "test")


def _unless_none(check):
    return lambda name, value: value is None or check(name, value)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "temperature": _unless_none(check_number),
    "alpha": lambda name, value: check_number(name, value, high=1.0),
    "epochs": check_count,
    "teacher_epochs": lambda name, value: check_count(name, value, least=0),
    "prune_epochs": check_count,
    "batch_size": check_count,
    "learning_rate": check_learning_rate,
    "optimizer": lambda _, value: check_optimizer(value),
    "teacher_learning_rate": check_learning_rate,
    "seeds": check_seeds,
    "search": _unless_none(check_count),
    "prune": check_sparsity,
    "formats": lambda _, value: check_formats(value),
    "quantize": lambda _, value: variants(value),
    "tolerance": _unless_none(check_number),
    "head": lambda _, value: check_head(value),
    "preprocess": lambda _, value: check_preprocess(value),
    "workers": check_count,
    "engine": lambda _, value: check_engine(value),
}
"""How each setting of `compress` and of recipes is checked, by its name."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises a ValueError that names the first setting which is wrong.

    Args:
        settings: Settings of `compress` or of a recipe; others are passed
            over.
    """
    settings = dict(settings)
    if settings.get("distillation_losses"):
        settings.pop("temperature", None)  # they have their own
    for name, value in settings.items():
        if name in CHECKS:
            CHECKS[name](name, value)


def check_searched(search: int | None, given: Mapping[str, Any]) -> None:
    """Raises if what was given of a training does not reach the trials."""
    unsearched = sorted(set(given) - {"metrics"})
    if search is not None and unsearched:
        raise ValueError(
            "The trials of a search are trained by Adam, as kd.search says. "
            f"Expected search=None with {unsearched}. "
            f"Received: search={search!r}"
        )


def check_lesson(
    teacher: Any,
    build_student: Callable[[], keras.Model],
    data: Data,
    *,
    temperature: float | None = None,
    alpha: float = 0.7,
    distillation_losses: Any = None,
    loss: Any = None,
    task: Any = None,
    headline: str | None = None,
) -> list[str]:
    """Raises unless teacher, student and data fit each other.

    Args:
        teacher: See `compress`, as all that follow.

    Returns:
        Warnings that a person should read.

    Raises:
        ValueError: Before any training; says which part is wrong.
    """
    student = check_builder(build_student)
    for name in SPLITS:
        split = getattr(data, name)
        is_stream = isinstance(split, tf.data.Dataset)
        x = split.element_spec[0] if is_stream else split[0]
        check_inputs(x, student, name)
        check_input_names(x, student, name)
        check_takes_all(student, x)
        if not is_stream:
            check_numbers(split[1], name)
    check_values(data, student)
    check_class_names(data.class_names, student)
    task = task_of(task, headline, student, data, loss)
    check_label_names(data, task)
    if isinstance(task, tasks.Classification):
        check_class_numbers(data, student)
    elif not isinstance(task, tasks.Composite):
        check_labels(data, student, loss or task.label_loss(student))
    losses = copies_of(distillation_losses)
    teacher = teachers.get(teacher)
    if teacher is not None:
        Distiller(
            teacher,
            student,
            temperature=None if losses else temperature,
            alpha=alpha,
            distillation_losses=losses or None,
            task=task,
        )
    return warn_of_size(student, teacher)


def check_builder(build: Callable[[], keras.Model]) -> keras.Model:
    """Returns a student, after a look at what builds it.

    Raises:
        ValueError: Unless each call returns a new `keras.Model`.
    """
    if not callable(build) or isinstance(build, keras.Model):
        raise ValueError(
            "`build_student` must be a function that returns a new "
            "keras.Model, such as lambda: "
            "keras.models.clone_model(student). Received: "
            f"{type(build).__name__}"
        )
    student = build()
    if not isinstance(student, keras.Model):
        forgotten = " Does it lack a `return`?" if student is None else ""
        raise ValueError(
            "`build_student` must return a keras.Model. Received: "
            f"{'None' if student is None else repr(student)[:80]}.{forgotten}"
        )
    if build() is student:
        raise ValueError(
            "`build_student` must return a new model each time. Received: the "
            "same model twice, which would go on learning from one seed to "
            "the next. Build it inside the function."
        )
    return student


def check_input_names(x: Any, student: keras.Model, name: str) -> None:
    """Raises if several inputs have no names, which is all that files know."""
    if isinstance(x, (list, tuple)):
        wanted = getattr(student, "inputs", None) or []
        raise ValueError(
            f"The inputs of `{name}` must be a dict by the names of the "
            "student's inputs, since exported files know them by name alone. "
            f"Expected the keys {[tensor.name for tensor in wanted]}. "
            f"Received: {len(x)} parts without names"
        )


def check_label_names(data: Data, task: tasks.Task) -> None:
    """Raises unless labels are by output where the task is."""
    wanted = set(getattr(task, "tasks", ()))
    for name in SPLITS:
        split = getattr(data, name)
        is_stream = isinstance(split, tf.data.Dataset)
        labels = split.element_spec[1] if is_stream else split[1]
        is_dict = isinstance(labels, Mapping)
        if isinstance(labels, (list, tuple)) or (
            len(wanted) > 1 and not (is_dict and wanted <= set(labels))
        ):
            received = sorted(labels) if is_dict else type(labels).__name__
            raise ValueError(
                f"The labels of `{name}` must be a dict with an entry for "
                f"each task, by the name of its output: {sorted(wanted)}. "
                f"Received: {received}"
            )


def check_class_names(names: tuple[str, ...], student: Any) -> None:
    """Raises unless there are as many names as classes, or none."""
    shape = getattr(student, "output_shape", None)
    if not names or not isinstance(shape, tuple) or shape[-1] is None:
        return
    classes = max(shape[-1], 2)
    if len(names) != classes and len(names) != shape[-1]:
        raise ValueError(
            f"`class_names` must hold one name for each of {classes} classes "
            f"(the student's outputs), in label order. Received: {len(names)} "
            f"names, {', '.join(names[:3])}{', ...' if names[3:] else ''}"
        )


def check_class_numbers(data: Data, student: Any) -> None:
    """Raises if arrays hold a class that the student has no output for."""
    shape = getattr(student, "output_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:]:
        return
    for name in SPLITS:
        split = getattr(data, name)
        if isinstance(split, tf.data.Dataset):
            continue
        labels = np.asarray(split[1])
        scores = np.broadcast_to(np.float32(0), (len(labels), *shape[1:]))
        try:
            class_numbers(labels, scores)
        except ValueError as error:
            raise ValueError(f"Labels of `{name}`: {error}") from error


def warn_of_size(student: Any, teacher: Any) -> list[str]:
    """Returns a warning where the student is larger than its teacher."""
    try:
        ours = student.count_params()
        theirs = teacher.model.count_params()
    except (AttributeError, ValueError):
        return []  # not a single model, or not built yet
    if ours <= theirs:
        return []
    return [
        f"Warning: the student has {ours:,} parameters, more than its teacher "
        f"with {theirs:,}. Were the two swapped?"
    ]
