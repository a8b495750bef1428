# SPDX-License-Identifier: Apache-2.0
"""What an output is: read, said, or not known; and as logits of one kind."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import reference
from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind

SCE = keras.losses.SparseCategoricalCrossentropy
BCE = keras.losses.BinaryCrossentropy
CLASSES, UNITS = ("classes",), ("units",)


@pytest.mark.parametrize(
    "activation, said, loss, expected",
    [
        ("softmax", None, None, ("probabilities", "classes")),
        ("softmax", None, BCE(), ("probabilities", "classes")),
        ("sigmoid", None, BCE(), ("probabilities", "units")),
        ("sigmoid", "values", "mse", ("values", None)),
        ("linear", None, None, ("linear", None)),
        ("linear", None, SCE(from_logits=True), ("logits", "classes")),
        ("linear", None, BCE(from_logits=True), ("logits", "units")),
        ("linear", None, keras.losses.Huber(), ("values", None)),
        ("linear", "logits", "mse", ("logits", None)),
        (None, None, None, (None, None)),
        (None, None, lambda y, p: p, (None, None)),
        (None, None, SCE(), ("probabilities", "classes")),
        (None, None, "binary_crossentropy", ("probabilities", "units")),
        (None, "probabilities", None, ("probabilities", None)),
    ],
)
def test_kind_of_an_output_that_is_trained(activation, said, loss, expected):
    assert output_kinds.trained_kind(activation, said, loss) == expected


@pytest.mark.parametrize(
    "loss, tap, names, expected",
    [
        ("mse", "output", None, "mse"),
        (["mse"], "output", None, "mse"),
        ("mse", "size", ["kind", "size"], "mse"),
        ("mse", "hidden", ["kind", "size"], None),
        (["a", "b"], "size", ["kind", "size"], "b"),
        ({"kind": "a"}, "kind", ["kind", "size"], "a"),
        ({"kind": "a"}, "size", ["kind", "size"], None),
        ({"kind": "a"}, "output", ["kind"], "a"),
    ],
)
def test_label_loss_of_a_tap(loss, tap, names, expected):
    assert output_kinds.loss_of_tap(loss, tap, names) == expected


@pytest.mark.parametrize("scale", [1.0, 10.0, 200.0])
@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_softmax_becomes_the_bernoulli_logit_of_each_class(scale, form):
    """log p - log(1 - p) in float64, where 1 - p rounds to 0 in float32."""
    z = scale * np.random.default_rng(0).normal(size=(6, 4))
    given = ops.convert_to_tensor(
        (z if form == "logits" else reference.softmax(z)).astype("float32")
    )
    kind = OutputKind(form, "classes")
    received = np.asarray(output_kinds.scores(given, kind, "units"))
    expected = np.stack(
        [
            z[:, i] - np.logaddexp.reduce(np.delete(z, i, axis=-1), axis=-1)
            for i in range(4)
        ],
        axis=-1,
    )
    if form == "probabilities":  # below the smallest float32 nothing is left
        assert np.abs(received).max() < 90.0
        received, expected = (
            np.clip(logits, -70.0, 70.0) for logits in (received, expected)
        )
    np.testing.assert_allclose(received, expected, rtol=2e-3, atol=2e-4)


def test_probabilities_of_unknown_heads_become_logits_of_what_is_learned():
    p = np.array([[0.9, 0.2, 0.5]], "float32")
    for over, expected in (
        ("units", np.log(p) - np.log1p(-p)),
        ("classes", np.log(p)),
        (None, np.log(p)),
    ):
        received = output_kinds.scores(p, OutputKind("probabilities"), over)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_what_is_stored_of_a_head_gives_it_back(activation):
    z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    given = keras.activations.get(activation)(ops.convert_to_tensor(z))
    kind = output_kinds.kind_of(activation)
    stored = output_kinds.as_target(given, kind)
    key = output_kinds.target_key(kind)
    np.testing.assert_allclose(stored, z, rtol=1e-5, atol=1e-6)
    restored = output_kinds.as_given(stored, key)
    np.testing.assert_allclose(restored, given, rtol=1e-5)


def test_outputs_refuses_other_words():
    output_kinds.check_outputs({"kind": "logits", "size": "values"})
    for wrong in ("softmax", {"kind": "logit"}):
        with pytest.raises(ValueError, match="`outputs` must be None, one of"):
            output_kinds.check_outputs(wrong)
