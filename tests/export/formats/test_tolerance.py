# SPDX-License-Identifier: Apache-2.0
"""How far a file may be off: by the model's answers, not by a fixed size."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.export import VerificationError
from keras_kd.export.formats.tolerance import allowed_difference
from keras_kd.export.formats.tolerance import tolerance_of
from keras_kd.export.verification.cost import kept
from keras_kd.export.verification.cost import quantities
from keras_kd.export.verification.cost import telling_the_cost
from keras_kd.export.verification.verify import AnswersDifferError

layers = keras.layers


@pytest.mark.parametrize("offset, scale", [(0, 1e-3), (20, 1e-2), (-5, 1e3)])
def test_a_file_of_constant_answers_is_never_within_tolerance(offset, scale):
    answers = offset + scale * np.linspace(-1, 1, 8)
    limit = allowed_difference(answers, 0.25)
    # The best constant is off by half of the spread.
    assert limit < scale
    # What is allowed follows the answers' unit.
    np.testing.assert_allclose(
        allowed_difference(100 * answers, 0.25), 100 * limit
    )


def test_allowed_difference_where_there_is_no_spread():
    assert allowed_difference(np.full((3, 2), 7.0), 0.1) > 0.69
    assert allowed_difference(np.array([np.nan, np.inf]), 0.1) == 0.0


def test_tolerance_follows_the_layers_policies_also_after_loading(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, dtype="mixed_float16")]
    )
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.compute_dtype == "float32"  # what it says of itself
    assert tolerance_of(None, None, loaded) == 1e-2
    half = layers.Rescaling(0.5, dtype="float16")
    full = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    assert tolerance_of(None, None, full, None) == 1e-4
    assert tolerance_of(None, None, full, half) == 1e-2
    assert tolerance_of("int8", 0.5, loaded) == 0.5


def test_kept_is_agreement_of_decisions_and_r2_of_numbers():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 3))
    moved = logits.copy()
    moved[:2] = -moved[:2]
    same = (logits.argmax(1) == moved.argmax(1)).mean()
    numbers = rng.normal(size=(50, 2)) * [1000.0, 1.0]
    steps = np.round(numbers / 4) * 4  # one scale for both units
    errors = ((steps - numbers) ** 2).mean(0) / numbers.var(0)
    expected = {"logits": logits, "probabilities": logits, "price": numbers}
    answers = {"logits": moved, "probabilities": moved, "price": steps}
    shares = kept(expected, answers)
    assert set(shares) == {"logits", "price"}
    assert shares["logits"] == same < 1
    assert shares["price"] > 0.99  # the large unit hides the small one
    alone = kept(expected, answers, {"price"})["price"]
    assert abs(alone - (1 - errors.max())) < 1e-12 and alone < 0.3
    # Units of unlike means: their means alone are no answer to anything.
    numbers += [0.0, 1e6]
    constant = {"price": np.broadcast_to(numbers.mean(0), numbers.shape)}
    for known in ((), {"price"}):
        share = kept({"price": numbers}, constant, known)["price"]
        assert abs(share) < 1e-9
    assert kept({"output": np.ones(4)}, {"output": np.ones(4)}) == {}


def test_what_may_be_classes_or_quantities_is_judged_as_both():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(50, 2)) * [1.0, 1e-3] + [10.0, 0.0]
    steps = np.round(numbers, 1)  # the small unit is lost
    expected = {"logits": numbers, "probabilities": numbers}
    answers = {"logits": steps, "probabilities": steps}
    assert kept(expected, answers) == {"logits": 1.0}
    shares = kept(expected, answers, {"logits", "probabilities"})
    assert set(shares) == {"logits"} and shares["logits"] < 0.1
    one = {name: array[:, :1] for name, array in expected.items()}
    lost = {"logits": one["logits"] * 0, "probabilities": one["logits"]}
    assert kept(one, lost) == {"probabilities": 1.0}
    assert kept(one, lost, {"logits"})["logits"] < 0


def test_units_count_by_themselves_where_they_are_quantities():
    assert quantities("regression") == {"output"}
    assert quantities("regression", kd.tasks.Regression()) == {"output"}
    assert quantities("regression", kd.tasks.Retrieval()) == set()
    assert quantities("logits") == quantities(None) == set()
    parts = {"age": kd.tasks.Regression(), "face": kd.tasks.Retrieval()}
    both = kd.tasks.Composite(parts, headline="age")
    assert quantities(dict.fromkeys(parts, "regression"), both) == {"age"}


def test_yes_no_units_are_judged_by_their_probabilities():
    """Logits of what is certain may be any: int8 cuts them off."""
    z = np.array([[9.0, -1.0], [-9.0, 1.0], [12.0, 2.0], [-14.0, -2.0]])
    expected = {"logits": z, "probabilities": 1 / (1 + np.exp(-z))}
    cut = {"logits": z.clip(-4, 4), "probabilities": expected["probabilities"]}
    assert kept(expected, cut, (), {"probabilities"}) == {"probabilities": 1.0}
    assert set(kept(expected, cut)) == {"logits"}
    one = {name: array[:, :1] for name, array in expected.items()}
    assert kept(one, one) == {"probabilities": 1.0}


def test_the_cost_of_quantisation_is_told_as_such():
    with pytest.raises(VerificationError, match="0.195 of `logits`"):
        with telling_the_cost("int8", {"logits": 0.195}, 0.25):
            pass
    with pytest.raises(VerificationError) as caught:
        with telling_the_cost("int8", {"logits": 0.96}, 0.25):
            raise AnswersDifferError("m.tflite is not the model: off by 3")
    assert "costs more than is allowed" in str(caught.value)
    assert "off by 3" in str(caught.value)
    assert "not the model" not in str(caught.value)
    with pytest.raises(AnswersDifferError):
        with telling_the_cost(None, {}, 1e-4):
            raise AnswersDifferError("m: off")
