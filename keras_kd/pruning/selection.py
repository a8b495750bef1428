# SPDX-License-Identifier: Apache-2.0
"""Selection: checks of the layers that users name to prune or to leave."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def check_lists(**choices: Any) -> None:
    """Raises a `ValueError` where `include` or `exclude` is not a list."""
    for name, value in choices.items():
        if isinstance(value, (str, type)):
            raise ValueError(
                f"`{name}` must be a list of layer names or classes. "
                f"Received: {value!r}"
            )


def check_kinds(
    chosen: Iterable[type], known: Iterable[type], what: str
) -> None:
    """Raises a `ValueError` for a class that no layer is of."""
    known = list(known)
    for choice in chosen:
        if not any(issubclass(kind, choice) for kind in known):
            raise ValueError(
                f"`include` and `exclude` must name {what}. Received: "
                f"{choice.__name__}. Their classes: "
                f"{sorted({kind.__name__ for kind in known})}"
            )


def check_names(chosen: Iterable[str], known: Iterable[str]) -> None:
    """Raises a `ValueError` for a name that no layer of a model has."""
    known = list(known)
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ValueError(
                "`include`, `exclude` and a dict of ratios must name layers "
                f"of the model. Received: {name!r}. Near names: "
                f"{near or known[:10]}"
            )
