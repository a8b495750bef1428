# SPDX-License-Identifier: Apache-2.0
"""What a class can be made with."""

from __future__ import annotations

import inspect


def constructor_arguments(kind: type) -> set[str]:
    """Returns what a class can be made with, through `**kwargs` as well."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"])
            given = signature.parameters.values()
            kwargs = {p.name for p in given if p.kind == p.VAR_KEYWORD}
            names |= {p.name for p in given if p.kind != p.VAR_POSITIONAL}
            names -= {"self", *kwargs}
            if not kwargs:
                break
    return names
