# SPDX-License-Identifier: Apache-2.0
"""A faster way to run a teacher is taken only where it decides as it does."""

from __future__ import annotations

import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_kd import teachers
from keras_kd.targets.inference import engines
from keras_kd.targets.inference import timing
from keras_kd.targets.inference.engines import INT8
from keras_kd.targets.inference.engines import KERAS
from keras_kd.targets.inference.engines import choose
from keras_kd.targets.inference.low_margin import margins

COMPARED = 128


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(engines, "COMPARED", [COMPARED])
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.001)


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


def output_of(engine, x):
    """Returns what an engine answers to one batch."""
    x = tf.nest.map_structure(tf.constant, x)
    ((found, _),) = engine.answers([(x, None)])
    return np.asarray(found["output"])


def times_as_fast(monkeypatch, ratio):
    monkeypatch.setattr(engines, "speedup", lambda own, fast, x: ratio)


def instead_of_litert(monkeypatch, make):
    """Has `make(own call)` answer where int8 in LiteRT would."""
    monkeypatch.setattr(
        engines, "LiteRTEngine", lambda call, specs, calibration: make(call)
    )


def close_decisions():
    """A teacher whose every answer is nearly a tie."""
    model = cnn()
    model.layers[-1].kernel.assign(1e-3 * model.layers[-1].kernel)
    model.layers[-1].bias.assign(np.zeros(4))
    return model


def test_labels_are_the_teachers_own_unless_others_are_allowed(monkeypatch):
    instead_of_litert(monkeypatch, lambda call: pytest.fail("converted"))
    monkeypatch.setattr(engines, "speedup", lambda *_: pytest.fail("timed"))
    model, x = cnn(), images(5)
    engine = choose(frozen(model), ["output"], batched(images(300)))
    assert engine.description == {
        "engine": KERAS,
        "agreement": 1.0,
        "largest_difference": 0.0,
        "compared": 0,
        "margin": None,
        "asked_again": 0.0,
    }
    np.testing.assert_allclose(output_of(engine, x), answer(model, x), 1e-5)


def test_int8_agreement_is_what_the_compared_samples_say():
    model, x = cnn(), images(engines.CALIBRATION + COMPARED)
    engine = choose(
        frozen(model), ["output"], batched(x), agreement=0.5, name=INT8
    )
    assert engine.margin is None
    compared = x[engines.CALIBRATION :]
    expected = answer(model, compared)
    got = output_of(engine, compared)
    assert got.dtype == np.float32
    gap = np.abs(got - expected).max()
    assert gap > 1e-3, "int8 arithmetic was not used"
    assert engine.compared == COMPARED
    assert engine.largest_difference == pytest.approx(gap, rel=1e-3)
    same = (got.argmax(1) == expected.argmax(1)).mean()
    assert engine.agreement == pytest.approx(same)
    assert same > 0.8


@pytest.mark.parametrize("ratio, name", [(1.04, KERAS), (1.06, INT8)])
def test_int8_is_taken_if_it_is_faster(ratio, name, monkeypatch, capsys):
    times_as_fast(monkeypatch, ratio)
    data = batched(images(300))
    engine = choose(frozen(cnn()), ["output"], data, agreement=0.5)
    assert engine.name == name
    said = capsys.readouterr().out
    if name == KERAS:
        assert said == (
            "labelling with the teacher's own call: litert-int8 is 1.04 x as "
            "fast\n"
        )
    else:
        assert "labelling with litert-int8: 1.1 x as fast" in said
    choose(frozen(cnn()), ["output"], data, agreement=0.5, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "agreement, count", [(0.995, 922), (0.5, 256), (1.0, 1024)]
)
def test_as_many_are_compared_as_show_the_agreement(
    agreement, count, monkeypatch
):
    monkeypatch.undo()
    assert engines.samples_to_compare(agreement) == count
    if agreement < 1.0:
        # Fewer than 1 of 100 such samples hold none of a larger share.
        assert agreement**count <= 0.01


def test_few_wrong_decisions_are_left_as_they_are(monkeypatch):
    def wrong_once(call):
        left = [3]

        def answer(x):
            found = np.array(call(x)["output"])
            rows, left[0] = left[0], 0
            found[:rows] *= -1.0
            return {"output": found}

        return answer

    instead_of_litert(monkeypatch, wrong_once)
    times_as_fast(monkeypatch, 4.0)
    data = batched(images(400), size=16)
    engine = choose(frozen(cnn()), ["output"], data, agreement=0.9)
    assert engine.name == INT8
    assert engine.compared == COMPARED
    assert engine.agreement == pytest.approx(1.0 - 3 / engine.compared)
    assert (engine.margin, engine.asked_again) == (None, 0.0)


def test_close_decisions_are_left_to_the_teacher(monkeypatch, capsys):
    times_as_fast(monkeypatch, 4.0)
    made, litert = [], engines.LiteRTEngine

    def kept(*args):
        made.append(litert(*args))
        return made[0]

    monkeypatch.setattr(engines, "LiteRTEngine", kept)
    model, x = close_decisions(), images(engines.CALIBRATION + COMPARED)
    engine = choose(frozen(model), ["output"], batched(x), agreement=1.0)
    assert engine.name == INT8
    assert engine.agreement == 1.0
    assert engine.margin > 0.0
    assert 0.0 < engine.asked_again < 1.0
    # A quarter of the teacher's time for all, and all of it for those.
    ratio = 1.0 / (0.25 + engine.asked_again)
    assert f"{ratio:.1f} x as fast" in capsys.readouterr().out
    compared = x[engines.CALIBRATION :]
    expected = answer(model, compared)
    rough = made[0](tf.constant(compared))["output"]
    assert (rough.argmax(1) != expected.argmax(1)).any(), "nothing to mend"
    got = output_of(engine, compared)
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
    again = margins(rough) <= engine.margin
    assert again.mean() == pytest.approx(engine.asked_again)
    np.testing.assert_allclose(got[again], expected[again], atol=1e-6)
    np.testing.assert_array_equal(got[~again], rough[~again])
    assert engine.description["margin"] == engine.margin


def test_int8_is_left_if_the_teacher_would_decide_nearly_all(
    monkeypatch, capsys
):
    instead_of_litert(
        monkeypatch,
        lambda call: lambda x: {"output": -np.asarray(call(x)["output"])},
    )
    times_as_fast(monkeypatch, 4.0)
    data = batched(images(400))
    engine = choose(frozen(cnn()), ["output"], data, agreement=0.9)
    assert engine.name == KERAS
    assert "litert-int8 is 0." in capsys.readouterr().out


def test_resumed_labelling_keeps_its_engine_and_margin(monkeypatch):
    times_as_fast(monkeypatch, 4.0)
    data = batched(images(300))
    first = choose(frozen(model := close_decisions()), ["output"], data, 1.0)
    times_as_fast(monkeypatch, 0.1)
    again = choose(frozen(model), ["output"], data, 1.0, name=first.name)
    assert again.description == first.description


def test_other_taps_are_left_to_the_teachers_own_call(monkeypatch, capsys):
    times_as_fast(monkeypatch, 4.0)
    taps = ["output", "hidden"]
    engine = choose(frozen(cnn()), taps, batched(images(300)), agreement=0.5)
    assert engine.name == KERAS
    assert "for the output alone" in capsys.readouterr().out


def test_int8_output_is_logits():
    model, x = cnn("softmax"), images(20)
    data = batched(images(300))
    engine = choose(frozen(model), ["output"], data, 0.1, name=INT8)
    got = keras.ops.softmax(output_of(engine, x))
    np.testing.assert_allclose(got, answer(model, x), atol=0.05)


def test_int8_takes_several_inputs_of_several_kinds():
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
    engine = choose(frozen(model), ["output"], batched(x), 0.1, name=INT8)
    x = {name: array[:33] for name, array in x.items()}
    expected = answer(model, x)
    got = output_of(engine, x)
    assert 0 < np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_recurrent_teacher_is_not_calibrated(capsys):
    """LiteRT's calibration of an LSTM ends the process."""
    x = keras.Input((4, 3))
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(4)(x)))
    data = np.random.default_rng(0).normal(size=(300, 4, 3)).astype("float32")
    engine = choose(frozen(model), ["output"], batched(data), agreement=0.5)
    assert engine.name == KERAS
    assert "recurrent" in capsys.readouterr().out


def test_failing_engine_is_left_with_its_reason(monkeypatch, capsys):
    def refuse(call):
        raise RuntimeError("no such\noperation")

    instead_of_litert(monkeypatch, refuse)
    given = frozen(cnn()), ["output"], batched(images(300)), 0.5
    assert choose(*given).name == KERAS
    assert "RuntimeError: no such operation" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no such operation"):
        choose(*given, name=INT8)


@pytest.mark.parametrize(
    "name, agreement, reason",
    [
        ("litert", None, "'litert'.*expected 'keras' or.*another directory"),
        ("litert", 0.9, "'litert'.*expected 'keras' or.*another directory"),
        (INT8, None, "needs an `agreement`"),
    ],
)
def test_engine_that_is_not_known_is_an_error(name, agreement, reason):
    with pytest.raises(ValueError, match=reason):
        choose(
            frozen(cnn()),
            ["output"],
            batched(images(300)),
            agreement,
            name=name,
        )


def test_engine_with_values_that_are_not_finite_is_left(monkeypatch, capsys):
    instead_of_litert(
        monkeypatch,
        lambda call: (
            lambda x: {"output": np.full((len(x), 4), np.nan, "float32")}
        ),
    )
    times_as_fast(monkeypatch, 4.0)
    engine = choose(
        frozen(cnn()), ["output"], batched(images(300)), agreement=0.1
    )
    assert engine.name == KERAS
    assert "non-finite" in capsys.readouterr().out


def test_nan_input_goes_to_the_teachers_own_call():
    """In int8 it would become an ordinary number, and so would its target."""
    model, x, data = cnn(), images(3), batched(images(300))
    engine = choose(frozen(model), ["output"], data, 0.1, name=INT8)
    assert np.abs(output_of(engine, x) - answer(model, x)).max() > 0
    own = choose(frozen(model), ["output"], data, name=KERAS)
    x[1, 0, 0] = np.nan
    np.testing.assert_array_equal(output_of(engine, x), output_of(own, x))


def test_inputs_of_changing_size_are_left_to_the_teachers_own_call(capsys):
    x = keras.Input((None, None, 1))
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    model = keras.Model(x, layers.Dense(2)(h))
    spec = tf.TensorSpec((None, None, None, 1))
    data = tf.data.Dataset.from_generator(
        lambda: iter([images(300), images(20)[:, :5]]), output_signature=spec
    )
    engine = choose(frozen(model), ["output"], data, 0.5)
    assert engine.name == KERAS
    assert "not fixed" in capsys.readouterr().out
    assert output_of(engine, images(2)[:, :5]).shape == (2, 2)


def test_other_teachers_answer_by_their_own_call(capsys):
    teacher = teachers.CallableTeacher(
        lambda x: keras.ops.mean(x, axis=(2, 3)), activation="linear"
    )
    engine = choose(teacher, ["output"], batched(images(300)), agreement=0.5)
    assert engine.name == KERAS
    assert "needs one Keras model" in capsys.readouterr().out
    assert output_of(engine, images(2)).shape == (2, 8)


def test_little_data_is_labelled_by_the_teachers_own_call(capsys):
    engine = choose(frozen(cnn()), ["output"], batched(images(50)), 0.5)
    assert engine.name == KERAS
    assert "50 samples are too few" in capsys.readouterr().out


@pytest.mark.parametrize("answers, name", [(10, KERAS), (10**9, INT8)])
def test_no_engine_is_looked_for_where_the_teacher_is_done_at_once(
    answers, name, monkeypatch
):
    times_as_fast(monkeypatch, 4.0)
    engine = choose(
        frozen(cnn()), ["output"], batched(images(300)), 0.5, answers=answers
    )
    assert engine.name == name


@pytest.mark.parametrize("count", [1, 2, 50])
def test_engine_chosen_before_is_taken_however_little_the_data(count):
    model, x = cnn(), images(count)
    engine = choose(frozen(model), ["output"], batched(x), 0.5, name=INT8)
    assert engine.name == INT8
    compared = x[count // 2 :]
    assert engine.compared == len(compared)
    gap = np.abs(output_of(engine, compared) - answer(model, compared)).max()
    assert engine.largest_difference == pytest.approx(gap, rel=1e-2, abs=1e-6)


def test_conversion_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    choose(frozen(cnn()), ["output"], batched(images(300)), 0.1, name=INT8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("agreement", [0.0, 1.5, -1])
def test_agreement_must_be_a_share(agreement):
    with pytest.raises(ValueError, match="share of samples"):
        choose(frozen(cnn()), ["output"], batched(images(9)), agreement)
