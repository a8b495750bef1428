# SPDX-License-Identifier: Apache-2.0
"""Examples: a few of the test split, as their task draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_kd.report import panels
from keras_kd.tasks.base import Task

FILE = "examples.png"
SHOWN = 4
WIDTH = 4.0  # inches; at 390 pixels its letters are as large as a caption's
TEXT_HEIGHT = 1.7  # of a row that may be a picture or a list


def render(task: Task, examples: Sequence[tuple[Any, Any, Any, Any]]) -> bytes:
    """Returns one PNG with an example in each row.

    Args:
        task: Whose `draw` draws them.
        examples: Input, label, teacher's outputs and student's outputs of
            each, without the axis of the batch.

    Example:

    ```python
    from keras_kd.report.examples import render

    image = np.zeros((8, 8, 3))
    scores = {"logits": np.zeros((8, 8, 2))}
    mask = np.zeros((8, 8), int)
    png = render(kd.tasks.Segmentation(), [(image, mask, scores, scores)])
    ```
    """
    columns = len(task.panels)
    height = WIDTH / columns + 0.25 if columns > 2 else TEXT_HEIGHT
    size = int(WIDTH * panels.DPI), int(height * len(examples) * panels.DPI)
    figure = panels.figure_of(size)
    rows = figure.subplots(len(examples), columns, squeeze=False)
    for axes, example in zip(rows, examples, strict=True):
        task.draw(axes, *example)
    return panels.png_of(figure)
