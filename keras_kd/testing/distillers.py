# SPDX-License-Identifier: Apache-2.0
"""check_distiller: how teacher, student and losses work in training."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from collections.abc import Iterable

import keras
import numpy as np

from keras_kd.core.type_aliases import Arrays
from keras_kd.testing.contract import require
from keras_kd.testing.contract import require_close
from keras_kd.testing.distiller_run import check_history
from keras_kd.testing.distiller_run import check_run

WAYS = {
    "eager": {"run_eagerly": True, "jit_compile": False},
    "graph": {"jit_compile": False},
    "steps_per_execution": {"steps_per_execution": 2, "jit_compile": False},
    "xla": {"jit_compile": True},
}
"""Ways to run a training step, as arguments of `compile`."""


def check_distiller(
    make_distiller: Callable,
    x: Arrays,
    y: Arrays | None = None,
    *,
    batch_size: int = 4,
    ways: Iterable[str] = (*WAYS, "mixed_float16"),
    frozen_teacher: bool = True,
) -> None:
    """Checks what users rely on while a distiller trains, and after.

    Each batch runs the student once and the teacher once; evaluation and
    prediction never run the teacher; the teacher is bit for bit what it was;
    weights are the student's and the projectors'; a saved distiller goes on
    training; and every way of running a step gives the same student.

    Args:
        make_distiller: Function without arguments that returns a new,
            compiled `Distiller`. Keep the models tiny: each way of running
            compiles a step, which takes about a second.
        x: Inputs: an array, or a dict or tuple of arrays. Their number must
            be a multiple of twice `batch_size`.
        y: Labels, or `None` for a distiller with `alpha=1`.
        batch_size: Rows in a step.
        ways: Which ways of running to try: `"eager"`, `"graph"`,
            `"steps_per_execution"`, `"xla"` (left out where the teacher or a
            layer does not support it) and `"mixed_float16"`.
        frozen_teacher: Whether the teacher stays as it is; `False` for one
            that follows the student, such as an average of its weights.

    Raises:
        ContractError: If a promise is broken.
        ValueError: If the arguments do not fit together.

    Example:

    ```python
    def make_distiller():
        distiller = kd.Distiller(teacher, build_student(), 4.0, alpha=1.0)
        return distiller.compile("sgd")

    kd.testing.check_distiller(make_distiller, images[:16])
    ```
    """
    rows = len(keras.tree.flatten(x)[0])
    if rows == 0 or rows % (2 * batch_size):
        raise ValueError(
            "The number of rows must be a multiple of twice the batch size. "
            f"Received: {rows} rows, batch_size={batch_size}"
        )
    unknown = sorted(set(ways) - {*WAYS, "mixed_float16"})
    if unknown:
        raise ValueError(
            f"`ways` must be of {[*WAYS, 'mixed_float16']}. Received: {unknown}"
        )
    data = {"x": x, "y": y, "batch_size": batch_size, "verbose": 0}
    distiller = make_distiller()
    _check_made(distiller)
    start = distiller.get_weights()
    check_run(distiller, data, rows // batch_size, frozen_teacher)
    _check_saving(distiller, data)
    _check_ways(make_distiller, data, start, [w for w in WAYS if w in ways])
    if "mixed_float16" in ways:
        _check_mixed(make_distiller, data)


def _check_made(distiller):
    require(
        distiller.built or not distiller.student.built,
        distiller,
        "it is built once it is made",
        "built=True",
        "built=False",
        "give the teacher a shape() for the taps in use",
    )
    _check_weights(distiller)


def _check_weights(distiller):
    parts = [distiller.student, *distiller.projectors.values()]
    expected = sorted(w.path for part in parts for w in part.weights)
    received = sorted(w.path for w in distiller.weights)
    promise = "its weights are the student's and the projectors'"
    require(expected == received, distiller, promise, expected, received)


def _check_saving(distiller, data):
    """A loaded copy has the same weights and the same next epoch."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "distiller.keras"
        distiller.save(path)
        copy = keras.models.load_model(path)
    _check_weights(copy)
    _check_equal(distiller, copy, "a loaded distiller has the same weights", 0)
    copy.teacher = distiller.teacher
    for each in (distiller, copy):
        check_history(distiller, each.fit(**data, shuffle=False).history)
    if not _is_random(distiller):
        promise = "a loaded distiller goes on as it would have"
        _check_equal(distiller, copy, promise)


def _is_random(distiller) -> bool:
    """Whether it has states of random generators, as dropout has.

    Keras does not save them, and XLA draws other numbers from them.
    """
    return len(distiller.student.variables) > len(distiller.student.weights)


def _check_equal(distiller, other, promise, tolerance=1e-3):
    pairs = zip(distiller.weights, other.get_weights(), strict=True)
    for expected, received in pairs:
        about = f"{promise}: {expected.path}"
        require_close(distiller, about, expected, received, "", tolerance)


def _check_ways(make_distiller, data, start, ways):
    first = None
    for way in ways:
        distiller = make_distiller()
        if way == "xla" and not distiller.supports_jit:
            continue
        distiller.set_weights(start)
        _recompile(distiller, **WAYS[way])
        history = distiller.fit(**data, shuffle=False).history
        check_history(distiller, history)
        if first is not None and not _is_random(distiller):
            promise = f"training by '{way}' gives the student of '{ways[0]}'"
            _check_equal(first, distiller, promise)
        first = first or distiller


def _recompile(distiller, **changes):
    config = {**distiller.get_compile_config(), **changes}
    distiller.compile(**keras.saving.deserialize_keras_object(config))


def _check_mixed(make_distiller, data):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        distiller = make_distiller()
        history = distiller.fit(**data, shuffle=False).history
    finally:
        keras.config.set_dtype_policy(policy)
    check_history(distiller, history)
    for variable in distiller.weights:
        require(
            np.all(np.isfinite(variable.numpy())),
            distiller,
            "it trains under mixed_float16",
            "finite weights",
            f"NaN or Inf in {variable.path}",
        )
