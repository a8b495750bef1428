# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of every module run."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import shutil
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd

ROOT = pathlib.Path(kd.__file__).parent
FENCE = "```python\n"
BLOCK = re.compile(FENCE + r"(.*?)```", flags=re.DOTALL)
DOCUMENTED = (
    ast.Module,
    ast.ClassDef,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
)


def examples():
    """Yields `(module, name, code)` of each block in a docstring."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, DOCUMENTED):
                name = getattr(node, "name", "")
                docstring = ast.get_docstring(node) or ""
                for block in BLOCK.findall(docstring):
                    yield module, name, textwrap.dedent(block)


EXAMPLES = list(examples())
# Whole runs and measurements, which other tests make in small.
LONG = (
    *("kd.compress(", "kd.measure(", "kd.search(", "run_recipe("),
    *("kd.testing.check_distiller(", "tuner.search(", "kd.fastest_step("),
)


def test_every_example_is_run():
    fences = sum(
        path.read_text("utf-8").count(FENCE) for path in ROOT.rglob("*.py")
    )
    assert len(EXAMPLES) == fences, "A block stands outside of a docstring."


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


@pytest.fixture(scope="module")
def shared():
    """What examples may speak of without making it, and do not change."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 8, 8, 1)).astype("float32")
    y = (np.arange(48) % 3).astype("int32")
    teacher = build(4)
    return {
        **{"keras": keras, "kd": kd, "np": np, "tf": tf},
        **{"teacher": teacher, "big_model": teacher},
        "build_student": build_student,
        "cross_entropy": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ),
        **{"x": x, "y": y, "labels": y, "x_val": x, "y_val": y, "images": x},
        "teacher_logits": teacher(x).numpy(),
        "student_logits": build_student()(x).numpy(),
        "data": kd.Data(train=(x, y), validation=(x, y)),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A student, and a folder with what `kd.export` and `kd.compress` leave."""
    folder, student = tmp_path_factory.mktemp("exported"), build_student()
    names = ["cat", "dog", "bird"]
    kd.export(student, folder / "saved_models", "student", labels=names)
    tflite = folder / "saved_models" / "student" / "student.tflite"
    shutil.copy(tflite, folder)
    record = kd.StageRecord("prune", "pruned", metrics={"sparsity": 0.8})
    kd.Report(folder / "run", [record]).save()
    return student, folder


def example(module, name, code):
    slow = [pytest.mark.slow] if any(call in code for call in LONG) else []
    return pytest.param(module, code, marks=slow, id=f"{module}-{name}")


@pytest.mark.docs
@pytest.mark.parametrize(
    ("module", "code"), [example(*each) for each in EXAMPLES]
)
def test_docstring_example_runs(
    module, code, shared, tmp_path, monkeypatch, request
):
    monkeypatch.chdir(tmp_path)
    # What an example stands beside needs no import in it.
    names = {**vars(importlib.import_module(module)), **shared}
    if re.search(r"\b(student|model|distiller)\b", code):
        names["student"] = names["model"] = student = build_student()
        student.compile("adam", names["cross_entropy"])
        names["distiller"] = kd.Distiller(names["teacher"], build_student())
        names["distiller"].compile("adam", names["cross_entropy"])
    if re.search(r'"(saved_models/student|student\.tflite|run"\))', code):
        names["student"], folder = request.getfixturevalue("exported")
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    exec(compile(code, module, "exec"), names)


def public_things():
    """Yields `(name, docstring)` of what a user can look up."""
    rooms = (kd.losses, kd.tasks, kd.teachers, kd.callbacks, kd.testing)
    for module in (kd, *rooms):
        names = getattr(module, "__all__", None) or vars(module)
        for name in names:
            thing = getattr(module, name)
            home = getattr(thing, "__module__", None) or ""
            is_ours = callable(thing) and home.startswith("keras_kd")
            if name == "export":
                thing = thing.export  # the package that can be called
            if is_ours and not name.startswith("_"):
                yield f"{module.__name__}.{name}", inspect.getdoc(thing)


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
