# SPDX-License-Identifier: Apache-2.0
"""StepTargets: what one batch is to be matched to, and what that is."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

from keras_kd.core import output_kinds
from keras_kd.core.taps import ForwardPass
from keras_kd.core.taps import for_taps
from keras_kd.losses import sparse
from keras_kd.losses.base import DistillationLoss


class StepTargets(NamedTuple):
    """What one batch is to be matched to.

    Args:
        taps: `{tap: tensor}` of the teacher.
        attached: Whether they came with the data.
        index: Which sample each example is, if the data says so.
        keys: What attached targets say that they are, `{tap: key}`; see
            `output_kinds.TARGETS`.
        guard: The `StepChecks` that counts what is wrong with them.
    """

    taps: dict
    attached: bool = False
    index: Any = None
    keys: dict | None = None
    guard: Any = None

    def target(self, given: dict, loss: DistillationLoss, tap: str) -> Any:
        """Returns one target as a loss takes it.

        Args:
            given: `taps`, and those that are the student's own.
            loss: The loss; on features it gets what the model gave.
            tap: Tap of the teacher.
        """
        if tap not in given:
            raise ValueError(
                f"A distillation loss needs the teacher's tap '{tap}', which "
                f"the targets do not hold. Received taps: {sorted(given)}"
            )
        target = given[tap]
        if loss.logits or not self.attached:
            return target
        if sparse.is_sparse(target):
            if loss.accepts_sparse:
                return target
            raise ValueError(
                f"{type(loss).__name__} needs all values of the teacher's "
                f"'{tap}', of which the targets hold a few classes. Build the "
                "cache with top_k=None."
            )
        return output_kinds.as_given(target, (self.keys or {}).get(tap))


def opened(
    attached: dict, losses: dict, student_pass: ForwardPass
) -> tuple[dict, dict]:
    """Returns attached targets as tensors of known rank, and their keys."""
    targets, keys = {}, {}
    taps = {loss.teacher: loss.student for loss in losses.values()}
    for tap, target in attached.items():
        target, keys[tap] = output_kinds.opened(target)
        shape = None
        if tap in taps:
            shape = for_taps(taps[tap], student_pass.shape)
        targets[tap] = _known_rank(target, shape)
    return targets, keys


def _known_rank(target, shape):
    if getattr(getattr(target, "shape", None), "rank", 0) is not None:
        return target
    if shape is None:
        raise ValueError(
            "Targets that come with the data must have a known number of axes. "
            "Received: a tensor of unknown shape, as tf.data gives it without "
            "an `output_signature`. Give one, or call `tensor.set_shape`."
        )
    target.set_shape(shape)
    return target
