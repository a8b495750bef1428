# SPDX-License-Identifier: Apache-2.0
"""Training the best settings again, beside the defaults and the control."""

from __future__ import annotations

import itertools
from typing import Any

import keras_tuner

from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.training.settings_json import as_json
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.tuning.trials.confirmed import DEFAULT
from keras_kd.tuning.trials.confirmed import SIDES
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.trial_record import shown


def confirm_settings(
    job: Job,
    targets: TeacherTargets,
    best: keras_tuner.HyperParameters,
    count: int,
    verbose: int = 1,
) -> Confirmed:
    """Trains three students with each of some fresh seeds.

    One with the best settings; one with the default temperature and alpha;
    one without a teacher. All else is as in the best settings, so that what
    differs is the temperature and alpha, or the teacher. Finished trainings
    are kept and not done again.

    Args:
        job: The search.
        targets: Its teacher and data.
        best: The best settings.
        count: Number of seeds.
        verbose: 0 prints nothing.
    """
    stages = StageFolder(job.directory / "confirm")
    seeds = [job.seed + 1 + number for number in range(count)]
    values = {side: [] for side in SIDES}
    tests = {side: [] for side in SIDES}
    for seed, side in itertools.product(seeds, SIDES):
        settings = _settings(job, best, side)
        plain = as_json(settings)
        # Once, where the defaults were found best.
        is_best = plain == as_json(_settings(job, best, "best"))
        record = stages.run(
            f"{'best' if is_best else side}-{seed}",
            [plain, best.values, targets.fingerprint]
            + [job.epochs, job.batch_size, str(job.objective), seed],
            lambda side=side, seed=seed, settings=settings: (
                None,
                _train(job, targets.data, best, side, seed, settings, verbose),
            ),
        )
        values[side].append(record.metrics["validation"])
        tests[side].append(record.metrics["test"])
    return Confirmed(
        **values,
        seeds=seeds,
        settings=shown(best),
        objective=job.objective.name,
        direction=job.objective.direction,
        test=tests if targets.data.reported_split == "test" else None,
    )


def _settings(job: Job, best, side: str) -> dict[str, Any]:
    """Returns what `Job.train` takes beside the teaching."""
    settings = job.settings(best)
    if side == "control":
        return settings
    found = {name: job.hyper.value(best, name) for name in DEFAULT}
    found = DEFAULT if side == "default" else found
    losses = job.hyper.losses(best, found["temperature"])
    return {**settings, "alpha": found["alpha"], "distillation_losses": losses}


def _train(job, data, best, side, seed, settings, verbose):
    teaching = {} if side == "control" else job.teaching
    student, facts = job.train(
        best,
        data,
        title=f"{side}, seed {seed}" if verbose else None,
        seed=seed,
        **settings,
        **teaching,
    )
    name = job.objective.name
    loss, metrics = job.hyper.loss_and_metrics(student)
    student.compile(loss=loss, metrics=metrics)
    test = data.test if isinstance(data.test, tuple) else (data.test,)
    measured = student.evaluate(*test, verbose=0, return_dict=True)
    return StageRecord(
        "student" if teaching else "control",
        side,
        {"seed": seed},
        {
            "validation": float(facts[name]),
            "test": float(measured[name.removeprefix("val_")]),
        },
        seconds=facts["seconds"],
    )
