# SPDX-License-Identifier: Apache-2.0
"""Groups: which layers lose channels together, and how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_kd.pruning.selection import check_kinds
from keras_kd.pruning.selection import check_names
from keras_kd.pruning.structured.channels import ChannelGraph


@dataclasses.dataclass
class Group:
    """Channels that compete with each other, since the same layers make them.

    There are several layers where an `Add` or the like ties them.
    """

    layers: tuple[str, ...]  # paths
    channels: np.ndarray  # see `ChannelGraph.roots`
    whole: bool  # they reach an input or output of the model and must stay
    blocked: tuple[str, ...]  # what stands in the way of removing them
    ratio: float = 0.0  # share of them to remove

    def kept(self, multiple_of: int = 1) -> int:
        """Returns how many channels stay: at least one."""
        size = len(self.channels)
        # The small number undoes float error: 10 * 0.3 is 3, not 2.999.
        keep = max(1, size - int(size * self.ratio + 1e-9))
        return min(size, -(-keep // multiple_of) * multiple_of)


def groups_of(graph: ChannelGraph) -> list[Group]:
    """Returns all groups, in the order of the graph."""
    makers: dict[int, list[str]] = {}
    for traced in graph.producers:
        for root in dict.fromkeys(graph.roots(traced.ids_out).tolist()):
            makers.setdefault(root, []).append(traced.path)
    whole, blocked = graph.whole(), graph.blocked()
    members: dict[tuple, list[int]] = {}
    for root, paths in makers.items():
        key = (tuple(paths), root in whole, blocked.get(root, ()))
        members.setdefault(key, []).append(root)
    return [Group(k[0], np.array(v), *k[1:]) for k, v in members.items()]


def names_of(
    chosen: Sequence[str | type],
    graph: ChannelGraph,
    exclude: Sequence[str] | None = None,
) -> list[str]:
    """Returns layer names, with the paths of its layers for each class.

    Where `exclude` is given, a class stands only for those of its layers
    that it leaves free and whose channels need not all stay.

    Raises:
        ValueError: If a class is not in the model.
    """
    makers = graph.producers
    kinds = [choice for choice in chosen if isinstance(choice, type)]
    known = [type(traced.layer) for traced in makers]
    check_kinds(kinds, known, "layers of the model that have channels")
    if exclude is not None:
        free = paths_of(_free(groups_of(graph), exclude))
        makers = [traced for traced in makers if traced.path in free]
    names = []
    for choice in chosen:
        if choice in kinds:
            names += [t.path for t in makers if isinstance(t.layer, choice)]
        else:
            names.append(choice)
    return names


def choose(
    groups: Sequence[Group],
    known: Sequence[str],
    ratio: float | Mapping[str, float],
    include: Sequence[str] | None,
    exclude: Sequence[str],
) -> list[Group]:
    """Returns those of a model's groups to prune, with their ratio set.

    `known` are the paths of all layers; for the others, and for what is
    refused, see `prune_channels`.
    """
    by_name = isinstance(ratio, Mapping)
    asked = (*(include or ()), *(ratio if by_name else ()))
    parts = [part for path in known for part in (path, *path.split("/"))]
    check_names((*asked, *exclude), parts)
    free = _free(groups, exclude)
    for name in asked:
        if not any(_names_any([name], group.layers) for group in free):
            raise ValueError(
                f"Layer '{name}' has no channels that may be removed: it has "
                "none of its own, is excluded, or its channels reach an input "
                "or output of the model. Name one of "
                f"{paths_of(free)}."
            )
    chosen = []
    for group in free:
        if include is not None and not _names_any(include, group.layers):
            continue
        share = _ratio_for(group, ratio) if by_name else ratio
        if share and len(group.channels) > 1:
            chosen.append(dataclasses.replace(group, ratio=share))
    in_the_way = [group for group in chosen if group.blocked]
    if in_the_way:
        reasons = dict.fromkeys(r for g in in_the_way for r in g.blocked)
        raise ValueError(
            "Some channels cannot be removed. In the way: "
            f"{', '.join(reasons)}. Keep the channels that pass there with "
            f"exclude={paths_of(in_the_way, exclude)}."
        )
    if not chosen:
        raise ValueError(
            "The model has no channels to remove: all of them reach an input "
            "or output or are excluded. Received: "
            f"include={include}, exclude={list(exclude)}"
        )
    return chosen


def paths_of(groups: Sequence[Group], also: Sequence[str] = ()) -> list[str]:
    """Returns the layers of some groups, after others, each once."""
    paths = (path for group in groups for path in group.layers)
    return list(dict.fromkeys((*also, *paths)))


def _free(groups, exclude):
    return [
        g for g in groups if not g.whole and not _names_any(exclude, g.layers)
    ]


def _names_any(names, paths) -> bool:
    parts = {part for path in paths for part in (path, *path.split("/"))}
    return not parts.isdisjoint(names)


def _ratio_for(group, ratios) -> float:
    found = {n: r for n, r in ratios.items() if _names_any([n], group.layers)}
    if len(set(found.values())) > 1:
        raise ValueError(
            f"The layers {list(group.layers)} are added or shared, so they "
            "lose the same channels and must have one ratio. Received: "
            f"{found}"
        )
    return next(iter(found.values()), 0.0)
