# SPDX-License-Identifier: Apache-2.0
"""Reading rows of a cache, wherever their shards are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_kd.targets.store.shards import Shard


def read_rows(
    shards: Sequence[Shard], taps: Sequence[str], rows, views=0
) -> dict[str, dict[str, np.ndarray]]:
    """Returns what is stored of some samples, as it was encoded.

    Args:
        shards: All shards, in order.
        taps: Names of the taps, in order.
        rows: Places in the cache, integers `(n,)`.
        views: Which view of each: integers `(n,)`, or one for all.

    Returns:
        `{tap: {field: array of shape (n, ...)}}`.

    Raises:
        ValueError: If there is no such row or view, or a file of a shard
            that is needed is damaged.
    """
    rows = np.asarray(rows, "int64")
    views = np.broadcast_to(np.asarray(views, "int64"), rows.shape)
    starts = np.cumsum([0, *map(len, shards)])
    _check_range(rows, int(starts[-1]), "rows")
    names = sorted(shards[0].record["files"])
    return {
        tap: {
            name.split(".")[1]: _field(
                shards, starts, name.removesuffix(".npy"), rows, views
            )
            for name in names
            if name.startswith(f"tap{number}.")
        }
        for number, tap in enumerate(taps)
    }


def _field(shards, starts, field, rows, views):
    like = shards[0].read(field)
    _check_range(views, like.shape[1], "views")
    found = np.empty((len(rows), *like.shape[2:]), like.dtype)
    home = np.searchsorted(starts, rows, side="right") - 1
    # Sorted once: to look through all rows for each shard takes minutes
    # where there are millions of them.
    order = np.argsort(home, kind="stable")
    numbers, firsts = np.unique(home[order], return_index=True)
    for number, here in zip(numbers, np.split(order, firsts)[1:], strict=True):
        stored = shards[number].read(field)
        found[here] = stored[rows[here] - starts[number], views[here]]
    return found


def _check_range(values, count, name):
    if values.size and not 0 <= values.min() <= values.max() < count:
        raise ValueError(
            f"`{name}` must be from 0 to {count - 1}. Received: "
            f"{values.min()} to {values.max()}"
        )
