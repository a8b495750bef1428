# SPDX-License-Identifier: Apache-2.0
"""What users call says of every argument and result what it is."""

from __future__ import annotations

import inspect
import re

import keras_kd as kd

# What `import keras_kd` shows as rooms; `export` is shown as a function.
ROOMS = ("callbacks", "losses", "recipes", "targets", "teachers", "testing")
# `Any` alone or as one of several: either way the whole says nothing.
UNNAMED = re.compile(r"(^|\| )(typing\.)?Any($| \|)")


def public_objects():
    """Yields `(name, object)` of all that `import keras_kd` shows."""
    for name in kd.__all__:
        thing = getattr(kd, name)
        if name in ROOMS:
            for inner in getattr(thing, "__all__", vars(thing)):
                part = getattr(thing, inner)
                # A file without a list shows what it defines.
                if hasattr(thing, "__all__") or (
                    getattr(part, "__module__", None) == thing.__name__
                    and not inner.startswith("_")
                ):
                    yield f"{name}.{inner}", part
        else:
            yield name, thing.export if name == "export" else thing


def is_ours(kind, name):
    """Whether a method is none that Keras or KerasTuner declare."""
    holders = [base for base in kind.__mro__ if name in vars(base)]
    if name == "__init__":
        holders = holders[:1]
    return all(base.__module__.startswith("keras_kd") for base in holders)


def public_functions():
    """Yields `(name, function)`, the methods of public classes included."""
    for name, thing in public_objects():
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, callable):
                is_shown = not method.startswith("_")
                is_shown = is_shown or method in ("__init__", "__call__")
                if is_shown and is_ours(thing, method):
                    yield f"{name}.{method}", function
        elif callable(thing):
            yield name, thing


def unnamed(function, returns):
    """Returns which parameters of a function have no type, "return" too."""
    signature = inspect.signature(function)
    types = {
        p.name: p.annotation
        for p in signature.parameters.values()
        # `**kwargs` are what the function that gets them says of them.
        if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if returns:
        types["return"] = signature.return_annotation
    return [
        name
        for name, kind in types.items()
        if kind is inspect.Parameter.empty or UNNAMED.search(str(kind))
    ]


def test_public_functions_name_the_types_of_their_parameters():
    found = {
        name: unnamed(function, returns=not name.endswith("__init__"))
        for name, function in public_functions()
    }
    assert len(found) > 200
    assert {n: f for n, f in found.items() if f} == {}
