# SPDX-License-Identifier: Apache-2.0
"""Engines: the fastest way to run a teacher that still gives its answers.

Labelling runs one model over a whole data set, so it pays to look first:
each candidate answers the first batches, is compared with the teacher's own
compiled call, and is timed in turn with it. There are few, because no other
was the fastest anywhere: bfloat16, frozen graphs, larger batches and XLA
(25 times slower on depthwise convolutions) were measured and left out.
Looking is kept short, since converting and comparing a large teacher costs as
much as labelling thousands of samples: the one that is fastest wherever it is
allowed, int8, goes first, one that is not faster is not compared, a comparison
ends where it is lost, and nobody looks where the teacher itself is done within
seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from keras_kd.core.progress import say
from keras_kd.targets.build.labelling import teacher_call
from keras_kd.targets.inference.comparison import Comparison
from keras_kd.targets.inference.litert_engine import LiteRTEngine
from keras_kd.targets.inference.low_margin import CERTAINTY
from keras_kd.targets.inference.low_margin import LowMargin
from keras_kd.targets.inference.samples import first_samples
from keras_kd.targets.inference.samples import length
from keras_kd.targets.inference.samples import rows_of
from keras_kd.targets.inference.samples import specs_of
from keras_kd.targets.inference.timing import LEAST
from keras_kd.targets.inference.timing import compare_speed
from keras_kd.targets.inference.timing import seconds
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.frozen import FrozenTeacher

KERAS = "keras"
LITERT = "litert"
LITERT_INT8 = "litert-int8"

CALIBRATION = 128  # samples; more did not raise the agreement
EQUAL = 512  # samples that are compared if all values have to be equal
AGREEING = range(256, 1025)  # likewise if decisions have to agree
BYTES = 2**28  # of inputs that are held for it, at most
WORTHWHILE = 1.05  # times as fast as the teacher's own call
ENOUGH = 2.0  # likewise; float32 in LiteRT has not been seen to reach it
SHORT = 4.0, 1e-6
"""Seconds of labelling that are not worth a look, and more for each weight."""


@dataclasses.dataclass
class Engine:
    """A way to run a teacher, and what was measured of it.

    Args:
        name: `"keras"` (the teacher's own compiled call), `"litert"`
            (float32 in LiteRT) or `"litert-int8"`.
        call: Returns `{tap: array or tensor}`, the output as float32 logits,
            for a batch of inputs of any size.
        agreement: Share of the compared samples with the decision of the
            teacher's own call: the same class, or for sigmoid outputs the
            same side of zero. `None` if the output is no tap.
        largest_difference: Largest absolute difference in any tap.
        compared: Samples that were compared and timed, 0 if none.
        margin: Decisions by this much or less are left to the teacher's own
            call; `None` if it is not asked again. See `LowMargin`.
        asked_again: Share of the compared samples that this was for.
        speed: Samples per second; `None` where nothing was timed.
        ratio: How many times as fast as the teacher's own call.
        reason: Why it was not taken, `None` for the one that was.
        measured: A row for each candidate, as plain JSON values.
    """

    name: str
    call: Callable | None
    agreement: float | None = None
    largest_difference: float | None = None
    compared: int = 0
    margin: float | None = None
    asked_again: float = 0.0
    speed: float | None = None
    ratio: float = 1.0
    reason: str | None = None
    measured: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __call__(self, x) -> dict:
        return self.call(x)

    def answers(self, batches: Iterable) -> Iterator:
        """Yields `(answers, note)` for each `(x, note)`, in order."""
        if isinstance(self.call, LowMargin):
            return self.call.answers(batches)
        return ((self.call(x), note) for x, note in batches)

    @property
    def description(self) -> dict[str, Any]:
        """What a manifest says of it: no times, so equal for equal data."""
        return {
            "engine": self.name,
            "agreement": self.agreement,
            "largest_difference": self.largest_difference,
            "compared": self.compared,
            "margin": self.margin,
            "asked_again": self.asked_again,
        }

    def row(self) -> dict[str, Any]:
        """Returns what was measured, as plain JSON values."""
        found = {"speed": self.speed, "reason": self.reason}
        return {**self.description, **found}


def choose(
    teacher: Teacher,
    taps: Iterable[str],
    batches: Iterable,
    agreement: float | None = None,
    verbose: int = 1,
    name: str | None = None,
    answers: int | None = None,
) -> Engine:
    """Returns the fastest engine whose answers are close enough.

    That is the teacher's own call unless another was at least 5 % faster.
    No other is looked at if the data ends before there was enough of it to
    compare them on, or the teacher gives all answers within seconds: four,
    and one more for each million of its weights.

    Args:
        teacher: Any teacher. Only a `FrozenTeacher` of a model with a graph
            is tried otherwise than by its own call.
        taps: What to ask it for.
        batches: Batches of inputs; the first ones are read. A
            `tf.data.Dataset` also tells which sizes may vary.
        agreement: `None`: all values of all taps are within 1e-4 of the
            teacher's own (relative, and absolute). A share such as 0.995:
            at least that many of its decisions are the same, so int8
            arithmetic is tried too, with a `LowMargin` by the teacher at
            close decisions; other taps than the output are still within
            1e-4.
        verbose: 0 does not say what was chosen.
        name: Take this engine, which was chosen before, however fast it is:
            a labelling that is resumed goes on as it began.
        answers: How many are needed in all; `None` if unknown.

    Raises:
        ValueError: If `agreement` is not in (0, 1], there are no batches, or
            the engine `name` does not work for this teacher.
    """
    _check_agreement(agreement)
    taps = tuple(taps)
    specs, batches = specs_of(batches)
    teacher = teacher.ready_for(taps)
    call = teacher_call(teacher, taps, specs)
    own = Engine(KERAS, call, 1.0 if "output" in taps else None, 0.0)
    names = _candidates(teacher, agreement, name)
    sample = None
    if names:
        count = _samples_to_compare(agreement)
        sample = first_samples(
            batches, CALIBRATION, count, BYTES, fewer=name is not None
        )
    engines = [own]
    if sample is not None and name is None and answers is not None:
        weights = sum(model.count_params() for model in teacher.models)
        short = SHORT[0] + SHORT[1] * weights
        if answers * _seconds_each(own, sample[0]) < short:
            sample = None
    if sample is not None:
        calibration, sample = sample
        own.compared = sum(map(length, sample))
        binary = teacher.activation_of("output") == "sigmoid"
        comparison = Comparison(own, sample, agreement, binary)
        for candidate in names:
            engine = Engine(candidate, None)
            engines.append(engine)
            ranges = calibration if candidate == LITERT_INT8 else None
            # Whatever a converter or a runtime may raise, the teacher's own
            # call remains.
            try:
                engine.call = LiteRTEngine(call, specs, ranges)
                is_rough = candidate == LITERT_INT8 and "output" in taps
                _look_at(engine, comparison, is_rough, is_timed=name is None)
            except Exception as error:
                text = " ".join(str(error).split())[:200]
                engine.reason = f"{type(error).__name__}: {text}"
            if name is None and not engine.reason and engine.ratio >= ENOUGH:
                break
    best = _settle(engines, name)
    if sample is not None:
        say(_sentence(best, own), verbose)
    return best


def _check_agreement(agreement):
    if agreement is not None and not 0.0 < agreement <= 1.0:
        raise ValueError(
            "`agreement` must be None or a share of samples in (0, 1], such "
            f"as 0.995. Received: {agreement!r}"
        )


def _samples_to_compare(agreement):
    """Returns how many show that decisions agree, if all of them do."""
    if agreement is None:
        return EQUAL
    needed = math.inf
    if agreement < 1.0:
        needed = math.log(1.0 - CERTAINTY) / (agreement - 1.0)
    return math.ceil(min(max(needed, AGREEING[0]), AGREEING[-1]))


def _candidates(teacher, agreement, name):
    names = [LITERT] if agreement is None else [LITERT_INT8, LITERT]
    if name is not None:
        names = [known for known in names if known == name]
    is_plain = isinstance(teacher, FrozenTeacher)
    has_graph = is_plain and getattr(teacher.model, "inputs", None) is not None
    return names if has_graph else []


def _seconds_each(engine, x):
    """Returns what an answer of a batch takes, without the first call."""
    x = tf.nest.map_structure(tf.constant, x)
    engine(rows_of(x, slice(LEAST)))
    return seconds(engine, [x]) / length(x)


def _look_at(engine, comparison, is_rough, is_timed):
    """Times an engine, and compares it unless it is too slow anyway."""
    own = comparison.own
    if is_timed:
        timed = compare_speed([own, engine], comparison.batches)
        (own.speed, _), (engine.speed, engine.ratio) = timed
        if engine.ratio < WORTHWHILE:
            return
    comparison.judge(engine, second_look=is_rough)
    if is_timed and engine.asked_again:
        # What the teacher answers itself takes as long as it always does.
        engine.ratio /= 1.0 + engine.asked_again * engine.ratio
        engine.speed = engine.ratio * own.speed


def _settle(engines, name):
    """Returns the engine to use, and gives all others a reason."""
    fit = [engine for engine in engines if not engine.reason]
    best = max(fit, key=lambda engine: engine.ratio)
    if name is not None:
        best = next((e for e in fit if e.name == name), None)
    elif best.ratio < WORTHWHILE:
        best = engines[0]
    if best is None:
        found = {engine.name: engine.reason for engine in engines}
        raise ValueError(
            f"The engine `name` must work for this teacher. Received: "
            f"name={name!r}: {found.get(name, 'no candidate here')}. Label "
            "all samples again, into another directory."
        )
    for engine in fit:
        if engine is not best and name is not None:
            engine.reason = f"the labelling was begun with {name}"
        elif engine is not best:
            engine.reason = (
                f"{best.name} is {best.ratio / engine.ratio:.2f} x as fast"
            )
    best.measured = [engine.row() for engine in engines]
    return best


def _sentence(best, own):
    if best is own:
        return "labelling with the teacher's own call: no faster one fits"
    agreement = ""
    if best.agreement is not None:
        agreement = f", the same decision for {best.agreement:.2%}"
    speed = "as before"
    if best.speed is not None:
        speed = f"{best.ratio:.1f} x as fast as the teacher's own call"
    if best.asked_again:
        speed += f", which decides the {best.asked_again:.1%} that are close"
    return (
        f"labelling with {best.name}: {speed}{agreement} of {best.compared} "
        "samples"
    )
