# SPDX-License-Identifier: Apache-2.0
"""A faster way to run a teacher is taken only where it gives its answers."""

from __future__ import annotations

import json
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd import teachers
from keras_kd.targets.inference import engines
from keras_kd.targets.inference.engines import KERAS
from keras_kd.targets.inference.engines import LITERT
from keras_kd.targets.inference.engines import LITERT_INT8
from keras_kd.targets.inference.engines import choose
from keras_kd.targets.inference.low_margin import margins

COMPARED = 128


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(engines, "EQUAL", COMPARED)
    monkeypatch.setattr(engines, "AGREEING", [COMPARED])
    monkeypatch.setattr(
        "keras_kd.targets.inference.timing.ROUND_SECONDS", 0.001
    )


def cnn(activation=None):
    x = keras.Input((8, 8, 1))
    h = layers.Conv2D(8, 3, use_bias=False)(x)
    h = layers.BatchNormalization()(h)
    h = layers.ReLU()(h)
    h = layers.Dropout(0.5)(layers.Flatten()(h))
    h = layers.Dense(16, activation="relu", name="hidden")(h)
    y = layers.Dense(4, bias_initializer="normal", activation=activation)(h)
    return keras.Model(x, y)


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 8, 8, 1)).astype("float32")


def batched(x, size=96):
    return tf.data.Dataset.from_tensor_slices(x).batch(size)


def frozen(model):
    return teachers.FrozenTeacher(model)


def answer(model, x):
    return np.asarray(model(x, training=False))


def race_won_by(ratio):
    return lambda calls, batches: (
        [(1.0, 1.0)] + [(ratio, ratio)] * (len(calls) - 1)
    )


def test_litert_gives_the_teachers_float32_answers():
    model, x = cnn(), images(37, seed=1)
    engine = choose(
        frozen(model), ["output"], batched(images(300)), name=LITERT
    )
    assert engine.name == LITERT
    assert engine.agreement == 1.0
    assert engine.largest_difference < 1e-4
    assert engine.compared >= COMPARED
    got = engine(tf.constant(x))["output"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, answer(model, x), rtol=1e-4, atol=1e-4)


def test_int8_agreement_is_what_the_compared_samples_say():
    model, x = cnn(), images(engines.CALIBRATION + COMPARED)
    engine = choose(
        frozen(model), ["output"], [x], agreement=0.5, name=LITERT_INT8
    )
    assert engine.margin is None
    compared = x[engines.CALIBRATION :]
    expected = answer(model, compared)
    got = engine(tf.constant(compared))["output"]
    gap = np.abs(got - expected).max()
    assert gap > 1e-3, "int8 arithmetic was not used"
    assert engine.largest_difference == pytest.approx(gap, rel=1e-3)
    same = (got.argmax(1) == expected.argmax(1)).mean()
    assert engine.agreement == pytest.approx(same)
    assert same > 0.8


def row_of(engine, name):
    return next(row for row in engine.measured if row["engine"] == name)


@pytest.mark.parametrize(
    "int8, float32, winner, tried",
    [
        (4.0, 1.5, LITERT_INT8, [KERAS, LITERT_INT8]),
        (1.9, 1.5, LITERT_INT8, [KERAS, LITERT_INT8, LITERT]),
        (1.2, 1.5, LITERT, [KERAS, LITERT_INT8, LITERT]),
        (1.0, 1.04, KERAS, [KERAS, LITERT_INT8, LITERT]),
    ],
)
def test_choose_takes_the_fastest_and_looks_no_further_than_it_has_to(
    int8, float32, winner, tried, monkeypatch
):
    ratios = iter([int8, float32])
    monkeypatch.setattr(
        engines,
        "race",
        lambda calls, batches: [(10.0, 1.0), ((r := next(ratios)) * 10.0, r)],
    )
    engine = choose(
        frozen(cnn()), ["output"], batched(images(300)), agreement=0.5
    )
    assert engine.name == winner
    assert [row["engine"] for row in engine.measured] == tried
    assert row_of(engine, LITERT_INT8)["speed"] == 10.0 * int8
    assert json.loads(json.dumps(engine.measured)) == engine.measured


def test_comparison_ends_where_it_is_lost(monkeypatch):
    asked = []

    def upside_down(call, specs, calibration):
        def answer(x):
            asked.append(len(x))
            return {"output": -np.asarray(call(x)["output"])}

        return answer

    monkeypatch.setattr(engines, "LiteRTEngine", upside_down)
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    data = batched(images(400), size=16)
    engine = choose(frozen(cnn()), ["output"], data, agreement=0.9)
    assert engine.name == KERAS
    # 13 of 128 other decisions are one too many: known in the first batch.
    assert asked == [16, 16]  # int8, then float32
    found = row_of(engine, LITERT_INT8)
    assert found["compared"] == 16
    assert "agrees on 0." in found["reason"]


def test_engine_that_is_not_faster_is_not_compared(monkeypatch):
    monkeypatch.setattr(engines, "race", race_won_by(1.04))
    engine = choose(frozen(cnn()), ["output"], batched(images(300)))
    assert engine.name == KERAS
    found = row_of(engine, LITERT)
    assert (found["compared"], found["agreement"]) == (0, None)
    assert found["reason"] == "keras is 0.96 x as fast"


@pytest.mark.parametrize(
    "agreement, count", [(None, 512), (0.995, 922), (0.5, 256), (1.0, 1024)]
)
def test_as_many_are_compared_as_show_the_agreement(
    agreement, count, monkeypatch
):
    monkeypatch.undo()
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    data = batched(images(engines.CALIBRATION + 1024))
    engine = choose(frozen(cnn()), ["output"], data, agreement)
    assert engine.compared == count
    if agreement not in (None, 1.0):
        # Fewer than 1 of 100 such samples hold none of a larger share.
        assert agreement**count <= 0.01


def test_comparison_is_not_lost_while_the_rest_could_save_it(monkeypatch):
    def wrong_once(call, specs, calibration):
        left = [3]

        def answer(x):
            found = np.array(call(x)["output"])
            rows, left[0] = left[0], 0
            found[:rows] *= -1.0
            return {"output": found}

        return answer

    monkeypatch.setattr(engines, "LiteRTEngine", wrong_once)
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    data = batched(images(400), size=16)
    engine = choose(frozen(cnn()), ["output"], data, agreement=0.9)
    assert engine.name == LITERT_INT8
    assert engine.compared >= COMPARED
    # Few enough to spare the second look.
    assert engine.agreement == pytest.approx(1.0 - 3 / engine.compared)
    assert (engine.margin, engine.asked_again) == (None, 0.0)


def close_decisions():
    """A teacher whose every answer is nearly a tie."""
    model = cnn()
    model.layers[-1].kernel.assign(1e-3 * model.layers[-1].kernel)
    model.layers[-1].bias.assign(np.zeros(4))
    return model


def test_choose_leaves_close_decisions_to_the_teacher(monkeypatch):
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    model, x = close_decisions(), images(engines.CALIBRATION + COMPARED)
    engine = choose(frozen(model), ["output"], [x], agreement=1.0)
    assert engine.name == LITERT_INT8
    assert engine.agreement == 1.0
    assert engine.margin > 0.0
    assert 0.0 < engine.asked_again < 1.0
    # A quarter of the teacher's time for all, and all of it for those.
    assert 1.0 / engine.ratio == pytest.approx(0.25 + engine.asked_again)
    compared = x[engines.CALIBRATION :]
    expected = answer(model, compared)
    rough = engine.call.fast(tf.constant(compared))["output"]
    assert (rough.argmax(1) != expected.argmax(1)).any(), "nothing to mend"
    got = engine(tf.constant(compared))["output"]
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
    again = margins(rough) <= engine.margin
    assert again.mean() == pytest.approx(engine.asked_again)
    np.testing.assert_allclose(got[again], expected[again], atol=1e-6)
    np.testing.assert_array_equal(got[~again], rough[~again])
    assert engine.description["margin"] == engine.margin


def test_choose_gives_int8_no_second_look_if_it_is_mostly_wrong(monkeypatch):
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    monkeypatch.setattr("keras_kd.targets.inference.comparison.LEAST", 0.99)
    engine = choose(
        frozen(close_decisions()),
        ["output"],
        batched(images(300)),
        agreement=1.0,
    )
    assert engine.name == LITERT
    assert "agrees on 0." in row_of(engine, LITERT_INT8)["reason"]
    assert row_of(engine, LITERT_INT8)["margin"] is None


def test_choose_tries_no_int8_unless_asked():
    engine = choose(frozen(cnn()), ["output"], batched(images(300)))
    assert LITERT_INT8 not in [row["engine"] for row in engine.measured]


@pytest.mark.parametrize("ratio, name", [(1.04, KERAS), (1.06, LITERT)])
def test_choose_stays_with_the_teachers_own_call_unless_faster(
    ratio, name, monkeypatch
):
    monkeypatch.setattr(engines, "race", race_won_by(ratio))
    engine = choose(frozen(cnn()), ["output"], batched(images(300)))
    assert engine.name == name
    assert engine.reason is None


def test_choose_judges_other_taps_by_their_values(monkeypatch):
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    model = cnn()
    taps = ["output", "hidden"]
    engine = choose(frozen(model), taps, batched(images(300)), agreement=0.5)
    assert engine.name == LITERT
    assert "differs in ['hidden']" in row_of(engine, LITERT_INT8)["reason"]
    x = images(5, seed=2)
    hidden = keras.Model(model.input, model.get_layer("hidden").output)
    got = engine(tf.constant(x))
    assert list(got) == taps
    np.testing.assert_allclose(got["hidden"], answer(hidden, x), atol=1e-4)


def test_litert_output_is_logits():
    model, x = cnn("softmax"), images(20)
    engine = choose(frozen(model), ["output"], [images(300)], name=LITERT)
    got = keras.ops.softmax(engine(tf.constant(x))["output"])
    np.testing.assert_allclose(got, answer(model, x), atol=1e-5)


def test_litert_takes_several_inputs_of_several_kinds():
    number = keras.Input((3,), name="number")
    word = keras.Input((2,), dtype="int32", name="word")
    h = layers.Flatten()(layers.Embedding(9, 4)(word))
    h = layers.Concatenate()([layers.Dense(4)(number), h])
    model = keras.Model({"word": word, "number": number}, layers.Dense(5)(h))
    rng = np.random.default_rng(0)
    x = {
        "number": rng.normal(size=(300, 3)).astype("float32"),
        "word": rng.integers(0, 9, (300, 2)).astype("int32"),
    }
    engine = choose(frozen(model), ["output"], batched(x), name=LITERT)
    x = {name: array[:33] for name, array in x.items()}
    got = engine(tf.nest.map_structure(tf.constant, x))["output"]
    np.testing.assert_allclose(got, answer(model, x), atol=1e-5)


def test_recurrent_teacher_is_not_calibrated():
    """LiteRT's calibration of an LSTM ends the process."""
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(4)(x)))
    data = np.random.default_rng(0).normal(size=(300, 4, 3)).astype("float32")
    engine = choose(frozen(model), ["output"], [data], agreement=0.5)
    assert "recurrent" in row_of(engine, LITERT_INT8)["reason"]


def test_candidate_that_fails_is_left_out_with_its_reason(monkeypatch):
    def refuse(*args):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(engines, "LiteRTEngine", refuse)
    engine = choose(frozen(cnn()), ["output"], batched(images(300)))
    assert engine.name == KERAS
    assert engine.measured[1]["reason"] == "RuntimeError: no such operation"
    with pytest.raises(ValueError, match="no such operation"):
        choose(frozen(cnn()), ["output"], batched(images(300)), name=LITERT)


def test_candidate_with_values_that_are_not_finite_is_left_out(monkeypatch):
    def broken(call, specs, calibration):
        return lambda x: {"output": np.full((len(x), 4), np.nan, "float32")}

    monkeypatch.setattr(engines, "LiteRTEngine", broken)
    monkeypatch.setattr(engines, "race", race_won_by(4.0))
    engine = choose(
        frozen(cnn()), ["output"], batched(images(300)), agreement=0.1
    )
    assert engine.name == KERAS
    assert "not finite" in engine.measured[1]["reason"]


def test_nan_input_goes_to_the_teachers_own_call():
    """In int8 it would become an ordinary number, and so would its target."""
    model, x = cnn(), images(3)
    engine = choose(
        frozen(model), ["output"], [images(300)], 0.1, name=LITERT_INT8
    )
    assert np.abs(engine(tf.constant(x))["output"] - answer(model, x)).max() > 0
    own = choose(frozen(model), ["output"], [images(300)], name=KERAS)
    x[1, 0, 0] = np.nan
    got = engine(tf.constant(x))["output"]
    np.testing.assert_array_equal(got, own(tf.constant(x))["output"])


def test_inputs_of_changing_size_are_left_to_the_teachers_own_call():
    x = keras.Input((None, None, 1))
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    model = keras.Model(x, layers.Dense(2)(h))
    spec = tf.TensorSpec((None, None, None, 1))
    data = tf.data.Dataset.from_generator(
        lambda: iter([images(300), images(20)[:, :5]]), output_signature=spec
    )
    engine = choose(frozen(model), ["output"], data)
    assert engine.name == KERAS
    assert "not fixed" in engine.measured[1]["reason"]
    assert engine(images(2)[:, :5])["output"].shape == (2, 2)


def test_other_teachers_answer_by_their_own_call():
    teacher = teachers.CallableTeacher(
        lambda x: keras.ops.mean(x, axis=(2, 3)), activation="linear"
    )
    engine = choose(teacher, ["output"], batched(images(300)), agreement=0.5)
    assert [row["engine"] for row in engine.measured] == [KERAS]
    assert engine(images(2))["output"].shape == (2, 8)


def test_little_data_is_not_worth_a_race():
    engine = choose(frozen(cnn()), ["output"], batched(images(50)))
    assert engine.name == KERAS
    assert engine.description == {
        "engine": KERAS,
        "agreement": 1.0,
        "largest_difference": 0.0,
        "compared": 0,
        "margin": None,
        "asked_again": 0.0,
    }


@pytest.mark.parametrize(
    "answers, tried", [(10, [KERAS]), (10**9, [KERAS, LITERT])]
)
def test_no_engine_is_looked_for_where_the_teacher_is_done_at_once(
    answers, tried
):
    engine = choose(
        frozen(cnn()), ["output"], batched(images(300)), answers=answers
    )
    assert [row["engine"] for row in engine.measured] == tried


@pytest.mark.parametrize("count", [1, 2, 50])
def test_engine_chosen_before_is_taken_however_little_the_data(count):
    model, x = cnn(), images(count)
    engine = choose(frozen(model), ["output"], [x], name=LITERT)
    assert engine.name == LITERT
    got = engine(tf.constant(x))["output"]
    np.testing.assert_allclose(got, answer(model, x), rtol=1e-4, atol=1e-4)


def test_conversion_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    choose(frozen(cnn()), ["output"], [images(300)], 0.1, name=LITERT_INT8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("agreement", [0.0, 1.5, -1])
def test_agreement_must_be_a_share(agreement):
    with pytest.raises(ValueError, match="share of samples"):
        choose(frozen(cnn()), ["output"], [images(9)], agreement)


def test_no_batches_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        choose(frozen(cnn()), ["output"], [])
