# SPDX-License-Identifier: Apache-2.0
"""Identity: a sha256 that says whether a teacher or a function is the same.

What was labelled by one teacher must not be continued by another, nor
replayed with another augmentation.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import pathlib
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_kd.core.canonical_form import canonical_form
from keras_kd.core.records import file_sha256
from keras_kd.teachers.base import Teacher


def identity(thing: Any) -> str:
    """Returns a sha256 of what a teacher, model or function computes with.

    A model is its architecture and weights; the names of its layers and
    operations, which Keras numbers through the process, do not count. A
    function is its code, its defaults and the values it closes over, but not
    the functions it calls by name. A teacher is its class and its public
    attributes, the files of a `path` included.

    Args:
        thing: A `Teacher`, `keras.Model`, function, array, path or plain
            value, or a list, tuple or dict of them.

    Example:

    ```python
    identity(lambda x, seed: x) == identity(lambda x, seed: x + 1)  # False
    ```
    """
    digest = hashlib.sha256()
    _feed(thing, digest.update, ())
    return digest.hexdigest()


def _feed(thing, update: Callable[[bytes], None], inside: tuple) -> None:
    # The type goes first: 1 and "1" are different things.
    update(f"<{type(thing).__qualname__}>".encode())
    if any(thing is outer for outer in inside):
        return  # a function that calls itself

    def feed(*parts):
        for part in parts:
            _feed(part, update, (*inside, thing))

    if isinstance(thing, keras.Layer):
        update(_architecture(thing).encode())
        feed(*(weight.numpy() for weight in thing.weights))
    elif hasattr(thing, "__array__"):
        array = np.ascontiguousarray(thing)
        update(f"{array.shape}{array.dtype}".encode())
        update(array.tobytes())
    elif isinstance(thing, Teacher):
        update(type(thing).__module__.encode())
        feed(_public(thing))
    elif isinstance(thing, types.FunctionType):
        feed(thing.__code__, thing.__defaults__, thing.__kwdefaults__)
        feed(inspect.getclosurevars(thing).nonlocals)
    elif isinstance(thing, types.CodeType):
        feed(thing.co_code, thing.co_names, thing.co_consts)
    elif isinstance(thing, types.MethodType):
        feed(thing.__func__, thing.__self__)
    elif isinstance(thing, functools.partial):
        feed(thing.func, thing.args, thing.keywords)
    elif isinstance(thing, dict):
        for key in sorted(thing, key=str):
            feed(key, thing[key])
    elif isinstance(thing, (list, tuple)):
        feed(*thing)
    elif isinstance(thing, (set, frozenset)):
        feed(*sorted(thing, key=repr))
    elif isinstance(thing, os.PathLike):
        _feed_files(pathlib.Path(thing), update)
    elif isinstance(thing, bytes):
        update(thing)
    elif isinstance(thing, (str, int, float, complex, type(None))):
        update(repr(thing).encode())
    else:
        # An object or module: its name, and the plain values it shows.
        update(getattr(thing, "__name__", "").encode())
        feed({k: v for k, v in _public(thing).items() if _plain(v)})


def _public(thing):
    values = getattr(thing, "__dict__", {})
    return {k: v for k, v in values.items() if not k.startswith("_")}


def _plain(value):
    return isinstance(value, (str, int, float, type(None), np.ndarray))


def _feed_files(path, update):
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for file in files or [path] * path.is_file():
        update(f"{file.relative_to(path)}{file_sha256(file)}".encode())


def _architecture(model):
    """Returns a model's config as JSON, its layers numbered in order."""
    try:
        config = model.get_config()
    except NotImplementedError:
        return type(model).__qualname__
    form = canonical_form(model, config, chosen_too=True, ignore=["trainable"])
    return json.dumps(form, sort_keys=True, default=str)
