# SPDX-License-Identifier: Apache-2.0
"""What users call says of every argument and result what it is."""

from __future__ import annotations

import inspect
import re

import keras_kd as kd

# What may stay without a name, and why.
LEFT_OPEN = {
    # A tuned value: an object of keras_tuner's, which is imported late.
}
# Bare `Any`, alone or as one of several: then all of it says nothing.
UNNAMED = re.compile(r"(^|\| )(typing\.)?Any($| \|)")


def public_objects():
    """Yields `(name, object)` of all that `keras_kd` and its rooms show."""
    for name in sorted({*kd.__all__, *kd._MODULES}):
        thing = getattr(kd, name)
        if not inspect.ismodule(thing):
            yield name, thing
            continue
        for inner in getattr(thing, "__all__", ()):
            yield f"{name}.{inner}", getattr(thing, inner)


def is_foreign(kind, name):
    """Whether a method overrides one of Keras or KerasTuner."""
    return name != "__init__" and any(
        name in vars(base) and not base.__module__.startswith("keras_kd")
        for base in kind.__mro__
    )


def public_functions():
    """Yields `(name, function)`, the methods of public classes included."""
    for name, thing in public_objects():
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing):
                is_shown = method in ("__init__", "__call__")
                if (
                    (is_shown or not method.startswith("_"))
                    and inspect.isfunction(getattr(function, "__func__", function))
                    and (function.__module__ or "").startswith("keras_kd")
                    and not is_foreign(thing, method)
                ):
                    yield f"{name}.{method}", function
        elif callable(thing):
            yield name, thing
