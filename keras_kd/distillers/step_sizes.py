# SPDX-License-Identifier: Apache-2.0
"""Sizes that only a step knows: resized where asked for, else compared."""

from __future__ import annotations

from keras import ops

from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.projector import resized_like


def of_one_size(loss: DistillationLoss, teacher, student, guard):
    """Returns the student's tap in the sizes of the teacher's.

    A model of free image size says only in the step how large its maps are.
    Broadcasting would compare one position with all the others, so a tap of
    another size is resized by `projector="auto"`; otherwise `guard` counts
    it, and the step goes on with zeros.

    Args:
        loss: What compares the two.
        teacher: Tensor `(batch, ..., features)`; anything else, and taps
            whose sizes are known and equal, pass unchanged.
        student: Tensor of the student, after its projector.
        guard: `StepChecks`.
    """
    if not _may_differ(loss, teacher, student):
        return student
    if loss.projector == "auto":
        return resized_like(student, teacher)
    sizes = zip(ops.shape(teacher)[1:-1], ops.shape(student)[1:-1], strict=True)
    same = ops.all(ops.stack([ops.equal(*pair) for pair in sizes]))
    guard.count("sizes", ops.logical_not(same))
    zeros = ops.zeros(
        (*ops.shape(teacher)[:-1], student.shape[-1]), student.dtype
    )
    return ops.cond(same, lambda: student, lambda: zeros)


def _may_differ(loss, teacher, student) -> bool:
    own = type(loss).project is not DistillationLoss.project
    if own or not (ops.is_tensor(teacher) and ops.is_tensor(student)):
        return False
    shapes = [tuple(tensor.shape) for tensor in (teacher, student)]
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 3:
        return False
    sizes = [shape[1:-1] for shape in shapes]
    if sizes[0] == sizes[1] and None not in sizes[0]:
        return False
    if loss.projector != "auto" and None not in (*sizes[0], *sizes[1]):
        return False  # `check_shapes` tells what it received
    # A loss that takes maps of any two sizes says so by its `check_shapes`.
    two, three = ((None, *(length for _ in sizes[0]), 1) for length in (2, 3))
    try:
        loss.check_shapes(two, three)
    except ValueError:
        return True
    return False
