# SPDX-License-Identifier: Apache-2.0
"""Labels and top-k: the right words, in order, also for one unit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import read_labels
from keras_kd.export.signatures.classes import add_classes
from keras_kd.export.signatures.classes import attach_labels
from keras_kd.export.signatures.classes import blank_ties
from keras_kd.export.signatures.classes import check_classes


def answers(logits, sigmoid=False):
    logits = tf.constant(logits, "float32")
    squash = tf.sigmoid if sigmoid else tf.nn.softmax
    return {"logits": logits, "probabilities": squash(logits)}


def test_add_classes_orders_by_score():
    logits = np.random.default_rng(0).normal(size=(20, 4))
    labels = ["ant", "bee", "cat", "d\u00f6g"]
    found = add_classes(answers(logits), labels, 3)
    order = np.argsort(-logits, axis=1)[:, :3]
    words = np.vectorize(bytes.decode)(found["classes"].numpy())
    np.testing.assert_array_equal(words, np.array(labels)[order])
    e = np.exp(logits)
    p = np.take_along_axis(e / e.sum(1, keepdims=True), order, 1)
    np.testing.assert_allclose(found["scores"], p, rtol=1e-5)
    assert set(found) == {"logits", "probabilities", "classes", "scores"}


def test_add_classes_of_saturated_probabilities_goes_by_logits():
    found = add_classes(answers([[900.0, -800.0, -700.0]]), None, 3)
    assert found["classes"].numpy().tolist() == [[b"0", b"2", b"1"]]


def test_add_classes_of_one_unit_has_the_event_second():
    given = answers([[2.0], [-1.0]], sigmoid=True)
    found = add_classes(given, ["no", "yes"], 2)
    assert found["classes"].numpy().tolist() == [[b"yes", b"no"]] + [
        [b"no", b"yes"]
    ]
    p = 1 / (1 + np.exp([-2.0, 1.0]))
    np.testing.assert_allclose(
        found["scores"], [[p[0], 1 - p[0]], [1 - p[1], p[1]]], rtol=1e-5
    )


@pytest.mark.parametrize(
    "given, labels, top_k, text",
    [
        ({"output": tf.zeros((2, 3))}, None, 1, "need a classifier"),
        (answers(np.zeros((2, 4, 3))), None, 1, "need a classifier"),
        (answers(np.zeros((2, 3))), ["a", "b"], 1, "has 3 classes"),
        (answers(np.zeros((2, 3))), None, 4, "has 3 classes"),
        (answers(np.zeros((2, 1))), ["a"], 1, "has 2 classes"),
    ],
)
def test_add_classes_refuses(given, labels, top_k, text):
    with pytest.raises(ValueError, match=text):
        add_classes(given, labels, top_k)


@pytest.mark.parametrize(
    "labels, top_k, text",
    [
        (["a", "a"], None, "`labels` must be"),
        (["a", ""], None, "`labels` must be"),
        (["a", "b\nc"], None, "`labels` must be"),
        ([], None, "`labels` must be"),
        ([1, 2], None, "`labels` must be"),
        (["a", "b"], 3, "`top_k` must be"),
        (None, 0, "`top_k` must be"),
        (None, True, "`top_k` must be"),
    ],
)
def test_check_classes_refuses(labels, top_k, text):
    with pytest.raises(ValueError, match=text):
        check_classes(labels, top_k)


def test_check_classes_defaults():
    assert check_classes(["a", "b"], None) == (("a", "b"), 1)
    assert check_classes(None, 2) == (None, 2)
    assert check_classes(None, None) == (None, None)


def test_blank_ties_blanks_only_what_is_tied():
    logits = [[3.0, 3.00001, 1.0, 0.5], [3.0, 2.0, 1.0, 0.5], [1, 9, 0.5, 9]]
    found = {k: v.numpy() for k, v in answers(logits).items()}
    full = add_classes(answers(logits), None, 3)
    found |= {key: full[key].numpy() for key in ("classes", "scores")}
    blank = blank_ties(found, 1e-4)["classes"].tolist()
    assert blank[0] == [b"", b"", b"2"]
    assert blank[1] == [b"0", b"1", b"2"]
    assert blank[2] == [b"", b"", b"0"]
    # A tie with the first that is left out counts as well.
    edge = {**found, "classes": found["classes"][:, :1]}
    assert blank_ties(edge, 1e-4)["classes"].tolist() == [[b""], [b"0"], [b""]]
    assert blank_ties({"logits": 1}, 1.0) == {"logits": 1}


def test_attach_labels_keeps_the_file_and_can_be_read(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"model" * 99)
    assert read_labels(path) == []
    attach_labels(path, ["ant", "d\u00f6g house"])
    assert path.read_bytes().startswith(b"model" * 99)
    assert read_labels(path) == ["ant", "d\u00f6g house"]
    other = tmp_path / "n.tflite"
    other.write_bytes(b"model" * 99)
    attach_labels(other, ["ant", "d\u00f6g house"])
    assert other.read_bytes() == path.read_bytes()
