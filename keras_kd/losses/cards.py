# SPDX-License-Identifier: Apache-2.0
"""Cards: the head of each method's docstring, as a record."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

from keras_kd.losses.base import DistillationLoss

_TITLES = ("Shapes", "Use it", "Do not", "Suggested", "Paper")


class Card(NamedTuple):
    """What a person wants to know before using a method."""

    name: str
    summary: str
    shapes: str
    use: str
    avoid: str
    suggested: str
    paper: str


def card_of(method: type[DistillationLoss]) -> Card:
    """Returns the card of a method, read from its docstring.

    Raises:
        ValueError: If the docstring lacks a field.
    """
    text = inspect.getdoc(method) or ""
    _, *parts = re.split(rf"^({'|'.join(_TITLES)}): ", text, flags=re.M)
    if tuple(parts[::2]) != _TITLES:
        raise ValueError(
            f"The docstring of {method.__name__} must have the lines "
            f"{[f'{title}: ...' for title in _TITLES]}, in this order. "
            f"Received: {parts[::2]}"
        )
    # A field ends where the next begins, the last one at an empty line.
    fields = [" ".join(p.partition("\n\n")[0].split()) for p in parts[1::2]]
    summary = text.partition(".\n")[0]
    return Card(method.__name__, summary[0].lower() + summary[1:], *fields)
