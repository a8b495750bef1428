# SPDX-License-Identifier: Apache-2.0
"""SharedSteps: students of one architecture train in one compiled step.

Tracing a training step takes seconds, and a search trains one architecture
again and again with another temperature, alpha and learning rate. All of
these are variables, and so are the weights: a new student hands them over to
one that was compiled before, which is trained and hands them back.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.canonical_form import canonical_form
from keras_kd.core.scalars import Scalar
from keras_kd.core.stage_cache import fingerprint
from keras_kd.distillers.distiller import Distiller
from keras_kd.distillers.step_variables import build_optimizer
from keras_kd.distillers.step_variables import symbolic_batch
from keras_kd.teachers import EnsembleTeacher
from keras_kd.teachers import Teacher


class SharedSteps:
    """The compiled distillers of a search, one for each architecture.

    At most `limit` are kept; the one that was not used for longest goes.
    """

    def __init__(self, limit: int = 4):
        self.limit = limit
        self._distillers: dict = collections.OrderedDict()

    def fit(
        self, own: Distiller, make: Callable[[], Distiller], **arguments
    ) -> keras.callbacks.History:
        """Trains `own`, in the compiled step of an equal one if possible.

        It ends as `own.fit(**arguments)` leaves it, bit for bit. Callbacks
        see the distiller that is trained, which `make` returned: one like
        `own`, with weights of its own.
        """
        shared = self._like(own, make, arguments.get("x"))
        if shared is None:
            return own.fit(**arguments)
        hand_over(own, shared)
        history = shared.fit(**arguments)
        hand_over(shared, own)
        history.set_model(own)
        own.history = history
        return history

    def _like(self, own, make, x):
        key = key_of(own)
        if key is None:
            return None
        shared = self._distillers.pop(key, None)
        # A callback may have changed what is compiled, such as which layers
        # are trained. And a maker may be given to surprises.
        if shared is None or key_of(shared) != key:
            with _undisturbed_generators(), own.distribute_strategy.scope():
                shared = make()
            build_for(shared, x)
        if key_of(shared) != key:
            return None
        self._distillers[key] = shared
        if len(self._distillers) > self.limit:
            self._distillers.popitem(last=False)
        return shared


def hand_over(source: Distiller, target: Distiller) -> None:
    """Gives all state of one distiller to an equal one.

    Weights, states of random generators, the optimizer with its learning
    rate, alpha, and the numbers of the losses.
    """
    for distiller in (source, target):
        build_optimizer(distiller)
    variables = [
        [*one.variables, *one.optimizer.variables] for one in (source, target)
    ]
    for theirs, own in zip(*variables, strict=True):
        own.assign(theirs)
    holders = [
        [one, _schedule(one), *one.distillation_losses]
        for one in (source, target)
    ]
    for theirs, own in zip(*holders, strict=True):
        for name in _scalar_names(theirs):
            setattr(own, name, getattr(theirs, name))


def build_for(distiller: Distiller, x: Any) -> None:
    """Builds a distiller whose shapes come with the `x` of its `fit`.

    With arrays or a `tf.data.Dataset`; left alone if `x` is anything else.
    """
    if distiller.built:
        return
    if isinstance(x, tf.data.Dataset):
        x = x.element_spec
        x = x[0] if isinstance(x, tuple) else x
    specs = symbolic_batch(x)
    if specs is None:
        return
    with distiller.distribute_strategy.scope():
        distiller(specs)
    build_optimizer(distiller)


def key_of(distiller: Distiller) -> str | None:
    """Returns a sha256 of what is compiled into a distiller's step.

    Numbers that the step reads from variables do not count, nor do the names
    of layers. `None` if it cannot be known, or the teacher follows its
    student.
    """
    if not distiller.built or not _is_fixed(distiller.teacher):
        return None
    try:
        student = distiller.student
        compiled = dict(distiller.get_compile_config())
        compiled["optimizer"] = _without_rate(compiled["optimizer"])
        losses = [
            _fixed_part(loss, student) for loss in distiller.distillation_losses
        ]
        text = json.dumps(
            [
                canonical_form(student, chosen_too=True),
                losses,
                compiled,
                [[tuple(v.shape), v.dtype] for v in distiller.variables],
                id(distiller.teacher),
                id(distiller.distribute_strategy),
            ],
            sort_keys=True,
        )
    except (NotImplementedError, TypeError, ValueError):
        return None
    return fingerprint(text)


@contextlib.contextmanager
def _undisturbed_generators():
    """Puts back the seeds that Keras draws from, as if nothing was made."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _is_fixed(teacher):
    if isinstance(teacher, EnsembleTeacher):
        return all(map(_is_fixed, teacher.teachers))
    return not isinstance(teacher, Teacher) or teacher.can_be_stored


def _scalar_names(thing):
    return [
        name
        for kind in type(thing).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, Scalar)
    ]


def _fixed_part(loss, student):
    variable = _scalar_names(loss)
    config = loss.get_config()
    return [
        f"{type(loss).__module__}.{type(loss).__qualname__}",
        {k: v for k, v in config.items() if k not in variable},
        canonical_form(student, loss.taps[1], chosen_too=True),
    ]


def _schedule(distiller):
    optimizer = distiller.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    # Keras shows a schedule's present value, but not the schedule.
    return optimizer._learning_rate


def _without_rate(config):
    if isinstance(config, dict):
        return {
            key: _without_rate(value)
            for key, value in config.items()
            if key not in ("peak", "name")
            and not (key == "learning_rate" and isinstance(value, float))
        }
    if isinstance(config, (list, tuple)):
        return list(map(_without_rate, config))
    return config
