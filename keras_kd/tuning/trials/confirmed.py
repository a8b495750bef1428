# SPDX-License-Identifier: Apache-2.0
"""Confirmed: the best settings trained again, beside default and control."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import keras_tuner
import numpy as np

from keras_kd.core.identity import identity_of_code
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.evaluation.gain import GAIN
from keras_kd.evaluation.gain import NO_GAIN
from keras_kd.evaluation.gain import ONE_SEED
from keras_kd.evaluation.gain import WORSE
from keras_kd.evaluation.gain import Difference
from keras_kd.evaluation.gain import paired_difference
from keras_kd.tasks.base import TEMPERATURE
from keras_kd.training.settings_json import as_json
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import settings_text
from keras_kd.tuning.display.formatting import with_unit
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.trial_record import shown

DEFAULT = {"temperature": TEMPERATURE, "alpha": 0.7}
SIDES = ("best", "default", "control")
_MEANING = {
    side: {
        GAIN: "Gain: the interval excludes zero.",
        NO_GAIN: (
            "No gain: the interval includes zero, so these seeds do not show "
            f"that {claim}."
        ),
        WORSE: f"Worse: {advice}.",
        ONE_SEED: "One seed: no spread known, so this may be chance.",
    }
    for side, claim, advice in (
        ("default", "the search beat the default", "keep the default settings"),
        ("control", "the teacher helped", "train without the teacher"),
    )
}


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """What the best settings are worth on seeds that chose nothing.

    The best of many trials is best partly by luck. So its settings are run
    again with fresh seeds, next to the default settings and the control,
    which share those seeds. The validation split chose the settings and may
    flatter them; the test split chose nothing.

    Args:
        best: Objective of the best settings on the validation split, one
            value per seed. Accuracies are fractions.
        default: The same of the default settings; may be empty.
        control: The same of the student without a teacher; may be empty.
        seeds: The fresh seeds.
        settings: The best settings.
        objective: Name of the objective, such as `"val_accuracy"`.
        direction: `"max"` if higher is better, else `"min"`.
        test: The same metric on the test split, per seed:
            `{"best": [...], "default": [...], "control": [...]}`.

    Raises:
        ValueError: If a side has not one finite value per seed.
    """

    best: list[float]
    default: list[float]
    control: list[float]
    seeds: list[int]
    settings: dict[str, Any]
    objective: str
    direction: str = "max"
    test: dict[str, list[float]] | None = None

    def __post_init__(self):
        for split, side in itertools.product(("validation", "test"), SIDES):
            values = self.values(side, split)
            is_whole = len(values) == len(self.seeds)
            if values and not (is_whole and np.isfinite(values).all()):
                raise ValueError(
                    "A confirmation needs one finite value per seed for "
                    f"{side!r} on the {split} split. Seeds: "
                    f"{list(self.seeds)}. Received: {list(values)}"
                )

    def values(self, side: str, split: str = "validation") -> list[float]:
        """Returns the values of `"best"`, `"default"` or `"control"`."""
        if split == "test":
            return (self.test or {}).get(side, [])
        return getattr(self, side)

    def best_minus(
        self, side: str, split: str = "validation"
    ) -> Difference | None:
        """Returns best minus `"default"` or minus `"control"`, in pairs.

        In percentage points for an accuracy, else in the unit of the
        objective; `None` if a side was not run. With `direction="min"` a
        negative difference is a gain.
        """
        scale = scale_of(self.objective)
        best, other = (
            scale * np.array(self.values(name, split))
            for name in ("best", side)
        )
        if not best.size or not other.size:
            return None
        found = paired_difference(other, best)
        if self.direction == "min":
            turned = {GAIN: WORSE, WORSE: GAIN}
            verdict = turned.get(found.verdict, found.verdict)
            found = dataclasses.replace(found, verdict=verdict)
        return found

    @property
    def split(self) -> str:
        """The split to believe: test where it was measured."""
        return "test" if self.values("best", "test") else "validation"

    def sentences(self, split: str | None = None) -> list[str]:
        """Returns one sentence on the setting, then one per comparison."""
        split = split or self.split
        seeds = f"{len(self.seeds)} fresh paired seeds"
        if len(self.seeds) == 1:
            seeds = "one fresh seed"
        lower = ", lower is better" if self.direction == "min" else ""
        lines = [
            f"Best settings ({settings_text(self.settings)}) over {seeds}, "
            f"{self.objective.removeprefix('val_')} on the {split} "
            f"split{lower}."
        ]
        lines += [self._sentence(side, split) for side in SIDES[1:]]
        if split == "validation":
            lines.append(
                "This split also chose the settings, so it may flatter them."
            )
        return lines

    def _sentence(self, side, split):
        found = self.best_minus(side, split)
        if found is None:
            return f"The {side} was not run again beside them."
        is_percent = scale_of(self.objective) == 100
        digits, unit = (".2f", " points") if is_percent else (".4g", "")
        best, other = (
            f"{name} "
            + with_unit(np.mean(self.values(name, split)), self.objective)
            for name in ("best", side)
        )
        text = f"Best minus {side}: {found.mean:+z{digits}}{unit}"
        if found.verdict != ONE_SEED:
            text += f", 95 % interval {found.low:+z{digits}} to "
            text += f"{found.high:+z{digits}}"
        return f"{text} ({best}, {other}). {_MEANING[side][found.verdict]}"

    def __str__(self):
        return " ".join(self.sentences())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return dataclasses.asdict(self)


def confirm_settings(
    job: Job,
    targets: TeacherTargets,
    best: keras_tuner.HyperParameters,
    count: int,
    verbose: int = 1,
) -> Confirmed:
    """Trains three students with each of `count` fresh seeds.

    One with the best settings; one with the default temperature and alpha;
    one without a teacher. All else is as in the best settings, so that what
    differs is the temperature and alpha, or the teacher. Finished trainings
    are kept and not done again.
    """
    stages = StageFolder(job.directory / "confirm")
    student = fingerprint_of_builder(lambda: job.student(best))
    seeds = [job.seed + 1 + number for number in range(count)]
    values = {side: [] for side in SIDES}
    tests = {side: [] for side in SIDES}
    for seed, side in itertools.product(seeds, SIDES):
        settings = _settings(job, best, side)
        plain = _plain(settings)
        # Once, where the defaults were found best.
        is_best = plain == _plain(_settings(job, best, "best"))
        record = stages.run(
            f"{'best' if is_best else side}-{seed}",
            [plain, best.values, targets.fingerprint]
            + [job.epochs, job.batch_size, str(job.objective), seed]
            + [student, identity_of_code(settings)],
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


def _plain(settings):
    # The task is the same for all of a search.
    return as_json({k: v for k, v in settings.items() if k != "task"})


def _settings(job: Job, best, side: str) -> dict[str, Any]:
    """Returns what `Job.train` takes beside the teaching."""
    settings = job.settings(best)
    if side == "control":
        return settings
    if side == "default":
        alpha, temperature = DEFAULT["alpha"], DEFAULT["temperature"]
    else:
        alpha, temperature = job.hyper.value(best, "alpha"), None
    losses = job.hyper.losses(best, temperature)
    return {**settings, "alpha": alpha, "distillation_losses": losses}


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
    return StageRecord(
        "student" if teaching else "control",
        side,
        {"seed": seed},
        {
            "validation": float(facts[job.objective.name]),
            "test": float(job.measured(student, data.test)),
        },
        seconds=facts["seconds"],
    )
