# SPDX-License-Identifier: Apache-2.0
"""Average precision of boxes, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from keras_kd.core.extras import import_extra

BOX, KIND, SCORE = slice(4), 4, 5


def average_precision(
    truth: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> dict[str, float]:
    """Returns COCO's AP, AP50 and AP75 of found boxes.

    Args:
        truth: For each image `(n, 6)`: left, top, right, bottom, class,
            score (not read).
        found: For each image likewise.

    Returns:
        `{"ap", "ap50", "ap75"}`; empty if there is no box to find.

    Raises:
        ImportError: If pycocotools is not installed.
    """
    cocoeval = import_extra(
        "pycocotools.cocoeval", "detection", "kd.tasks.Detection"
    )
    coco = import_extra("pycocotools.coco", "detection", "kd.tasks.Detection")
    if not any(map(len, truth)):
        return {}
    if not any(map(len, found)):
        return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
    # pycocotools writes to the terminal what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        right = coco.COCO()
        right.dataset = _dataset(truth)
        right.createIndex()
        rows = [
            [number, *_box(row), row[SCORE], row[KIND]]
            for number, rows in enumerate(found)
            for row in rows
        ]
        evaluation = cocoeval.COCOeval(
            right, right.loadRes(np.array(rows)), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats[:3]
    return dict(zip(("ap", "ap50", "ap75"), map(float, stats), strict=True))


def _dataset(truth):
    # Numbers from 1: pycocotools takes the number 0 for no match.
    boxes = [
        {
            "id": 0,
            "image_id": number,
            "category_id": int(row[KIND]),
            "bbox": _box(row),
            "area": _box(row)[2] * _box(row)[3],
            "iscrowd": 0,
        }
        for number, rows in enumerate(truth)
        for row in rows
    ]
    for number, box in enumerate(boxes, start=1):
        box["id"] = number
    kinds = sorted({box["category_id"] for box in boxes})
    return {
        "info": {},
        "images": [{"id": number} for number in range(len(truth))],
        "categories": [{"id": kind} for kind in kinds],
        "annotations": boxes,
    }


def _box(row):
    left, top, right, bottom = map(float, row[BOX])
    return [left, top, right - left, bottom - top]
