# SPDX-License-Identifier: Apache-2.0
"""Detection: boxes around things, and what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd import losses
from keras_kd.tasks import drawing
from keras_kd.tasks.average_precision import average_precision
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import check_choice
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import weights_of

METRICS = ("ap", "ap50", "ap75")


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """The outputs are boxes, or are decoded to boxes.

    Outputs: a dict with `"boxes"` `(batch, n, 4)` as left, top, right,
    bottom, `"scores"` `(batch, n)` and `"classes"` `(batch, n)`, filled up
    with class -1; or anything, and `decode` makes such a dict of it.
    Labels: likewise, without scores; or anything, and `decode_labels`.
    Headline: COCO's AP (mean over IoU .50 to .95); or `"ap50"`, `"ap75"`.
    Agreement: AP50 of the student's boxes, the teacher's of a score of at
    least `min_score` taken for the truth.
    Distils: squared error on each of `outputs`.
    Memory: not flat; the boxes of all images are kept, but nothing else.
    Needs pycocotools: `pip install 'keras_kd[detection]'`.

    Args:
        decode: Makes boxes, scores and classes of a batch of outputs, which
            are NumPy arrays by name.
        decode_labels: Makes boxes and classes of a batch of labels.
        loss: Loss on the labels, by output: what `compile` of Keras takes.
        outputs: Names of the outputs to distil, of a model with several.
        metric: `"ap"`, `"ap50"` or `"ap75"`.
        min_score: Score from which a box of the teacher counts, and from
            which boxes are drawn.
        names: Names of the classes.

    Example:

    ```python
    boxes = {"boxes": np.array([[[0, 0, 9, 9]]]), "classes": np.array([[0]])}
    meter = kd.tasks.Detection().meter()
    meter.update({**boxes, "scores": np.array([[0.9]])}, boxes)
    ```
    """

    panels = ("label", "teacher", "student")

    decode: Callable[[Any], Mapping[str, Any]] | None = None
    decode_labels: Callable[[Any], Mapping[str, Any]] | None = None
    loss: Any = None
    outputs: tuple[str, ...] = ()
    metric: str = "ap"
    min_score: float = 0.5
    names: tuple[str, ...] = ()

    def __post_init__(self):
        check_choice("metric", self.metric, METRICS)

    @property
    def headline(self):
        return Headline(self.metric)

    def label_loss(self, student, output=None):
        if self.loss is None:
            raise ValueError(
                "What a detector learns from depends on how its outputs are "
                "laid out, so kd.tasks.Detection needs `loss`, by output. "
                "Received: loss=None"
            )
        return self.loss

    def distillation_losses(self):
        return [
            losses.FeatureMatching(
                name, name, projector=None, name=f"{name}_feature_matching"
            )
            for name in self.outputs or ("output",)
        ]

    def meter(self, outputs=None, teacher_outputs=None):
        return DetectionMeter(self)

    def boxes(self, outputs: Any) -> dict[str, np.ndarray]:
        """Returns the boxes, scores and classes of a batch of outputs."""
        return _checked(outputs, self.decode, "outputs", "decode")

    def true_boxes(self, labels: Any) -> dict[str, np.ndarray]:
        """Returns the boxes and classes of a batch of labels."""
        return _checked(labels, self.decode_labels, "labels", "decode_labels")

    def draw(self, axes, x, label, teacher, student):
        from matplotlib.patches import Rectangle

        one = drawing.batch_of_one
        found = [
            self.true_boxes(one(label)),
            self.boxes(one(teacher)),
            self.boxes(one(student)),
        ]
        for axis, title, each in zip(axes, self.panels, found, strict=True):
            drawing.show_input(axis, x)
            axis.set_title(title, fontsize=8)
            for box, kind, score in zip(
                each["boxes"][0],
                each["classes"][0],
                each.get("scores", np.ones((1, len(each["boxes"][0]))))[0],
                strict=True,
            ):
                if kind < 0 or score < self.min_score:
                    continue
                size = box[2] - box[0], box[3] - box[1]
                color = f"C{int(kind)}"
                axis.add_patch(
                    Rectangle(box[:2], *size, fill=False, edgecolor=color)
                )
                name = drawing.name_of(kind, self.names)
                # Names of boxes at the edge would push the pictures away.
                axis.text(
                    *box[:2],
                    name,
                    fontsize=6,
                    color=color,
                    clip_on=True,
                    in_layout=False,
                )


class DetectionMeter(Meter):
    """Keeps the boxes of each image."""

    def __init__(self, task):
        self.task = task
        self.truth, self.found, self.teacher = [], [], []

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        found = self.task.boxes(outputs)
        counts = weights_of((len(found["boxes"]),), sample_weight, mask)
        self.found += _rows(found, counts)
        self.truth += _rows(self.task.true_boxes(labels), counts)
        if teacher_outputs is not None:
            theirs = self.task.boxes(teacher_outputs)
            self.teacher += _rows(theirs, counts, self.task.min_score)

    def result(self):
        figures = average_precision(self.truth, self.found)
        if self.teacher:
            beside = average_precision(self.teacher, self.found)
            if "ap50" in beside:
                figures["agreement"] = beside["ap50"]
        return figures


def _checked(batch, decode, what, argument):
    found = decode(batch) if decode else batch
    needed = ["boxes", "classes"] + (["scores"] if what == "outputs" else [])
    if not isinstance(found, Mapping) or not set(needed) <= set(found):
        received = sorted(found) if isinstance(found, Mapping) else type(found)
        raise ValueError(
            f"The {what} of a detector must be a dict of {needed}. Received: "
            f"{received}. Pass `{argument}`, a function that makes it of them."
        )
    arrays = {name: np.asarray(found[name], np.float64) for name in needed}
    shape = arrays["boxes"].shape
    if shape[2:] != (4,) or any(
        arrays[name].shape != shape[:2] for name in needed[1:]
    ):
        raise ValueError(
            f"The {what} must have boxes of shape (batch, n, 4), all else of "
            f"(batch, n). Received: { {k: v.shape for k, v in arrays.items()} }"
        )
    return arrays


def _rows(arrays, counts, min_score=-np.inf):
    """Returns the boxes of each image that counts, `(n, 4 + class + score)`."""
    scores = arrays.get("scores", np.ones(arrays["classes"].shape))
    columns = [arrays["classes"][..., None], scores[..., None]]
    table = np.concatenate([arrays["boxes"], *columns], axis=-1)
    is_box = (table[..., 4] >= 0) & (table[..., 5] >= min_score)
    return [
        row[kept]
        for row, kept, count in zip(table, is_box, counts, strict=True)
        if count > 0
    ]
