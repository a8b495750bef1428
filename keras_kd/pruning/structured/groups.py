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

    Args:
        layers: Paths of the layers that make them. Several, where an `Add`
            or the like ties them.
        channels: Their numbers (see `ChannelGraph.roots`).
        whole: They reach an input or output of the model and must stay.
        blocked: What stands in the way of removing them.
        ratio: Share of them to remove.
    """

    layers: tuple[str, ...]
    channels: np.ndarray
    whole: bool = False
    blocked: tuple[str, ...] = ()
    ratio: float = 0.0

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

    Args:
        chosen: Names, and layer classes.
        graph: The graph of the model.
        exclude: If given, a class stands only for those of its layers that
            are not named here and whose channels need not all stay.

    Raises:
        ValueError: If a class is not in the model.
    """
    names, free = [], {t.path for t in graph.producers}
    if exclude is not None:
        free = {
            path
            for group in groups_of(graph)
            if not group.whole and not _names_any(exclude, group.layers)
            for path in group.layers
        }
    kinds = [choice for choice in chosen if isinstance(choice, type)]
    check_kinds(
        kinds,
        [type(traced.layer) for traced in graph.producers],
        "layers of the model that have channels",
    )
    for choice in chosen:
        if choice in kinds:
            makers = (t for t in graph.producers if isinstance(t.layer, choice))
            names += [t.path for t in makers if t.path in free]
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
    """Returns the groups to prune, with their ratio set.

    Args:
        groups: All groups of a model.
        known: Paths of all layers of the model.
        ratio: See `prune_channels`.
        include: See `prune_channels`.
        exclude: See `prune_channels`.

    Raises:
        ValueError: If a name is unknown or names nothing that can be pruned,
            two names ask different ratios of one group, a layer that is not
            supported is in the way, or nothing is left to prune.
    """
    by_name = isinstance(ratio, Mapping)
    asked = (*(include or ()), *(ratio if by_name else ()))
    parts = [part for path in known for part in (path, *path.split("/"))]
    check_names((*asked, *exclude), parts)
    free = [
        g for g in groups if not g.whole and not _names_any(exclude, g.layers)
    ]
    for name in asked:
        if not any(_names_any([name], group.layers) for group in free):
            raise ValueError(
                f"Layer '{name}' has no channels that may be removed: it has "
                "none of its own, is excluded, or its channels reach an input "
                "or output of the model. Name one of "
                f"{[path for group in free for path in group.layers]}."
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
            f"exclude={exclusion(in_the_way, exclude)}."
        )
    if not chosen:
        raise ValueError(
            "The model has no channels to remove: all of them reach an input "
            "or output or are excluded. Received: "
            f"include={include}, exclude={list(exclude)}"
        )
    return chosen


def exclusion(groups: Sequence[Group], exclude: Sequence[str]) -> list[str]:
    """Returns the `exclude` that would leave these groups whole, too."""
    paths = (path for group in groups for path in group.layers)
    return list(dict.fromkeys((*exclude, *paths)))


def _names_any(names, paths) -> bool:
    return any(
        name == path or name in path.split("/")
        for name in names
        for path in paths
    )


def _ratio_for(group, ratios) -> float:
    found = {n: r for n, r in ratios.items() if _names_any([n], group.layers)}
    if len(set(found.values())) > 1:
        raise ValueError(
            f"The layers {list(group.layers)} are added or shared, so they "
            "lose the same channels and must have one ratio. Received: "
            f"{found}"
        )
    return next(iter(found.values()), 0.0)
