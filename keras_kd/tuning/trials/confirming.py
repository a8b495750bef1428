# SPDX-License-Identifier: Apache-2.0
"""Training the best settings again, beside the defaults and the control."""

from __future__ import annotations

from typing import Any

import keras_tuner

from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.training import trainer
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.tuning.space.definition import losses_or_plain
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
    figures = {side: [] for side in SIDES}
    tests = {side: [] for side in SIDES}
    for seed in seeds:
        for side in SIDES:
            settings = _settings(job, best, side)
            plain = losses_or_plain(settings)
            if plain == losses_or_plain(_settings(job, best, "best")):
                side_run = "best"  # the defaults were found best
            else:
                side_run = side
            record = stages.run(
                f"{side_run}-{seed}",
                [plain, best.values, targets.fingerprint]
                + [job.epochs, job.batch_size, str(job.objective), seed],
                lambda side=side, seed=seed, settings=settings: (
                    None,
                    _train(job, targets, best, side, seed, settings, verbose),
                ),
            )
            figures[side].append(record.metrics["validation"])
            tests[side].append(record.metrics["test"])
    return Confirmed(
        **figures,
        seeds=seeds,
        settings=shown(best),
        objective=job.objective.name,
        direction=job.objective.direction,
        test=tests if targets.data.reported_split == "test" else None,
    )


def _settings(job: Job, best, side: str) -> dict[str, Any]:
    """Returns what `train` takes beside the teaching."""
    settings = {
        "learning_rate": job.hyper.value(best, "learning_rate"),
        "loss": job.space.get("loss"),
        "metrics": job.space.get("metrics"),
    }
    if side == "control":
        return settings
    alpha = job.hyper.value(best, "alpha")
    temperature = job.hyper.value(best, "temperature")
    if side == "default":
        alpha, temperature = DEFAULT["alpha"], DEFAULT["temperature"]
    losses = job.hyper.losses(best, temperature)
    return {**settings, "alpha": alpha, "distillation_losses": losses}


def _train(job, targets, best, side, seed, settings, verbose):
    data = targets.data
    teaching = {} if side == "control" else job.teaching
    student, facts = trainer.train(
        lambda: job.student(best),
        data,
        title=f"{side}, seed {seed}" if verbose else None,
        seed=seed,
        epochs=job.epochs,
        batch_size=job.batch_size,
        watch=(job.objective.name, job.objective.direction),
        **settings,
        **teaching,
    )
    name = job.objective.name
    metric = name.removeprefix("val_")
    loss, metrics = job.hyper.loss_and_metrics(student)
    student.compile(loss=loss, metrics=metrics)
    test = data.test if isinstance(data.test, tuple) else (data.test,)
    measured = student.evaluate(*test, verbose=0, return_dict=True)
    return StageRecord(
        "student" if teaching else "control",
        side,
        {"seed": seed},
        {"validation": float(facts[name]), "test": float(measured[metric])},
        seconds=facts["seconds"],
    )
