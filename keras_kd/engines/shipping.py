# SPDX-License-Identifier: Apache-2.0
"""Functions, values and errors on their way to another process and back."""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import pathlib
import sys
import sysconfig
import traceback
from typing import Any

import cloudpickle


def packed(value: Any, everywhere: bool = False) -> bytes:
    """Returns a value for `unpacked` in another process.

    Functions of modules that cannot be imported there, such as a recipe
    that was loaded from a file, are packed whole.

    Args:
        value: What is packed.
        everywhere: Whether the process may be on another machine, which has
            what is installed and no module of one's own.

    Raises:
        ValueError: If the value is tied to this process.
    """
    try:
        with contextlib.ExitStack() as stack:
            for module in _found_nowhere(everywhere):
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
            return cloudpickle.dumps(value)
    except Exception as error:
        raise ValueError(
            "With several workers the data and functions are handed to other "
            "processes. Expected splits that are NumPy arrays and functions "
            "that use nothing tied to this process (no tf.data.Dataset, no "
            f"open file). Received: {error}. Pass arrays, or workers=1."
        ) from error


def unpacked(content: bytes) -> Any:
    """Returns what `packed` was given."""
    return cloudpickle.loads(content)


@contextlib.contextmanager
def portable_errors():
    """Gives errors their traceback as a note, and a form that can travel."""
    try:
        yield
    except Exception as error:
        note = f"In another process:\n{traceback.format_exc()}"
        error.add_note(note)
        try:
            unpacked(cloudpickle.dumps(error))
        except Exception:  # some take other arguments than they keep
            error = RuntimeError(f"{type(error).__name__}: {error}")
            error.add_note(note)
        raise error from None


def _found_nowhere(everywhere):
    """Returns the modules of Python files that the process cannot import."""
    is_there = _is_installed if everywhere else _is_found
    names = [n for n in list(sys.modules) if not is_there(n.partition(".")[0])]
    # In this order: to look into a lazy module would import it.
    modules = [sys.modules[name] for name in names]
    return [m for m in modules if str(vars(m).get("__file__")).endswith(".py")]


@functools.cache
def _is_found(name):
    # What is run as a program is packed whole anyway.
    return name == "__main__" or _spec_of(name) is not None


@functools.cache
def _is_installed(name):
    spec = _spec_of(name)
    # Built in, or this package, which other machines need anyway.
    if name in (*sys.builtin_module_names, "__main__", "keras_kd"):
        return True
    places = spec and (spec.submodule_search_locations or [spec.origin])
    return any(
        pathlib.Path(folder) in pathlib.Path(place).parents
        for place in places or []
        for folder in map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
    )


def _spec_of(name):
    # Asks the path: `importlib.util` believes what has been imported here.
    return importlib.machinery.PathFinder.find_spec(name)
