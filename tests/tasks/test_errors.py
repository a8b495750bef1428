# SPDX-License-Identifier: Apache-2.0
"""What is not certain is an error that says how to mend it."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from keras_kd import tasks

LOGITS = np.array([[3.0, -1.0], [0.0, 2.0]])


def update(task, outputs, labels, teacher=None, **forms):
    task.meter(**forms).update(outputs, labels, teacher)


CLASSES, UNITS = tasks.Classification(), tasks.MultiLabel()
MODEL = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
LAMBDA = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(abs)])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: update(CLASSES, [[0.2], [0.9]], [0, 1]),
            "between 0.2 and 0.9. Pass outputs='logits'",
        ),
        (
            lambda: update(UNITS, [[0.2, 0.3]], [[0, 1]], None),
            "Cannot tell whether the outputs are logits",
        ),
        (
            lambda: update(CLASSES, {"probabilities": LOGITS}, [0, 1]),
            "between -1 and 3. Pass outputs='logits'",
        ),
        (
            lambda: update(UNITS, LOGITS, LOGITS > 0, [[0.1, 0.2], [0.3, 0.1]]),
            "whether the teacher_outputs are logits",
        ),
        (
            lambda: update(CLASSES, {"a": LOGITS, "b": LOGITS}, [0, 1]),
            r"a dict of tasks by output. Received: \['a', 'b'\]",
        ),
        (
            lambda: CLASSES.meter(outputs="scores"),
            "must be one of.*Received: 'scores'",
        ),
        (lambda: update(CLASSES, LOGITS, [0, 2]), "from 0 to 1.*from 0 to 2"),
        (lambda: update(CLASSES, LOGITS, [0.5, 1]), "kd.tasks.Regression"),
        (lambda: update(CLASSES, LOGITS, ["a", "b"]), "Number the classes"),
        (lambda: update(CLASSES, LOGITS, [[1, 1], [0, 0]]), "MultiLabel"),
        (
            lambda: update(CLASSES, LOGITS, [0, 1], LOGITS[:1]),
            "exactly the measured examples",
        ),
        (lambda: update(UNITS, LOGITS, [0, 1]), "0, 1 or -1 for each unit"),
        (
            lambda: update(tasks.Regression(), LOGITS, [0, 1]),
            r"the outputs' shape \(2, 2\). Received: \(2,\)",
        ),
        (
            lambda: update(tasks.Recommendation(), LOGITS, [0, 2]),
            "item numbers below 2",
        ),
        (
            lambda: update(tasks.Detection(), LOGITS, [0, 1]),
            "Pass `decode`",
        ),
        (
            lambda: CLASSES.meter().update(LOGITS, [0, 1], mask=[True]),
            r"`mask` must have the shape \(2,\)",
        ),
        (lambda: tasks.Classification(metric="f1"), "Received: metric='f1'"),
        (lambda: tasks.Tagging(), "must name every tag"),
        (lambda: tasks.Tagging(tags=("O", "PER")), r"Received: tags=\['PER'\]"),
        (lambda: tasks.Transcription(), "`alphabet` must hold"),
        (lambda: tasks.get({"a": CLASSES, "b": UNITS}), r"\['a', 'b'\]"),
        (lambda: tasks.get("classification"), "kd.tasks.Classification()"),
        (lambda: tasks.get(CLASSES, headline="a"), "names an output"),
        (
            lambda: update(tasks.get({"a": CLASSES, "b": CLASSES}, "a"), {}, 0),
            "must be a dict with 'a'",
        ),
        (lambda: tasks.Retrieval().label_loss(MODEL), "needs one"),
        (lambda: tasks.Detection().label_loss(MODEL), "needs `loss`"),
        (
            lambda: tasks.Transcription("_a").label_loss(MODEL),
            "Leave the softmax out",
        ),
        (lambda: CLASSES.label_loss(LAMBDA), "no default loss. Pass `loss`"),
    ],
)
def test_error_says_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    ("library", "task", "line"),
    [
        ("jiwer", tasks.Transcription("_ab"), r"keras_kd\[speech\]"),
        ("pycocotools.coco", tasks.Detection(), r"keras_kd\[detection\]"),
    ],
)
def test_missing_library_is_told_its_pip_line(monkeypatch, library, task, line):
    monkeypatch.setitem(sys.modules, library, None)
    boxes = {"boxes": np.zeros((1, 1, 4)), "classes": np.zeros((1, 1))}
    outputs = {**boxes, "scores": np.ones((1, 1))}
    if isinstance(task, tasks.Transcription):
        outputs, boxes = np.zeros((1, 4, 3)), [[1]]
    meter = task.meter()
    with pytest.raises(ImportError, match=line):
        meter.update(outputs, boxes)
        meter.result()
