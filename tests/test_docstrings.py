# SPDX-License-Identifier: Apache-2.0
"""The examples in public docstrings run."""

from __future__ import annotations

import inspect
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd


def public_things():
    """Yields `(name, docstring)` of what a user can look up."""
    for module in (kd, kd.losses, kd.teachers, kd.callbacks, kd.testing):
        names = getattr(module, "__all__", None) or vars(module)
        for name in names:
            thing = getattr(module, name)
            home = getattr(thing, "__module__", None) or ""
            is_ours = callable(thing) and home.startswith("keras_kd")
            if name == "export":
                thing = thing.export  # the package that can be called
            if is_ours and not name.startswith("_"):
                yield f"{module.__name__}.{name}", inspect.getdoc(thing)


EXAMPLES = {
    f"{name}-{number}": block
    for name, docstring in public_things()
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", docstring or "", flags=re.DOTALL)
    )
}


def build(width):
    x = keras.Input((8, 8, 1), name="image")
    h = x
    for number in range(1, 5):
        h = keras.layers.Conv2D(
            width, 3, padding="same", name=f"conv_{number}"
        )(h)
    h = keras.layers.GlobalAveragePooling2D(name="pooled")(h)
    return keras.Model(x, keras.layers.Dense(3, name="scores")(h))


def build_student():
    return build(2)


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What examples may speak of without making it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 8, 8, 1)).astype("float32")
    y = (np.arange(48) % 3).astype("int32")
    teacher, student = build(4), build_student()
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile("adam", cross_entropy)
    distiller = kd.Distiller(teacher, build_student())
    distiller.compile("adam", cross_entropy)
    return {
        **{"keras": keras, "kd": kd, "np": np, "tf": tf},
        **{"Report": kd.Report, "StageRecord": kd.StageRecord},
        **{"teacher": teacher, "big_model": teacher, "student": student},
        **{"model": student, "build_student": build_student},
        **{"distiller": distiller, "cross_entropy": cross_entropy},
        **{"x": x, "y": y, "labels": y, "x_val": x, "y_val": y, "images": x},
        **{"teacher_logits": teacher(x), "student_logits": student(x)},
        **{"data": kd.Data(train=(x, y), validation=(x, y))},
    }


# Whole runs and measurements, which other tests make in small.
LONG = ("kd.compress(", "kd.measure(", "kd.testing.check_distiller(")


def example(name):
    is_long = any(call in EXAMPLES[name] for call in LONG)
    return pytest.param(name, marks=[pytest.mark.slow] if is_long else [])


@pytest.mark.parametrize("name", map(example, sorted(EXAMPLES)))
def test_docstring_example_runs(name, names):
    exec(compile(textwrap.dedent(EXAMPLES[name]), name, "exec"), names)


def test_public_things_have_examples():
    without = {
        name
        for name, docstring in public_things()
        if "```python" not in (docstring or "")
    }
    # One-liners, shown in the example of what they belong to.
    assert without <= {
        "keras_kd.callbacks.cosine",
        "keras_kd.callbacks.linear",
        "keras_kd.teachers.get",
        "keras_kd.losses.serialize",
        "keras_kd.losses.deserialize",
        "keras_kd.testing.ContractError",
    }
