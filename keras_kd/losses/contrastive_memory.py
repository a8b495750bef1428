# SPDX-License-Identifier: Apache-2.0
"""ContrastiveMemory: embeds both taps and remembers samples (CRD)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.losses.geometry import directions

NOBODY = -1  # owner of a row that no sample has taken yet


@keras.saving.register_keras_serializable(package="keras_kd")
class ContrastiveMemory(keras.layers.Layer):
    """Two linear heads, and what they made of earlier samples.

    There are two banks of unit vectors, of teacher and of student embeddings,
    random at first. A sample of index i has row `i % memory` in both. It is
    compared with the other network's bank, then written to its own: by
    `momentum` into its own row or a free one; the row of another sample is
    replaced (and the sample's own pair taken from this step instead).

    - Of samples that share a row in one batch, the last one writes.
    - An embedding that is not finite is not written: one overflow in half
      precision must not stay.
    - Negatives are drawn with replacement from the rows up to the highest in
      use, without the sample's own row.
    - Under `tf.distribute` each replica writes the samples of all replicas,
      so all hold one memory; they draw the same rows.

    It computes in float32 under every dtype policy. `Contrastive` explains
    the settings.
    """

    def __init__(
        self,
        features: int = 128,
        memory: int = 16384,
        negatives: int = 4096,
        tau: float = 0.07,
        momentum: float = 0.5,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.features = features
        self.memory = memory
        self.negatives = negatives
        self.tau = tau
        self.momentum = momentum
        self.seeds = keras.random.SeedGenerator()

    def build(self, teacher_shape, student_shape):
        self.teacher_head = self._head("teacher_head", teacher_shape)
        self.student_head = self._head("student_head", student_shape)
        shape = (self.memory, self.features)
        self.teacher_bank = self._state("teacher_bank", shape, _units)
        self.student_bank = self._state("student_bank", shape, _units)
        nobody = keras.initializers.Constant(NOBODY)
        self.owner = self._state("owner", shape[:1], nobody, "int64")
        self.log_mean = self._state("log_mean", (2,), "zeros")
        self.has_mean = self._state("has_mean", (), "zeros", "bool")

    def _head(self, name, tap_shape):
        head = keras.layers.Dense(self.features, name=name, dtype="float32")
        head.build((None, tap_shape[-1]))
        return head

    def _state(self, name, shape, initializer, dtype="float32"):
        return self.add_weight(
            shape, initializer, dtype, trainable=False, name=name
        )

    def call(self, teacher, student, sample_index):
        """Returns log-ratios `(batch, 2, 1 + negatives)`, and remembers.

        First the student against the teacher's bank, then the reverse. A
        log-ratio is a similarity over tau minus the logarithm of the mean
        exponential of such in the first batch. Taps are `(batch, ...,
        features)`, indices `(batch,)`.
        """
        teacher = ops.stop_gradient(teacher)  # but its head does learn
        teacher = self.teacher_head(_pooled(teacher))
        student = self.student_head(_pooled(student))
        both = ops.concatenate([teacher, student], axis=-1)
        is_finite = ops.all(ops.isfinite(both), axis=-1)
        teacher, student = map(directions, (teacher, student))
        index = ops.cast(ops.reshape(sample_index, (-1,)), "int64")
        row = ops.mod(index, self.memory)
        others = self._draw(row)
        owner = ops.take(self.owner, row)
        is_own = ops.logical_or(owner == index, owner == NOBODY)[:, None]
        scores, new = [], []
        for vectors, bank, now in (
            (student, self.teacher_bank, ops.stop_gradient(teacher)),
            (teacher, self.student_bank, ops.stop_gradient(student)),
        ):
            old = ops.where(is_own, ops.take(bank, row, axis=0), now)
            scores.append(self._scores(vectors, old, bank, others))
            new.append(self.momentum * old + (1.0 - self.momentum) * now)
        scores = ops.stack(scores, axis=1)
        writer = ops.where(is_finite, index, NOBODY)
        self._remember(writer, directions(ops.stack(new, axis=1)))
        return scores - self._log_mean_of_first(scores)[:, None]

    def _draw(self, row):
        """Draws `(batch, negatives)` rows, none of them a sample's own."""
        rows = ops.arange(self.memory, dtype="int64")
        highest = ops.maximum(
            ops.max(ops.where(self.owner != NOBODY, rows, 1)), ops.max(row)
        )
        shape = (ops.shape(row)[0], self.negatives)
        drawn = keras.random.randint(shape, 0, highest, "int64", self.seeds)
        # One row is passed over, so the draw ends one row lower.
        return drawn + ops.cast(drawn >= row[:, None], "int64")

    def _scores(self, vectors, own, bank, others):
        """Returns similarities over tau, `(batch, 1 + negatives)`."""
        own = ops.sum(vectors * own, axis=-1, keepdims=True)
        # With all rows: one product of matrices moves far fewer bytes than
        # copies of the drawn vectors of each sample.
        every = ops.matmul(vectors, ops.transpose(bank))
        drawn = ops.take_along_axis(every, others, axis=1)
        return ops.concatenate([own, drawn], axis=1) / self.tau

    def _log_mean_of_first(self, scores):
        log_mean = _log_mean_exp(ops.stop_gradient(scores), axis=(0, 2))
        log_mean = _log_mean_exp(_of_all_replicas(log_mean[None]), axis=0)
        log_mean = ops.where(self.has_mean, self.log_mean, log_mean)
        self.has_mean.assign(ops.all(ops.isfinite(log_mean)))
        self.log_mean.assign(log_mean)
        return log_mean

    def _remember(self, index, vectors):
        """Writes `(batch, 2, features)` for samples `(batch,)`."""
        index, vectors = map(_of_all_replicas, (index, vectors))
        row = ops.mod(index, self.memory)
        # Samples that share a row all write what the last of them writes:
        # the order of writes is not defined.
        writes = ops.logical_and(row[:, None] == row, index != NOBODY)
        position = ops.arange(1, 1 + ops.shape(row)[0])
        last = ops.max(ops.where(writes, position, 0), axis=1)
        any_writes, last = last > 0, ops.maximum(last - 1, 0)
        for variable, new in (
            (self.teacher_bank, vectors[:, 0]),
            (self.student_bank, vectors[:, 1]),
            (self.owner, index),
        ):
            old = ops.take(variable, row, axis=0)
            new = ops.take(new, last, axis=0)
            mask = ops.reshape(any_writes, (-1, *[1] * (len(new.shape) - 1)))
            new = ops.where(mask, new, old)
            variable.assign(ops.scatter_update(variable, row[:, None], new))

    def compute_mask(self, *args, **kwargs):
        return None  # positions are averaged

    def get_config(self):
        return {**super().get_config(), **settings_of(self)}


def settings_of(owner) -> dict:
    """Returns the settings that a memory shares with its loss."""
    names = ("features", "memory", "negatives", "tau", "momentum")
    return {name: getattr(owner, name) for name in names}


def _units(shape, dtype=None):
    return directions(keras.random.normal(shape, dtype=dtype))


def _pooled(tap):
    return ops.mean(tap, axis=tuple(range(1, len(tap.shape) - 1)))


def _log_mean_exp(tensor, axis):
    count = ops.cast(ops.size(tensor), "float32") / 2.0  # of 2 directions
    return ops.logsumexp(tensor, axis=axis) - ops.log(count)


def _of_all_replicas(tensor):
    """Joins a batch with those of the other replicas, where there are any."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            return replica.all_gather(tensor, axis=0)
    return tensor
