# SPDX-License-Identifier: Apache-2.0
"""Seeds: students and controls, trained side by side where there is room."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.core.folders import file_content
from keras_kd.core.keras_settings import apply_settings
from keras_kd.core.keras_settings import current_settings
from keras_kd.core.records import StageRecord
from keras_kd.data.splits import Data
from keras_kd.engines import Engine
from keras_kd.engines.side_by_side import run_side_by_side
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.training.settings_json import as_json
from keras_kd.training.trainer import train
from keras_kd.workflows.stages import CompressionStages


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What the students and controls of a run have in common.

    Args:
        build_student: See `compress`.
        data: See `compress`.
        task: What outputs and labels mean.
        training: Arguments of `train` that control and student share.
        evaluator: Measures them; it need not have a teacher any more.
        keras_settings: See `core.keras_settings`.
    """

    build_student: Callable[[], keras.Model]
    data: Data
    task: Any
    training: dict[str, Any]
    evaluator: Evaluator
    keras_settings: dict[str, Any] = dataclasses.field(
        default_factory=current_settings
    )


def train_seed(
    lesson: Lesson, teaching: dict[str, Any], seed: int, title: str | None
) -> tuple[bytes, dict[str, Any], float]:
    """Trains and measures one model, in whatever process.

    Args:
        lesson: What all have in common.
        teaching: Arguments of `train` that bring the teaching; of a control
            there are none.
        seed: See `train`.
        title: See `train`.

    Returns:
        The `.keras` file, what was measured, and the seconds of the training.
    """
    apply_settings(lesson.keras_settings)
    model, facts = train(
        lesson.build_student,
        lesson.data,
        title=title,
        seed=seed,
        task=lesson.task,
        **{**lesson.training, **teaching},
    )
    seconds = facts.pop("seconds")
    facts["history"] = {
        name: [round(value, 6) for value in values]
        for name, values in facts["history"].items()
    }
    metrics = {**lesson.evaluator.measure(model), **facts}
    return file_content(model.save, ".keras"), metrics, seconds


def train_seeds(
    stages: CompressionStages,
    kinds: Sequence[str],
    seeds: Sequence[int],
    engine: Engine,
) -> dict[str, list[StageRecord]]:
    """Trains models of each kind with each seed; what is finished stays.

    Args:
        stages: The run.
        kinds: Of `"control"` and `"student"`.
        seeds: One model of each kind is trained for each.
        engine: Where they are trained, as many at a time as it has slots.

    Returns:
        The records of each kind, in the order of the seeds.
    """
    tasks = {f"{k}-{s}": (k, s) for k, s in itertools.product(kinds, seeds)}
    depends_on = {
        key: {
            **(stages.taught if kind == "student" else stages.common),
            "seed": seed,
        }
        for key, (kind, seed) in tasks.items()
    }
    found: dict[str, Any] = {
        key: stages.folder.finished(key, depends_on[key]) for key in tasks
    }
    missing = [key for key, record in found.items() if record is None]
    if missing and not engine.here:
        stages.say(f"training {len(missing)} models on {engine}")
    shared: dict[str, Any] = {}

    def begin(key):
        kind, seed = tasks[key]
        if not shared:
            shared["lesson"] = engine.share(_lesson_of(stages))
        if kind not in shared:  # controls begin before there are targets
            shared[kind] = engine.share(_teaching_of(stages, kind))
        shown = engine.here and stages.verbose
        title = f"{kind}, seed {seed}" if shown else None
        given = shared["lesson"], shared[kind], seed, title
        return engine.submit(train_seed, *given)

    def keep(key, result):
        kind, seed = tasks[key]
        model, metrics, seconds = result
        settings = {"seed": seed, **as_json(stages.training)}
        if kind == "student":
            settings |= as_json(stages.distilling)
        made = StageRecord(kind, kind, settings, metrics, seconds=seconds)
        found[key] = stages.folder.run(
            key, depends_on[key], lambda: (model, made)
        )
        if not engine.here:
            stages.say(f"{kind}, seed {seed}: trained in {seconds:.0f} s")

    run_side_by_side(engine, missing, begin, keep)
    return {kind: [found[f"{kind}-{seed}"] for seed in seeds] for kind in kinds}


def _lesson_of(stages):
    return Lesson(
        stages.build_student,
        stages.data,
        stages.task,
        stages.training,
        stages.evaluator.without_teacher(),
    )


def _teaching_of(stages, kind):
    if kind == "control":
        return {}
    return {**stages.distilling, **stages.teacher_targets.for_training()}
