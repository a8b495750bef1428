# SPDX-License-Identifier: Apache-2.0
"""Both models from a small BERT; the real one is a recipe's to fetch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.recipes import snippets
from keras_kd.recipes import snippets_transformer as recipe

PIECES = 150
TEXTS = np.array([[101, 107, 140, 102, 0], [101, 109, 107, 102, 0]])


@pytest.fixture
def small_bert(monkeypatch):
    """A BERT of six narrow layers, and sentences that are numbers."""
    hub = pytest.importorskip("keras_hub", reason="pip install 'keras_kd[hub]'")
    keras.utils.set_random_seed(0)
    bert = hub.models.BertBackbone(
        vocabulary_size=PIECES,
        num_layers=6,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=12,
        dropout=0.0,
    )
    monkeypatch.setattr(recipe, "minilm", lambda: bert)
    monkeypatch.setattr(recipe, "TOKENS", TEXTS.shape[1])
    monkeypatch.setattr(recipe, "encoded", lambda texts: TEXTS[texts])
    numbers = np.array([0, 1])
    data = recipe.Data((numbers, numbers), (numbers, numbers))
    monkeypatch.setattr(snippets, "load_data", lambda *_, **__: data)
    recipe.vocabulary.cache_clear()
    yield bert
    recipe.vocabulary.cache_clear()


def test_student_has_the_pieces_of_training_and_layers_of_the_teacher(
    small_bert,
):
    known = recipe.vocabulary()
    assert known.tolist() == [0, 100, 101, 102, 107, 109, 140]
    teacher, student = small_bert, recipe.build_student()
    states = student.get_layer("states")

    def weights(model, name):
        return model.get_layer(name).get_weights()

    for own, theirs in recipe.MADE_OF.items():
        pairs = zip(
            weights(states, f"transformer_layer_{own}"),
            weights(teacher, f"transformer_layer_{theirs}"),
            strict=True,
        )
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        weights(states, "token_embedding")[0],
        weights(teacher, "token_embedding")[0][known],
    )
    assert len(student.trainable_weights) < len(student.weights)


def test_student_of_all_layers_sees_what_the_teacher_sees(
    small_bert, monkeypatch
):
    """Their states are equal wherever there is a piece."""
    monkeypatch.setattr(recipe, "MADE_OF", {n: n for n in range(6)})
    (x, _) = recipe.load_data().train
    assert x["common"].tolist() == [[2, 4, 6, 3, 0], [2, 5, 4, 3, 0]]
    teacher, student = recipe.build_teacher(), recipe.build_student()
    states = [
        np.asarray(kd.tap(m, ["states"])(x[name])["states"])
        for m, name in ((teacher, "pieces"), (student, "common"))
    ]
    here = TEXTS != 0
    np.testing.assert_allclose(states[0][here], states[1][here], atol=1e-5)


def test_pieces_unknown_in_training_are_one(small_bert, monkeypatch):
    known = recipe.vocabulary()
    monkeypatch.setattr(recipe, "encoded", lambda texts: TEXTS[texts] + 1)
    common = recipe.load_data().test[0]["common"]
    assert known[common[0]].tolist() == [102, 100, 100, 100, 100]
