# SPDX-License-Identifier: Apache-2.0
"""Own code: which functions and classes are the user's, and what they use.

The user's code changes between two runs; that of an installed package does
not, as long as its version is the same.
"""

from __future__ import annotations

import builtins
import functools
import importlib.metadata
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import keras

_INSTALLED = {"site-packages", "dist-packages"}


@functools.cache
def package_of(module: str) -> str | None:
    """Returns the package and version that a module is of; `None` if own."""
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root in ("builtins", "keras_kd"):
        return root
    found = sys.modules.get(root)
    file = getattr(found, "__file__", None) or next(
        iter(getattr(found, "__path__", ())), ""
    )
    if not _INSTALLED & set(pathlib.PurePath(file).parts):
        return None
    try:
        version = importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        version = getattr(found, "__version__", "")
    return f"{root}=={version}"


def module_of(thing: Any) -> str:
    """Returns the module that wrote a function, class, module or object."""
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    if isinstance(thing, types.FunctionType):
        # `functools.wraps` changes what `__module__` says.
        return thing.__globals__.get("__name__") or ""
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    return getattr(thing, "__module__", None) or "builtins"


def is_own(thing: Any) -> bool:
    """Tells whether a function, class, module or object's class is own."""
    kinds = (types.ModuleType, types.FunctionType, type)
    if not isinstance(thing, kinds) and not hasattr(thing, "__qualname__"):
        thing = type(thing)
    if isinstance(thing, type):
        return any(map(_is_own_class, thing.__mro__))
    return package_of(module_of(thing)) is None


def _is_own_class(kind):
    module = module_of(kind)
    # Compiled packages name modules that there are not; own code holds some.
    return package_of(module) is None and (
        module in sys.modules
        or any(isinstance(v, types.FunctionType) for v in vars(kind).values())
    )


def globals_used(function: types.FunctionType) -> dict[str, Any]:
    """Returns what an own function uses by name: rather too much than less.

    Of own modules it is the attributes that are named; of installed ones,
    the package and version.
    """
    names = set(_names(function.__code__))
    known = function.__globals__
    waiting = {name: known[name] for name in names if name in known}
    package = known.get("__package__") or ""
    for name in names - set(known) - set(vars(builtins)):
        # Imported in the function itself.
        for full in (name, f"{package}.{name}"):
            if full in sys.modules:
                waiting[name] = sys.modules[full]
    used, seen = {}, set()
    while waiting:
        name, value = waiting.popitem()
        if not isinstance(value, types.ModuleType):
            used[name] = value
        elif not is_own(value):
            used[name] = package_of(value.__name__)
        elif value.__name__ not in seen:
            seen.add(value.__name__)
            waiting |= {
                f"{value.__name__}.{attribute}": vars(value)[attribute]
                for attribute in names & set(vars(value))
            }
    return used


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def own_parts(thing: Any, inside: tuple = ()) -> list:
    """Returns the own functions, classes and objects in a setting or model."""
    if any(thing is outer for outer in inside):
        return []
    parts: Any = ()
    if isinstance(thing, keras.Layer):
        layers = thing._flatten_layers()
        kinds = [type(layer) for layer in layers if is_own(layer)]
        return kinds + [
            value
            for layer in layers
            for name, value in sorted(vars(layer).items())
            if name[0] != "_" and callable(value) and is_own(value)
            if not isinstance(value, (keras.Layer, types.MethodType))
        ]
    if isinstance(thing, dict):
        parts = [thing[key] for key in sorted(thing, key=str)]
    elif isinstance(thing, (list, tuple)):
        parts = thing
    elif isinstance(thing, functools.partial):
        parts = (thing.func, *thing.args, thing.keywords)
    elif is_own(thing):
        return [thing]
    elif hasattr(thing, "python_function"):  # of tf.function
        parts = [thing.python_function]
    elif hasattr(thing, "__wrapped__"):
        parts = [thing.__wrapped__]
    elif not isinstance(thing, (type, types.FunctionType, types.ModuleType)):
        # Such as the function in a loss of Keras.
        state = getattr(thing, "__dict__", {})
        parts = [value for _, value in sorted(state.items())]
    return [
        found for part in parts for found in own_parts(part, (*inside, thing))
    ]
