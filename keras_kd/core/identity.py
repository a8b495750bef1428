# SPDX-License-Identifier: Apache-2.0
"""Identity: a sha256 that says whether a teacher or a function is the same.

What was labelled by one teacher must not be continued by another, nor
replayed with another augmentation; a stage that is done must not be believed
when the code that made it has changed.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import pathlib
import types
from typing import Any

import keras
import numpy as np

from keras_kd.core.canonical_form import canonical_form
from keras_kd.core.own_code import globals_used
from keras_kd.core.own_code import is_own
from keras_kd.core.own_code import module_of
from keras_kd.core.own_code import own_parts
from keras_kd.core.own_code import package_of
from keras_kd.core.records import file_sha256

_PLAIN = (str, int, float, complex, type(None), type(...), np.dtype)


def identity(thing: Any, unseen: list[str] | None = None) -> str:
    """Returns a sha256 of what a teacher, model or function computes with.

    A model is its architecture and weights, and the code of its own layers;
    the names of its layers and operations, which Keras numbers through the
    process, do not count. A function is its code, its defaults, the values it
    closes over, and what it uses by name: functions, classes and values of
    the user's own modules likewise, those of installed packages by name and
    version, a folder by its path. A teacher is its class and its public
    attributes, the files of a `path` included. Any other object is its class
    and what `pickle` would keep of it.

    What has an attribute `identity`, a string such as a name and version, is
    known by that, and by the plain values beside it.

    Args:
        thing: A `Teacher`, `keras.Model`, function, array, path or plain
            value, or a list, tuple or dict of them.
        unseen: Is given the names of what cannot be seen into (a session, an
            open file); with them the result is another each time. `None`:
            they count by their class alone.

    Example:

    ```python
    from keras_kd.core.identity import identity

    identity(lambda x, seed: x) == identity(lambda x, seed: x + 1)  # False
    ```
    """
    digest = hashlib.sha256()
    _Reader(unseen).feed(thing, digest.update)
    return digest.hexdigest()


def identity_of_code(thing: Any, unseen: list[str] | None = None) -> str | None:
    """Returns a sha256 of the user's own code in settings or a model.

    `None` if there is none, as where all is by Keras and keras_kd: what these
    write down of themselves says it all.
    """
    parts = own_parts(thing)
    return identity(parts, unseen) if parts else None


class _Reader:
    """Feeds things to a hash; functions and objects once each."""

    def __init__(self, unseen):
        self.unseen = unseen
        self.digests = {}
        self.inside = []
        self.alive = []  # so that no other thing gets an id again

    def feed(self, thing, update):
        # The type goes first: 1 and "1" are different things.
        update(f"<{type(thing).__qualname__}>".encode())
        if any(thing is outer for outer in self.inside):
            return  # a function that calls itself
        self.inside.append(thing)
        try:
            self._feed(thing, update)
        finally:
            self.inside.pop()

    def _feed(self, thing, update):
        def feed(*parts):
            for part in parts:
                self.feed(part, update)

        named = getattr(thing, "__dict__", {}).get("identity")
        if isinstance(named, str):
            shown = _public(thing).items()
            feed({k: v for k, v in shown if isinstance(v, (*_PLAIN, tuple))})
        elif isinstance(thing, keras.Layer):
            update(_architecture(thing).encode())
            feed(*(weight.numpy() for weight in thing.weights))
            feed(*own_parts(thing))
        elif hasattr(thing, "__array__") and not isinstance(thing, type):
            array = np.ascontiguousarray(thing)
            update(f"{array.shape}{array.dtype}".encode())
            if array.dtype.hasobject:
                feed(array.tolist())
            else:
                update(array.tobytes())
        elif isinstance(thing, types.CodeType):
            feed(thing.co_code, thing.co_names, thing.co_consts)
        elif isinstance(thing, types.MethodType):
            feed(thing.__func__, thing.__self__)
        elif isinstance(thing, functools.partial):
            feed(thing.func, thing.args, thing.keywords)
        elif isinstance(thing, (dict, types.MappingProxyType)):
            for key in sorted(thing, key=str):
                feed(key, thing[key])
        elif isinstance(thing, (list, tuple)):
            feed(*thing)
        elif isinstance(thing, (set, frozenset)):
            feed(*sorted(thing, key=repr))
        elif isinstance(thing, os.PathLike):
            path = pathlib.Path(thing)
            is_of_code = any(map(inspect.isfunction, self.inside))
            if is_of_code and path.is_dir():
                # What lies in a folder that a function uses, it may write.
                update(os.fspath(path).encode())
            else:
                _feed_files(path, update)
        elif isinstance(thing, (bytes, bytearray)):
            update(thing)
        elif isinstance(thing, _PLAIN):
            update(repr(thing).encode())
        elif _is_known(thing):
            # These keep nothing of their own in private attributes.
            update(type(thing).__module__.encode())
            feed(_public(thing))
            feed(*[type(thing)] * is_own(thing))
        else:
            update(self._digest(thing))

    def _digest(self, thing):
        if id(thing) not in self.digests:
            self.alive.append(thing)
            digest = hashlib.sha256()
            self._look_into(thing, digest.update)
            self.digests[id(thing)] = digest.digest()
        return self.digests[id(thing)]

    def _look_into(self, thing, update):
        def feed(*parts):
            for part in parts:
                self.feed(part, update)

        of = package_of(module_of(thing))
        if isinstance(thing, (types.FunctionType, type)) and not is_own(thing):
            update(f"{thing.__qualname__} of {of}".encode())
            feed(getattr(thing, "__wrapped__", None))
        elif isinstance(thing, types.FunctionType):
            feed(thing.__code__, thing.__defaults__, thing.__kwdefaults__)
            feed(_closure(thing), globals_used(thing))
        elif isinstance(thing, type):
            feed(thing.__qualname__, thing.__bases__, _members(thing))
        elif isinstance(thing, types.ModuleType):
            update(f"{thing.__name__} of {of}".encode())
        elif hasattr(thing, "python_function"):  # of tf.function
            feed(thing.python_function)
        elif hasattr(thing, "__wrapped__"):
            feed(thing.__wrapped__)
        else:
            self._look_into_state(thing, update, feed)

    def _look_into_state(self, thing, update, feed):
        try:
            state = thing.__reduce_ex__(4)
        except Exception:  # of any kind: it cannot be pickled
            name = f"{module_of(thing)}.{type(thing).__qualname__}"
            update(name.encode())
            if self.unseen is not None:
                self.unseen.append(name)
                update(os.urandom(16))
            return
        if isinstance(state, str):  # the name of something global
            update(f"{state} of {package_of(module_of(thing))}".encode())
            return
        make, arguments, *rest = state
        feed(getattr(make, "__qualname__", ""), arguments)
        for part in rest:
            plain = part is None or hasattr(part, "__len__")
            feed(part if plain or callable(part) else list(part))


def _is_known(thing):
    """Whether its class is one of Keras or keras_kd, or made from one."""
    roots = {module_of(one).partition(".")[0] for one in type(thing).__mro__}
    is_object = not isinstance(thing, (type, types.FunctionType))
    return is_object and bool(roots & {"keras", "keras_kd"})


def _closure(function):
    found = {}
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            found[name] = None
    return found


def _members(kind):
    """Returns what an own class defines: functions, and values it shows."""
    found = {}
    for name, value in vars(kind).items():
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        elif isinstance(value, property):
            value = [value.fget, value.fset, value.fdel]
        elif isinstance(value, functools.cached_property):
            value = value.func
        elif name.startswith("__") and not callable(value):
            continue
        elif isinstance(
            value, (types.MemberDescriptorType, types.GetSetDescriptorType)
        ) or name.startswith("_abc_"):
            continue
        found[name] = value
    return found


def _public(thing):
    values = getattr(thing, "__dict__", {})
    return {k: v for k, v in values.items() if not k.startswith("_")}


def _feed_files(path, update):
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for file in files or [path] * path.is_file():
        update(f"{file.relative_to(path)}{file_sha256(file)}".encode())


def _architecture(model):
    """Returns a model's config as JSON, its layers numbered in order."""
    try:
        config = model.get_config()
    except NotImplementedError:
        return architecture_without_config(model)
    form = canonical_form(model, config, chosen_too=True, ignore=["trainable"])
    return json.dumps(form, sort_keys=True, default=str)


def architecture_without_config(model: keras.Layer) -> str:
    """Returns the classes of a model's layers, and the values they show."""
    ignored = ("name", "built", "trainable", "autocast")
    return json.dumps(
        [
            [
                type(layer).__qualname__,
                {
                    key: repr(value)
                    for key, value in _public(layer).items()
                    if isinstance(value, _PLAIN) and key not in ignored
                },
            ]
            for layer in model._flatten_layers()
        ],
        sort_keys=True,
    )
