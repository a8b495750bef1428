# SPDX-License-Identifier: Apache-2.0
"""Engines: the teacher's own call, or a faster one that decides as it does.

Labels are the teacher's own answers unless the user says which share of its
decisions is enough. Then int8 arithmetic in LiteRT is tried: it labels what
is clear, and the teacher's own call decides what is close. What could give
equal answers (float32 in LiteRT, frozen graphs, larger batches, XLA) was
measured, and is not worth a look: it gains a few percent at most.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.passing_faults import is_passing
from keras_kd.core.progress import say
from keras_kd.data.batches import length
from keras_kd.data.batches import rows_of
from keras_kd.targets.build.labelling import teacher_call
from keras_kd.targets.inference.litert_engine import LiteRTEngine
from keras_kd.targets.inference.low_margin import CERTAINTY
from keras_kd.targets.inference.low_margin import LowMargin
from keras_kd.targets.inference.low_margin import decisions
from keras_kd.targets.inference.low_margin import margin_for
from keras_kd.targets.inference.low_margin import margins
from keras_kd.targets.inference.timing import seconds_each
from keras_kd.targets.inference.timing import speedup
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.frozen import FrozenTeacher

KERAS = "keras"
INT8 = "litert-int8"

CALIBRATION = 128  # samples; more did not raise the agreement
COMPARED = range(256, 1025)  # samples
BYTES = 2**28  # of inputs that are held for it, at most
WORTHWHILE = 1.05  # times as fast as the teacher's own call
SHORT = 4.0, 1e-6
"""Seconds of labelling that are not worth a look, and more for each weight."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """A way to run a teacher.

    Args:
        name: `"keras"` (the teacher's own compiled call) or `"litert-int8"`.
        answers: Yields `({tap: array or tensor}, note)`, the output as
            float32 logits, for each `(batch of inputs, note)`, in order.
        agreement: Share of the compared samples with the decision of the
            teacher's own call: the same class, or for sigmoid outputs the
            same side of zero. `None` if the output is no tap.
        largest_difference: Largest absolute difference of their logits.
        compared: Samples that were compared, 0 if none.
        margin: Decisions by this much or less are left to the teacher's own
            call; `None` if it is not asked again. See `LowMargin`.
        asked_again: Share of the compared samples that this was for.
    """

    name: str
    answers: Callable[[Iterable], Iterator]
    agreement: float | None
    largest_difference: float = 0.0
    compared: int = 0
    margin: float | None = None
    asked_again: float = 0.0

    @property
    def description(self) -> dict[str, Any]:
        """What a manifest says of it: no times, so equal for equal data."""
        found = {"engine": self.name, **vars(self)}
        return {k: v for k, v in found.items() if k not in ("name", "answers")}


def choose(
    teacher: Teacher,
    taps: Iterable[str],
    batches: tf.data.Dataset,
    agreement: float | None = None,
    verbose: int = 1,
    name: str | None = None,
    answers: int | None = None,
) -> Engine:
    """Returns the teacher's own call, or a faster engine that is allowed.

    Another is not looked for if the data ends before there was enough of it
    to compare it on, or the teacher gives all answers within seconds: four,
    and one more for each million of its weights.

    Args:
        teacher: Any teacher. Only the output of a `FrozenTeacher` of a model
            with a graph is answered otherwise than by its own call.
        taps: What to ask it for.
        batches: Batches of inputs; the first ones are read.
        agreement: `None`: the teacher's own call. A share such as 0.995: int8
            arithmetic, with a `LowMargin` by the teacher at close decisions
            so that at least that many are the same, if it is 5 % faster.
        verbose: 0 does not say what was chosen.
        name: Take this engine, which was chosen before, however fast it is:
            a labelling that is resumed goes on as it began.
        answers: How many are needed in all; `None` if unknown.

    Raises:
        ValueError: If `agreement` is not in (0, 1], or the engine `name`
            does not work for this teacher.
    """
    if agreement is not None and not 0.0 < agreement <= 1.0:
        raise ValueError(
            "`agreement` must be None or a share of samples in (0, 1], such "
            f"as 0.995. Received: {agreement!r}"
        )
    taps = tuple(taps)
    teacher = teacher.ready_for(taps)
    call = teacher_call(teacher, taps, batches.element_spec)
    if name == KERAS or (name is None and agreement is None):
        return _own(call, taps)
    # Whatever a converter or a runtime may raise, the teacher's own call
    # remains.
    try:
        _check_suitable(teacher, taps, agreement, name)
        calibration, sample = _first_samples(
            batches, samples_to_compare(agreement), fewer=name is not None
        )
        if name is None and answers is not None:
            _check_long(call, calibration, answers, teacher)
        fast = LiteRTEngine(call, batches.element_spec, calibration)
        binary = teacher.kind_of("output").over == "units"
        found = _compared(call, fast, sample, agreement, binary)
        gain = "as before"
        if name is None:
            # What the teacher decides itself takes as long as it always does.
            ratio = speedup(call, fast, sample[0])
            ratio /= 1.0 + found.asked_again * ratio
            gain = f"{ratio:.1f} x as fast as the teacher's own call"
            if ratio < WORTHWHILE:
                raise ValueError(f"{INT8} is {ratio:.2f} x as fast")
    except Exception as error:
        if is_passing(error):
            raise
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, ValueError):
            reason = f"{type(error).__name__}: {reason}"
        if name is not None:
            raise ValueError(
                "`engine` must be one that works for this teacher. Received: "
                f"{name!r}: {reason}. Label all samples again, into another "
                "directory."
            ) from error
        say(f"labelling with the teacher's own call: {reason}", verbose)
        return _own(call, taps)
    say(
        f"labelling with {INT8}: {gain}; the teacher decides the "
        f"{found.asked_again:.1%} that are close; the same decision for "
        f"{found.agreement:.2%} of {found.compared} samples",
        verbose,
    )
    return found


def samples_to_compare(agreement: float) -> int:
    """Returns how many show that decisions agree, if all of them do."""
    needed = math.inf
    if agreement < 1.0:
        needed = math.log(1.0 - CERTAINTY) / (agreement - 1.0)
    return math.ceil(min(max(needed, COMPARED[0]), COMPARED[-1]))


def _own(call, taps):
    return Engine(KERAS, _answers_of(call), 1.0 if "output" in taps else None)


def _answers_of(call):
    return lambda batches: ((call(x), note) for x, note in batches)


def _check_suitable(teacher, taps, agreement, name):
    if name not in (None, INT8):
        raise ValueError(f"expected {KERAS!r} or {INT8!r}")
    if agreement is None:
        raise ValueError(f"{INT8} needs an `agreement`, such as 0.995")
    if taps != ("output",):
        raise ValueError(f"{INT8} is for the output alone, not {taps}")
    is_plain = isinstance(teacher, FrozenTeacher)
    if not is_plain or getattr(teacher.model, "inputs", None) is None:
        raise ValueError(f"{INT8} needs one Keras model with a graph")


def _first_samples(batches, count, fewer):
    """Returns `CALIBRATION` samples as one batch, and a few to compare on.

    Args:
        batches: Batches of inputs, of which the first ones are read.
        count: How many to compare on; they come in batches of their own.
        fewer: Whether less than that will do. A single sample is in both.
    """
    held, samples, size = [], 0, 0
    for x in batches:
        held.append(x := tf.nest.map_structure(np.asarray, x))
        samples += length(x)
        size += sum(array.nbytes for array in tf.nest.flatten(x))
        if samples >= CALIBRATION + count or (size >= BYTES and len(held) > 1):
            break
    else:
        if not fewer:
            raise ValueError(f"{samples} samples are too few to compare on")
    first = min(CALIBRATION, max(1, samples // 2))
    end = min(first + count, samples)
    joined = tf.nest.map_structure(
        lambda *arrays: tf.constant(np.concatenate(arrays)), *held
    )
    others = [
        rows_of(joined, slice(at, min(at + length(held[0]), end)))
        for at in range(first, end, length(held[0]))
    ]
    return rows_of(joined, slice(first)), others or [joined]


def _check_long(call, x, answers, teacher):
    """Raises if the teacher's own call is done before another is found."""
    weights = sum(model.count_params() for model in teacher.models)
    if answers * seconds_each(call, x) < SHORT[0] + SHORT[1] * weights:
        raise ValueError("it is done within seconds")


def _compared(call, fast, batches, agreement, binary):
    """Returns the engine that a comparison of both calls asks for."""
    expected, found = (
        np.concatenate([np.asarray(each(x)["output"]) for x in batches])
        for each in (call, fast)
    )
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise ValueError(f"{INT8} or the teacher gives non-finite values")
    margin = margin_for(expected, found, agreement, binary)
    again = np.zeros(len(found), bool)
    answers = _answers_of(fast)
    if margin is not None:
        again = margins(found, binary) <= margin
        answers = LowMargin(fast, call, margin, binary).answers
    found[again] = expected[again]
    same = decisions(expected, binary) == decisions(found, binary)
    return Engine(
        INT8,
        answers,
        agreement=float(same.mean()),
        largest_difference=float(np.abs(found - expected).max()),
        compared=len(found),
        margin=margin,
        asked_again=float(again.mean()),
    )
