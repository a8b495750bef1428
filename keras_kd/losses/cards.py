# SPDX-License-Identifier: Apache-2.0
"""Cards: the head of each method's file, as a table."""

from __future__ import annotations

import dataclasses
import re
import sys

from keras_kd.losses.base import DistillationLoss

_FIELDS = {
    "shapes": "Shapes",
    "use": "Use it",
    "avoid": "Do not",
    "suggested": "Suggested",
    "paper": "Paper",
}


@dataclasses.dataclass(frozen=True)
class Card:
    """What a person wants to know before using a method.

    It is read from the docstring of the method's file, so the two cannot
    differ.
    """

    name: str
    summary: str
    shapes: str
    use: str
    avoid: str
    suggested: str
    paper: str


def card_of(method: type[DistillationLoss]) -> Card:
    """Returns the card of a method.

    Raises:
        ValueError: If the docstring of its file lacks a field.
    """
    text = sys.modules[method.__module__].__doc__ or ""
    found = {}
    for field, title in _FIELDS.items():
        # A field goes on over the lines up to the next one.
        match = re.search(
            rf"^{title}: (.*?)(?=^\w[\w ]*: |\Z)", text, re.M | re.S
        )
        if match is None:
            raise ValueError(
                f"The file of {method.__name__} must start with a docstring "
                f"that has a line '{title}: ...'. Received: {text[:80]!r}"
            )
        found[field] = " ".join(match[1].split())
    summary = text.splitlines()[0].partition(": ")[2].rstrip(".")
    return Card(name=method.__name__, summary=summary, **found)


def markdown_table(methods: tuple[type[DistillationLoss], ...]) -> str:
    """Returns the cards as a Markdown table, one method a row."""
    rows = ["| loss | what it does | use it | paper |", "|---|---|---|---|"]
    for card in map(card_of, methods):
        paper = re.sub(r"(https?://\S+)", r"[link](\1)", card.paper)
        rows.append(
            f"| `{card.name}` | {card.summary} | {card.use} | {paper} |"
        )
    return "\n".join(rows)
