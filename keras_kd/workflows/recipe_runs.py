# SPDX-License-Identifier: Apache-2.0
"""Recipes run: from a recipe's teacher to its report, or to a search."""

from __future__ import annotations

import contextlib
import inspect
import os
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING
from typing import Any

from keras_kd import recipes
from keras_kd.core.folders import check_folder
from keras_kd.core.progress import say
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.core.stage_cache import fingerprint_of_split
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_data
from keras_kd.distillers.value_checks import check_values
from keras_kd.export.publishing.versions import check_name
from keras_kd.export.publishing.versions import folder_of
from keras_kd.report import Report
from keras_kd.training.settings_json import as_json
from keras_kd.training.task_of import task_of
from keras_kd.training.task_of import written
from keras_kd.training.trainer import train
from keras_kd.workflows.argument_checks import check_lesson
from keras_kd.workflows.argument_checks import check_settings
from keras_kd.workflows.compress import compress

if TYPE_CHECKING:
    from keras_kd.tuning.result import SearchResult


def run_recipe(
    recipe: ModuleType,
    directory: str | os.PathLike,
    settings: dict[str, Any] | None = None,
    data_options: dict[str, Any] | None = None,
    search: int | None = None,
) -> Report:
    """Trains a recipe's teacher, unless that is done, and compresses it.

    A recipe with `load_teacher`, or with 0 `teacher_epochs`, brings its teacher
    trained; its weights are what the run's stages depend on.

    Args:
        recipe: What `keras_kd.recipes.load` returned.
        directory: See `compress`.
        settings: Settings that go before the recipe's own.
        data_options: Arguments of the recipe's `load_data`.
        search: See `compress`.

    Example:

    ```python
    report = run_recipe(kd.recipes.load("digits"), "saved_models/digits")
    ```
    """
    settings = recipes.settings_of(recipe, **(settings or {}))
    place = pathlib.Path(directory).absolute()
    folder_of(place.parent, check_name(place.name))
    teacher, data = _teacher_and_data(recipe, directory, settings, data_options)
    report = compress(
        teacher,
        recipe.build_student,
        data,
        directory,
        search=search,
        **{k: v for k, v in settings.items() if k not in recipes.OF_TEACHER},
    )
    if hasattr(recipe, "remarks"):
        report.notes += recipe.remarks(report.directory)
        report.save()
    return report


def search_recipe(
    recipe: ModuleType,
    directory: str | os.PathLike,
    settings: dict[str, Any] | None = None,
    data_options: dict[str, Any] | None = None,
    **options: Any,
) -> SearchResult:
    """Trains a recipe's teacher, unless that is done, and searches.

    Args:
        recipe: What `keras_kd.recipes.load` returned.
        directory: Folder of the recipe's runs; the search is kept in
            `directory/search`, and the teacher where `run_recipe` keeps it.
        settings: Settings that go before the recipe's own.
        data_options: Arguments of the recipe's `load_data`.
        **options: Arguments of `search`.
    """
    from keras_kd.tuning.search import search

    settings = recipes.settings_of(recipe, **(settings or {}))
    check_folder(directory)
    teacher, data = _teacher_and_data(recipe, directory, settings, data_options)
    names = inspect.signature(search).parameters
    searched = ("temperature", "alpha", "control")
    training = {
        name: value
        for name, value in settings.items()
        if name in names and name not in searched
    }
    return search(
        teacher,
        recipe.build_student,
        data,
        directory=pathlib.Path(directory) / "search",
        **(training | options),
    )


def finished_teacher(
    recipe: ModuleType, settings: dict[str, Any]
) -> TeacherLike | None:
    """Returns the teacher of a recipe that is not to be trained, else `None`.

    Args:
        recipe: What `keras_kd.recipes.load` returned.
        settings: Its settings, complete.

    Raises:
        ValueError: If the recipe returns no teacher.
    """
    if hasattr(recipe, "load_teacher"):
        name, teacher = "load_teacher", recipe.load_teacher()
    elif settings["teacher_epochs"] == 0:
        name, teacher = "build_teacher", recipe.build_teacher()
    else:
        return None
    if teacher is None:
        _refuse_no_teacher(
            recipe,
            name,
            "a trained keras.Model, such as "
            "keras.saving.load_model('teacher.keras'), or a "
            "keras_kd.teachers.Teacher",
        )
    return teacher


def _refuse_no_teacher(recipe, name, expected):
    raise ValueError(
        f"{name}() of {recipe.__file__} returned None. Expected {expected}."
    )


@contextlib.contextmanager
def telling_of(recipe: ModuleType, what: str = "") -> Iterator[None]:
    """Says in which recipe something is wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{recipe.__file__}{what}: {error}") from error


def _teacher_and_data(
    recipe, directory, settings, data_options
) -> tuple[TeacherLike, Data]:
    with telling_of(recipe):
        check_settings(settings)
    teacher = finished_teacher(recipe, settings)
    data = recipe.load_data(**(data_options or {}))
    with telling_of(recipe, ", load_data()"):
        data = as_data(data)
    teaches = recipe.build_teacher() if teacher is None else teacher
    if teaches is None:
        _refuse_no_teacher(recipe, "build_teacher", "a keras.Model")
    names = "temperature alpha distillation_losses loss task headline".split()
    distilling = {key: settings[key] for key in names}
    with telling_of(recipe):
        check_lesson(teaches, recipe.build_student, data, **distilling)
    if teacher is not None:
        return teacher, data
    stages = StageFolder(pathlib.Path(directory).absolute() / "stages", say=say)
    teacher_data = getattr(recipe, "load_teacher_data", lambda: data)()
    with telling_of(recipe, ", load_teacher_data()"):
        teacher_data = as_data(teacher_data)
    training = {
        "epochs": settings["teacher_epochs"],
        "batch_size": settings["batch_size"],
        "learning_rate": settings["teacher_learning_rate"],
    }
    said = {"loss": settings["loss"], "loss_weights": settings["loss_weights"]}
    given, headline = settings["task"], settings["headline"]
    with telling_of(recipe):
        check_values(teacher_data, teaches)
        task = task_of(given, headline, teaches, teacher_data, said["loss"])

    def make():
        model, facts = train(
            recipe.build_teacher,
            teacher_data,
            title="teacher",
            task=task,
            **said,
            **training,
        )
        facts.pop("history")
        return model, StageRecord(
            "teacher", "teacher", dict(training), facts, {}, facts["seconds"]
        )

    record = stages.run(
        "trained-teacher",
        {
            "data": [
                fingerprint_of_split(split, teacher_data.identity)
                for split in (teacher_data.train, teacher_data.validation)
            ],
            "model": fingerprint_of_builder(recipe.build_teacher),
            **training,
            **{k: as_json(v) for k, v in said.items() if v is not None},
            # What is inferred follows from the rest.
            **({"task": written(task)} if given is not None else {}),
        },
        make,
    )
    return stages.model(record), data


def results(directory: str | os.PathLike) -> list[pathlib.Path]:
    """Returns what a person looks for in a run's folder, newest version."""
    directory = pathlib.Path(directory)
    versions = [p for p in directory.iterdir() if p.name.isdecimal()]
    newest = sorted(versions, key=lambda path: int(path.name))[-1:]
    kinds = ("html", "md", "png", "json")
    reports = [directory / f"report.{kind}" for kind in kinds]
    return [*newest, *sorted(directory.glob("*.tflite")), *reports]
