# SPDX-License-Identifier: Apache-2.0
"""Identities: the same teacher, whenever it was built; no other."""

from __future__ import annotations

import functools
import importlib
import sys
import threading

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.core import own_code
from keras_kd.core.identity import identity
from keras_kd.core.identity import identity_of_code
from keras_kd.core.stage_cache import fingerprint_of_model


def build(activation="relu", width=3, seed=0):
    initializer = keras.initializers.GlorotUniform(seed)
    x = keras.Input((4,))
    h = keras.layers.Dense(width, activation, kernel_initializer=initializer)(x)
    return keras.Model(x, keras.layers.Dense(2, kernel_initializer="ones")(h))


def scaled(factor):
    return lambda x: x * factor


def test_same_model_built_again_is_the_same():
    """Though its layers are called dense_2 and dense_3 now."""
    one, two = build(), build()
    assert one.layers[1].name != two.layers[1].name
    two.compile("adam", "mse")
    two.trainable = False
    assert identity(one) == identity(two)


@pytest.mark.parametrize(
    "other", [{"activation": "gelu"}, {"width": 4}, {"seed": 1}]
)
def test_other_model_is_another(other):
    assert identity(build()) != identity(build(**other))


def test_one_weight_makes_another_model():
    one, two = build(), build()
    weights = two.get_weights()
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
    two.set_weights(weights)
    assert identity(one) != identity(two)


def test_reloaded_model_is_the_same(tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert identity(model) == identity(again)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (scaled(2.0), scaled(2.0), True),
        (scaled(2.0), scaled(3.0), False),
        (scaled(np.ones(2)), scaled(np.zeros(2)), False),
        (lambda x: x + 1, lambda x: x + 1, True),
        (lambda x: x + 1, lambda x: x - 1, False),
        (lambda x: x.sin(), lambda x: x.cos(), False),
        (lambda x, by=1: x + by, lambda x, by=2: x + by, False),
        (functools.partial(max, 1), functools.partial(max, 2), False),
        (1, "1", False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_function_is_its_code_and_what_it_closes_over(one, two, same):
    assert (identity(one) == identity(two)) is same


def test_function_that_calls_itself_has_an_identity():
    def again(x):
        return again(x - 1) if x else 0

    assert len(identity(again)) == 64


def test_teacher_is_its_members_and_what_it_does_to_inputs():
    frozen = kd.teachers.FrozenTeacher
    model = build()
    found = {
        identity(teacher)
        for teacher in (
            frozen(model),
            frozen(model, preprocess=scaled(2.0)),
            frozen(model, preprocess=scaled(3.0)),
            frozen(model, activation="sigmoid"),
            kd.teachers.EnsembleTeacher([model, build(seed=1)]),
            kd.teachers.EnsembleTeacher([build(seed=1), model]),
        )
    }
    assert len(found) == 6
    assert identity(frozen(model)) == identity(frozen(build()))


def test_saved_model_teacher_is_its_files(tmp_path):
    model = build()
    model.export(tmp_path / "1", verbose=False)

    def now():
        return identity(
            kd.teachers.SavedModelTeacher(tmp_path / "1", activation="linear")
        )

    before = now()
    assert now() == before
    (tmp_path / "1" / "more.txt").write_text("changed")
    assert now() != before


def test_function_is_what_it_calls_in_own_modules(tmp_path, monkeypatch):
    """A helper's helper, by a module's name or imported within."""
    monkeypatch.syspath_prepend(tmp_path)

    def found(deep, value=1.0):
        (tmp_path / "deep_helper.py").write_text(
            f"SCALE = {value}\nclass Deep:\n"
            f"    def scale(self, x): return {deep} * SCALE\n"
        )
        (tmp_path / "own_helper.py").write_text(
            "import deep_helper\n"
            "def help(x): return deep_helper.Deep().scale(x)\n"
            "def unused(x): return x\n"
        )
        text = (
            "import own_helper\n"
            "def by_module(x): return own_helper.help(x)\n"
            "def within(x):\n"
            "    from own_helper import help\n"
            "    return help(x)\n"
        )
        for name in ("own_helper", "deep_helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        own = {"__name__": "own_module"}
        exec(text, own)
        return [identity(own[name]) for name in ("by_module", "within")]

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = found("x + 1")
    assert found("x + 1") == before
    for other in (found("x - 1"), found("x + 1", value=2.0)):
        assert not set(other) & set(before)


def test_function_of_a_package_is_its_name_and_version(monkeypatch):
    def answer(x):
        return np.tanh(x)

    before = identity(answer)
    assert identity(answer) == before
    monkeypatch.setattr(own_code, "package_of", lambda name: "numpy==0")
    assert identity(answer) != before


class Weighted:
    """A callable of one's own, which keeps its state where nobody looks."""

    def __init__(self, by):
        self._by = by

    def __call__(self, x):
        return x * self._by


def test_object_is_its_class_and_all_its_state():
    one, same, other = Weighted(1.0), Weighted(1.0), Weighted(2.0)
    assert identity(one) == identity(same) != identity(other)


def test_fitted_estimator_is_what_it_has_learned():
    from sklearn import neighbors

    x = np.arange(8.0)[:, None]
    found = [
        identity(lambda z, one=one: one.predict_proba(z))
        for one in (
            neighbors.KNeighborsClassifier(1).fit(x, x[:, 0] > limit)
            for limit in (3, 3, 5)
        )
    ]
    assert found[0] == found[1] != found[2]


def test_what_cannot_be_seen_into_is_said_and_another_each_time():
    lock = threading.Lock()
    unseen: list[str] = []
    first = identity(lambda: lock, unseen)
    assert unseen == ["_thread.lock"]
    assert identity(lambda: lock, unseen) != first

    def named():
        return lock

    named.identity = "a 1"
    assert identity(named, unseen) == identity(named, unseen)
    assert len(unseen) == 2


@keras.saving.register_keras_serializable("test_identity")
class Scaled(keras.layers.Layer):
    """A layer of one's own; its `call` is replaced by the test."""

    def call(self, x):
        return x * 2.0


def test_model_is_the_code_of_its_own_layers(monkeypatch):
    def now():
        model = keras.Sequential([keras.Input((2,)), Scaled()])
        return [identity(model), fingerprint_of_model(model)]

    before = now()
    assert now() == before
    monkeypatch.setattr(Scaled, "call", lambda self, x: x * 3.0)
    assert not set(now()) & set(before)


def test_own_code_is_found_in_objects_of_keras():
    def own(y_true, y_pred):
        return y_pred - y_true

    def other(y_true, y_pred):
        return y_true - y_pred

    wrapper = keras.metrics.MeanMetricWrapper
    one, same, another = (
        identity_of_code({"a": wrapper(part)}) for part in (own, own, other)
    )
    assert one == same != another
    assert identity_of_code(own) != identity_of_code(other)
    for plain in (
        None,
        "mse",
        keras.losses.get("mse"),
        keras.losses.Huber(),
        [1e-3],
    ):
        assert identity_of_code(plain) is None


def test_folder_that_a_function_uses_is_known_by_its_path(tmp_path):
    def ask(x):
        return (tmp_path / "asked.txt").write_text(str(x))

    before = identity(ask)
    ask(1)  # it writes there itself
    assert identity(ask) == before
    assert identity(tmp_path) != identity(tmp_path / "asked.txt")
