# SPDX-License-Identifier: Apache-2.0
"""What fit, evaluate and predict run, and what they change."""

from __future__ import annotations

import numpy as np

from keras_kd import teachers
from keras_kd.data.batches import rows_of
from keras_kd.testing.contract import changed
from keras_kd.testing.contract import require
from keras_kd.testing.contract import state_of
from keras_kd.testing.counting import counted
from keras_kd.testing.counting import counted_layers


def check_run(distiller, data, steps, frozen_teacher):
    given = distiller.teacher
    calls, traces, asks = 0, [], False
    if given is not None:
        distiller.teacher, calls, traces = counted(teachers.get(given))
        # The student's own exits teach without being asked.
        asks = distiller.teacher.student_tap("output") is None
    evaluated = {k: v for k, v in data.items() if v is not None}
    predicted = {k: v for k, v in evaluated.items() if k != "y"}
    with counted_layers(distiller.student) as counts:
        # Eager and once, so what it takes is what one pass takes.
        distiller(rows_of(data["x"], slice(data["batch_size"])), training=False)
        one_pass = counts()
        before = state_of(given)
        student_before = distiller.student.get_weights()
        for name, run, per_batch in (
            ("fit", lambda: distiller.fit(**data, shuffle=False), int(asks)),
            ("evaluate", lambda: distiller.evaluate(**evaluated), 0),
            ("predict", lambda: distiller.predict(**predicted), 0),
        ):
            earlier, asked = counts(), int(calls)
            result = run()
            _check_passes(distiller, name, one_pass, earlier, counts(), steps)
            asked = int(calls) - asked
            require(
                asked == per_batch * steps,
                distiller,
                "the teacher runs once per training step, else never",
                f"{per_batch * steps} calls in {name} of {steps} batches",
                asked,
            )
            if name == "fit":
                check_history(distiller, result.history)
        _check_moved(distiller, student_before)
        _check_no_retrace(distiller, data, traces)
    moved = changed(before, state_of(given))
    require(
        not (frozen_teacher and moved),
        distiller,
        "training leaves the teacher as it was",
        "weights, statistics and `trainable` bit for bit",
        f"changes in {moved[:3]}",
    )


def _check_passes(distiller, name, one_pass, earlier, later, steps):
    for path, count in one_pass.items():
        received = later[path] - earlier[path]
        require(
            received == count * steps,
            distiller,
            "the student runs once per batch",
            f"layer '{path}' to run {count * steps} time(s) in {name} of "
            f"{steps} batches",
            received,
        )


def check_history(distiller, history):
    names = {loss.name for loss in distiller.distillation_losses}
    missing = sorted({"loss", "student_loss", *names} - set(history))
    bad = [key for key, value in history.items() if not np.isfinite(value[-1])]
    require(
        not missing and not bad,
        distiller,
        "the history tells every part of the loss",
        f"finite values for loss, student_loss, {', '.join(names)}",
        f"missing {missing}, not finite {bad}",
    )


def _check_moved(distiller, before):
    pairs = zip(before, distiller.student.get_weights(), strict=True)
    require(
        not all(np.array_equal(a, b) for a, b in pairs),
        distiller,
        "training changes the student",
        "other weights after fit",
        "the same weights",
    )


def _check_no_retrace(distiller, data, traces):
    before = len(traces)
    distiller.alpha = distiller.alpha * 0.5 + 0.5
    for loss in distiller.distillation_losses:
        if hasattr(loss, "temperature"):
            loss.temperature = loss.temperature + 1.0
    distiller.fit(**data)
    require(
        len(traces) == before,
        distiller,
        "assigning alpha or temperature does not trace again",
        f"{before} traces",
        len(traces),
    )
