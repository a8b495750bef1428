# SPDX-License-Identifier: Apache-2.0
"""The callback that prunes inside any `fit`."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_kd.pruning.kernels import prunable_kernels
from keras_kd.pruning.kernels import sparsity_of
from keras_kd.pruning.selection import check_lists
from keras_kd.pruning.tfmot import WholeModelEngine
from keras_kd.pruning.tfmot import import_engine
from keras_kd.pruning.tfmot import import_tfmot

logger = logging.getLogger(__name__)

RECOVERY = 0.3
"""Share of the steps, at the end, that train at the final sparsity."""

UPDATES = 30
"""Mask updates in the default ramp: each sorts every pruned weight."""


class Pruning(keras.callbacks.Callback):
    """Prunes a model by magnitude while `fit` trains it.

    Works in any `fit`, of a plain model or of a `Distiller` (whose student is
    pruned). After each batch tfmot's engine updates the masks as the
    schedule says and sets the masked weights to zero, so weights are exactly
    sparse whenever a batch ends, whatever the optimizer, precision or
    `jit_compile`. With `steps_per_execution=n`, "batch" is each n of them.
    The masks live here: the model's weights and saved file stay as they were.
    The sparsity reached is in `history.history["sparsity"]`.

    A resumed fit (`initial_epoch > 0`, also by `BackupAndRestore`) goes on
    where the schedule was and reads the masks from the zeros in the weights.

    Order in `callbacks`: before one that saves inside an epoch, after one
    that puts weights back at the end (`EarlyStopping` with
    `restore_best_weights`; give that `start_from_epoch`, so that it compares
    only epochs at full sparsity). Where both are used, list this one first
    and call `apply_masks()` after `fit`.

    Reference: [Zhu and Gupta, 2017](https://arxiv.org/abs/1710.01878).

    Args:
        sparsity: Share of zeros to reach, in (0, 1): in each kernel, or in
            all together, see `threshold`.
        schedule: A tfmot `PruningSchedule` (see `import_tfmot`), which then
            decides instead of `sparsity` and `end_step`. Defaults to a
            `PolynomialDecay` from 0 to `sparsity` over the first 70% of the
            steps; the rest recovers at full sparsity.
        end_step: Step at which the default schedule reaches `sparsity`.
            Needed where `fit` does not know its number of steps.
        include: See `prunable_kernels`.
        exclude: See `prunable_kernels`.
        block_size: Zeros come in blocks of this height and width
            (2-dimensional kernels only).
        sparsity_m_by_n: `(m, n)`: at once m zeros in each n consecutive
            weights, instead of `sparsity` and `schedule`.
        threshold: `"layer"`: each kernel loses the same share. `"global"`:
            the smallest weights of the whole model go, wherever they are. It
            may leave a layer nearly empty: see the table that `prune` makes.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if
            nothing can be pruned or the schedule's end is not known.

    Example:

    ```python
    model.fit(x, y, epochs=10, callbacks=[kd.Pruning(sparsity=0.8)])
    ```
    """

    def __init__(
        self,
        sparsity: float = 0.8,
        schedule: Callable | None = None,
        end_step: int | None = None,
        include: Sequence[str | type] | None = None,
        exclude: Sequence[str | type] = (),
        block_size: tuple[int, int] = (1, 1),
        sparsity_m_by_n: tuple[int, int] | None = None,
        threshold: str = "layer",
    ):
        super().__init__()
        if not 0.0 < sparsity < 1.0:
            raise ValueError(
                "`sparsity` is the share of zeros to reach and must lie "
                f"between 0 and 1, both excluded. Received: {sparsity}"
            )
        if schedule is not None and (end_step or not callable(schedule)):
            raise ValueError(
                "`schedule` must be a tfmot PruningSchedule, given without "
                f"`end_step`. Received: {schedule!r}, end_step={end_step}"
            )
        if end_step is not None and end_step < 1:
            raise ValueError(
                f"`end_step` must be at least 1. Received: {end_step}"
            )
        check_lists(include=include, exclude=exclude)
        in_groups = tuple(block_size) != (1, 1) or sparsity_m_by_n
        if threshold not in ("layer", "global") or (
            threshold == "global" and in_groups
        ):
            raise ValueError(
                '`threshold` must be "layer" or "global", the latter without '
                f"`block_size` and `sparsity_m_by_n`. Received: {threshold!r}, "
                f"block_size={block_size}, sparsity_m_by_n={sparsity_m_by_n}"
            )
        self.sparsity = sparsity
        self.schedule = schedule
        self.end_step = end_step
        self.include = include
        self.exclude = exclude
        self.block_size = block_size
        self.sparsity_m_by_n = sparsity_m_by_n
        self.threshold = threshold
        self.kernels = []

    @property
    def target(self) -> float:
        """The sparsity at the end, if training completes."""
        if self.sparsity_m_by_n:
            zeros, length = self.sparsity_m_by_n
            return zeros / length
        if self.schedule is not None:
            return float(self.schedule(tf.constant(10**9, tf.int64))[1])
        return self.sparsity

    def on_train_begin(self, logs=None):
        # A Distiller's other weights (projectors) are not shipped.
        model = getattr(self.model, "student", self.model)
        self.kernels = prunable_kernels(model, self.include, self.exclude)
        self.schedule_in_use = self.schedule or self._default_schedule()
        self._resumed = None
        with _scope(self.model):
            self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._masks = [
                tf.Variable(tf.ones(v.shape, v.dtype), trainable=False)
                for _, v in self.kernels
            ]
            self._advance = self._engine()

    def on_epoch_begin(self, epoch, logs=None):
        steps = self.params.get("steps")
        # Read here, not at the beginning: BackupAndRestore has set the epoch
        # and the weights by now, wherever it stands in the list.
        if self._resumed is None:
            self._resumed = epoch > 0
            if self._resumed:
                self._resume(epoch, steps)
        self._epoch_begin = epoch * steps if steps else int(self._step)

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params.get("steps") or batch + 1
        done = self._epoch_begin + min(batch + 1, steps)
        with _scope(self.model):
            self._advance(tf.constant(done, tf.int64))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["sparsity"] = sparsity_of(self.kernels)

    def on_train_end(self, logs=None):
        self.apply_masks()
        reached = sparsity_of(self.kernels)
        logger.info("Pruned to sparsity %.4f of %.4f", reached, self.target)
        size = sum(v.value.shape.num_elements() for _, v in self.kernels)
        # The engine rounds each kernel to a whole weight, or block of them.
        slack = len(self.kernels) * math.prod(self.block_size) / size
        if reached < self.target - slack:
            warnings.warn(
                f"Pruning reached sparsity {reached:.4f} of {self.target:.4f}."
                " Either training stopped before the schedule's end, or the "
                "schedule's frequency does not divide end_step - begin_step, "
                "or many weights of a kernel are equal.",
                stacklevel=2,
            )

    def apply_masks(self) -> None:
        """Sets all masked weights to zero once more.

        `fit` does it at its end. Call it after code that puts weights back.
        """
        changed = False
        for weight, mask in self._pairs():
            kept = mask > 0
            changed |= bool(tf.reduce_any((weight != 0) & ~kept))
            # Selected, not multiplied: the engine leaves some zeros as -0.0,
            # which equal zero but pack worse.
            weight.assign(tf.where(kept, weight, tf.zeros_like(weight)))
        if changed:
            warnings.warn(
                "Pruned weights were put back after the last batch (by "
                "restore_best_weights or an averaging optimizer) and are set "
                "to zero again. Evaluate the model again: scores measured "
                "before are not those of this model.",
                stacklevel=2,
            )

    def _pairs(self):
        weights = [variable.value for _, variable in self.kernels]
        return zip(weights, self._masks, strict=True)

    def _default_schedule(self):
        total = (self.params.get("steps") or 0) * self.params["epochs"]
        if not (total or self.end_step or self.sparsity_m_by_n):
            raise ValueError(
                "The number of steps of this `fit` is not known, so neither "
                "is the end of the pruning schedule. Pass `end_step` or "
                "`schedule`, or give the dataset its length with "
                "`dataset.apply(tf.data.experimental.assert_cardinality(n))`."
            )
        end = self.end_step or max(1, int((1.0 - RECOVERY) * total))
        frequency = max(1, end // UPDATES)
        # The engine acts on multiples of the frequency only; were the end not
        # one of them, the last step of the ramp would never be taken.
        return import_tfmot().sparsity.keras.PolynomialDecay(
            0.0, self.sparsity, 0, end - end % frequency, frequency=frequency
        )

    def _engine(self):
        step, schedule = self._step, self.schedule_in_use
        pruned = [
            (weight, mask, tf.Variable(0, dtype=mask.dtype))
            for weight, mask in self._pairs()
        ]
        if self.threshold == "global":
            engine = WholeModelEngine(step, pruned, schedule)
        else:
            groups = (self.block_size, "AVG", self.sparsity_m_by_n)
            engine = import_engine()(lambda: step, pruned, schedule, *groups)

        @tf.function
        def advance(done):
            # Every step is offered to the schedule, also those inside one
            # execution of several: it may act on any of them.
            while step < done:
                step.assign_add(1)
                engine.conditional_mask_update()
            engine.weight_mask_op()

        return advance

    def _resume(self, epoch: int, steps: int | None) -> None:
        if not steps:
            raise ValueError(
                f"Pruning cannot resume at epoch {epoch}: the number of steps "
                "of an epoch is not known. Give the dataset its length with "
                "`dataset.apply(tf.data.experimental.assert_cardinality(n))`."
            )
        self._step.assign(epoch * steps)
        for weight, mask in self._pairs():
            zero = weight == 0
            # A kernel of nothing but zeros was initialised so, not pruned.
            if not bool(tf.reduce_all(zero)):
                mask.assign(tf.cast(~zero, mask.dtype))


def _scope(model):
    # Outside a replica, as callbacks run, the engine can only assign to the
    # variables of a tf.distribute strategy inside that strategy's scope.
    strategy = model.distribute_strategy
    return strategy.scope() if strategy else contextlib.nullcontext()
