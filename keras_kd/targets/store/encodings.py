# SPDX-License-Identifier: Apache-2.0
"""How a tap is put into the fields of a cache, and read back as a target.

An encoding is three methods. `fields` turns a batch of values (NumPy) into
named arrays to store, `target` turns what was read (tensors, also inside
`tf.data`) into what a loss takes, `get_config` says how to make it again.
All keep every axis but the last: `(batch, ..., classes)` and
`(batch, views, ..., classes)` are both fine.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from keras import ops

from keras_kd.losses.sparse import GRID


class _Encoding:
    def get_config(self) -> dict:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Dense(_Encoding):
    """Stores every value, rounded to a dtype.

    Args:
        dtype: `"float16"` or `"float32"`.
        key: What the values are, by which the target says it; see
            `keras_kd.core.output_kinds.TARGETS`. `None`: that is not known.

    Example:

    ```python
    Dense("float16").fields(teacher_logits)["values"].dtype     # float16
    ```
    """

    dtype: str = "float16"
    key: str | None = None

    def __post_init__(self):
        if self.dtype not in ("float16", "float32"):
            raise ValueError(
                "`dtype` must be 'float16' or 'float32'. "
                f"Received: dtype={self.dtype!r}"
            )

    def fields(self, values) -> dict[str, np.ndarray]:
        return {"values": _rounded(values, self.dtype)}

    def target(self, fields: dict):
        values = ops.cast(fields["values"], "float32")
        return values if self.key is None else {self.key: values}


@dataclasses.dataclass
class TopK(_Encoding):
    """Stores the k likeliest classes, and the mass of all others together.

    Log-probabilities at T = 1 give those at any T. So do the others taken
    together, once their mass is known at a few temperatures: that is `tail`,
    see `keras_kd.losses.sparse`. At 1,000 classes and k = 16 a sample takes
    84 bytes instead of 2,000 in float16.

    Args:
        k: Number of classes to keep, at least 1 and below `classes`.
        classes: Number of classes. Learned from the first batch if `None`.

    Example:

    ```python
    target = TopK(2).target(TopK(2).fields(teacher_logits))
    sorted(target)      # ["ids", "log_probs", "tail"]
    ```
    """

    k: int
    classes: int | None = None

    def __post_init__(self):
        if not int(self.k) == self.k >= 1:
            raise ValueError(
                f"`k` must be a positive integer. Received: k={self.k}"
            )
        self.k = int(self.k)

    def fields(self, values) -> dict[str, np.ndarray]:
        log_p = _log_softmax(values)
        self.classes = _checked_classes(self, log_p)
        if self.k >= self.classes:
            raise ValueError(
                f"`k` must be below the number of classes, {self.classes}; "
                f"to keep all of them use Dense. Received: k={self.k}"
            )
        top = np.argpartition(log_p, -self.k, axis=-1)[..., -self.k :]
        top_log_p = np.take_along_axis(log_p, top, axis=-1)
        rank = np.argsort(-top_log_p, axis=-1, kind="stable")
        others = log_p  # ours, and read no more
        np.put_along_axis(others, top, -np.inf, axis=-1)
        tail = [
            _logsumexp(others / np.float32(temperature)) for temperature in GRID
        ]
        return {
            "ids": np.take_along_axis(top, rank, axis=-1).astype(
                np.min_scalar_type(self.classes - 1)
            ),
            "log_probs": _rounded(
                np.take_along_axis(top_log_p, rank, axis=-1), "float16"
            ),
            # Rounding to float16 would be the larger error after
            # interpolation: 0.004 of the probability at T = 1.5, for 10 bytes.
            "tail": np.stack(tail, axis=-1),
        }

    def target(self, fields: dict) -> dict:
        kinds = {"ids": "int32", "log_probs": "float32", "tail": "float32"}
        return {name: ops.cast(fields[name], kinds[name]) for name in kinds}


@dataclasses.dataclass
class Sampled(_Encoding):
    """Stores n classes drawn from the teacher's probabilities at one T.

    The share of each class among the draws is an unbiased estimate of its
    probability, so the gradient is that of the dense target on average,
    with a handful of ids even where there are 100,000 classes. What was
    drawn depends on `seed` and the values alone, not on the place in the
    data.

    Args:
        n: Number of draws, with replacement.
        temperature: T at which to draw. The loss must use the same T.
        classes: Number of classes. Learned from the first batch if `None`.
        seed: Seed of the draws.

    Reference: https://arxiv.org/abs/2503.16870

    Example:

    ```python
    fields = Sampled(50, temperature=1.0).fields(teacher_logits)
    fields["weights"].sum(axis=-1)      # n for each sample
    ```
    """

    n: int
    temperature: float = 1.0
    classes: int | None = None
    seed: int = 0

    def __post_init__(self):
        if not 1 <= int(self.n) == self.n < 2**16:
            raise ValueError(
                f"`n` must be an integer from 1 to 65535. Received: n={self.n}"
            )
        if not self.temperature > 0.0:
            raise ValueError(
                "`temperature` must be positive. "
                f"Received: temperature={self.temperature}"
            )
        self.n, self.temperature = int(self.n), float(self.temperature)

    def fields(self, values) -> dict[str, np.ndarray]:
        values = np.asarray(values, "float64")
        self.classes = _checked_classes(self, values)
        values = np.ascontiguousarray(values)
        rows = values.reshape(-1, self.classes)
        ids = np.zeros(
            (len(rows), self.n), np.min_scalar_type(self.classes - 1)
        )
        weights = np.zeros(ids.shape, np.min_scalar_type(self.n))
        for row, of_ids, of_weights in zip(rows, ids, weights, strict=True):
            drawn, counts = np.unique(self._draw(row), return_counts=True)
            of_ids[: len(drawn)] = drawn
            of_weights[: len(drawn)] = counts
        shape = (*values.shape[:-1], self.n)
        return {"ids": ids.reshape(shape), "weights": weights.reshape(shape)}

    def _draw(self, logits):
        # A generator keyed by content: a run that was cut into parts, or into
        # other batches, draws what one run would have drawn.
        key = hashlib.blake2b(
            logits.tobytes(), digest_size=16, key=str(self.seed).encode()
        ).digest()
        generator = np.random.Generator(
            np.random.Philox(key=int.from_bytes(key, "little"))
        )
        p = np.exp((logits - logits.max()) / self.temperature)
        cumulative = np.cumsum(p)
        points = generator.random(self.n) * cumulative[-1]
        # From the right, as a point may be 0 and class 0 have no probability.
        return np.searchsorted(cumulative, points, side="right")

    def target(self, fields: dict) -> dict:
        weights = ops.cast(fields["weights"], "float32") / self.n
        return {
            "ids": ops.cast(fields["ids"], "int32"),
            "weights": weights,
            "temperature": ops.full_like(weights[..., 0], self.temperature),
        }


def _checked_classes(encoding, values):
    found = values.shape[-1]
    if encoding.classes not in (None, found):
        raise ValueError(
            f"{type(encoding).__name__} was made for {encoding.classes} "
            f"classes. Received values of shape {values.shape}: {found} "
            "classes on the last axis. Build the other teacher's cache in a "
            "directory of its own."
        )
    return found


def _log_softmax(values):
    values = np.asarray(values, "float32")
    # The largest first, or logits near 1e9 would swallow the logarithm.
    values = values - values.max(axis=-1, keepdims=True)
    return values - _logsumexp(values)[..., None]


def _logsumexp(values):
    largest = values.max(axis=-1, keepdims=True)
    values = values - largest
    np.exp(values, out=values)
    return largest[..., 0] + np.log(values.sum(axis=-1))


def _rounded(values, dtype):
    # Beyond its largest value a float16 is infinite, and infinity times a
    # probability of zero is not a number.
    largest = np.finfo(dtype).max
    return np.clip(np.asarray(values), -largest, largest).astype(dtype)
