# SPDX-License-Identifier: Apache-2.0
"""Channels: which columns of a model's tensors must be removed together.

Every tensor is described by one number per channel: who that channel is.
A convolution gives new numbers; an activation hands on those it got; a
`Flatten` repeats them at each position; a `Concatenate` joins them; an `Add`
says that two numbers are one channel. What is to be cut in any weight
follows from the numbers alone, however the layers are wired.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import numpy as np


class Flow(NamedTuple):
    """The channels of one tensor (`None`: how many is not fixed).

    `source` is the path of the layer it comes from, if it is one.
    """

    ids: np.ndarray | None
    source: str | None = None


@dataclasses.dataclass
class Traced:
    """A layer that changes when channels go, and the channels it sees."""

    layer: Any
    path: str
    ids_in: np.ndarray | None
    ids_out: np.ndarray | None


class ChannelGraph:
    """Who is who among the channels of a model; filled by `trace`."""

    def __init__(self):
        self._count, self._same, self._whole, self._blocked = 0, [], [], []
        # All layers that have channels to cut, by the id of the layer.
        self.layers: dict[int, Traced] = {}
        # Those whose output channels are their own, in graph order.
        self.producers: list[Traced] = []
        # Tensors that are read by weights.
        self.consumed: list[Flow] = []

    def fresh(self, count: int | None) -> np.ndarray | None:
        """Returns the numbers of `count` new channels."""
        if count is None:
            return None
        self._count += count
        return np.arange(self._count - count, self._count)

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Says that channels of two tensors are the same, one by one."""
        self._same.append(np.stack([first, second]))

    def keep(self, ids: np.ndarray | None) -> None:
        """Says that channels must stay: those of inputs and outputs."""
        if ids is not None:
            self._whole.append(ids)

    def block(self, ids: np.ndarray | None, path: str, reason: str) -> None:
        """Says that a layer stands in the way of removing channels."""
        if ids is not None:
            self._blocked.append((ids, f"'{path}' ({reason})"))

    @functools.cached_property
    def _groups(self) -> np.ndarray:
        from scipy import sparse
        from scipy.sparse import csgraph

        # In the order of the oldest member, which is that of the graph.
        ones = np.concatenate([np.empty((2, 0), int), *self._same], axis=1)
        links = sparse.coo_array(
            (np.ones(ones.shape[1]), ones), (self._count, self._count)
        )
        return csgraph.connected_components(links, directed=False)[1]

    def roots(self, ids: np.ndarray) -> np.ndarray:
        """Returns the one number by which each channel is known.

        For a graph that is complete: what is united later is not seen.
        """
        return self._groups[ids]

    @property
    def size(self) -> int:
        """One more than the largest number that a channel is known by."""
        return int(self._groups.max(initial=-1)) + 1

    def whole(self) -> set[int]:
        """Returns the channels that must stay."""
        return {r for ids in self._whole for r in self.roots(ids).tolist()}

    def blocked(self) -> dict[int, tuple[str, ...]]:
        """Returns, for channels that cannot be removed, what is in the way."""
        found: dict[int, dict] = {}
        for ids, what in self._blocked:
            for root in self.roots(ids).tolist():
                found.setdefault(root, {})[what] = None
        return {root: tuple(what) for root, what in found.items()}
