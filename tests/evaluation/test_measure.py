# SPDX-License-Identifier: Apache-2.0
"""Figures of real files, each against an independent witness."""

from __future__ import annotations

import gzip
import shutil
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd.data
from keras_kd import tasks
from keras_kd.evaluation import latency
from keras_kd.evaluation import measure
from keras_kd.evaluation.latency_worker import time_in_turn
from keras_kd.evaluation.runtimes import load_runner

DENSE = 64 * 64 + 64 + 64 * 10 + 10
FILES = ("keras", "saved_model", "float32", "fixed_batch", "sparse", "int8")


@pytest.fixture(scope="module")
def logits(trained, digits):
    return trained.predict(digits.test[0], verbose=0)


@pytest.fixture(scope="module")
def expected(logits, digits):
    accuracy = float((logits.argmax(-1) == digits.test[1]).mean())
    assert 0.8 < accuracy < 1  # neither chance nor a trivial task
    return accuracy


def count(model):
    weights = model.get_weights()
    return sum(int((w != 0).sum()) for w in weights)


def test_measure_of_a_model(trained, digits, logits, expected):
    found = measure(
        trained, digits.test, teacher_predictions=logits, latency=False
    )
    assert found.pop("bytes") > 4 * DENSE
    # Half of the hidden kernel is zero, and compresses away.
    assert found.pop("gzip_bytes") < 4 * DENSE
    by_class = found.pop("class_accuracy")
    assert len(by_class) == 10
    assert np.average(
        by_class, weights=np.bincount(digits.test[1])
    ) == pytest.approx(expected)
    assert 0 < found.pop("ece") < 0.2
    assert 0.8 < found.pop("macro_f1") < 1
    assert found == {
        "accuracy": pytest.approx(expected, abs=1e-12),
        "agreement": 1.0,
        "parameters": DENSE,
        "nonzero_parameters": count(trained),
    }
    assert count(trained) <= DENSE - 64 * 64 // 2
    assert all(type(value) in (int, float) for value in found.values())


@pytest.mark.parametrize("name", FILES)
def test_measure_runs_the_file_itself(
    name, artefacts, trained, digits, logits, expected
):
    found = measure(
        artefacts[name],
        digits.test,
        teacher_predictions=logits,
        latency=False,
    )
    if name == "int8":
        # One step of 256 moves a few of 597 close decisions.
        assert found["accuracy"] == pytest.approx(expected, abs=0.02)
        assert found["agreement"] > 0.97
    else:
        assert found["accuracy"] == pytest.approx(expected, abs=1e-12)
        assert found["agreement"] == 1.0
    assert found["parameters"] == DENSE
    if name == "int8":
        # Weights that round to zero are zero in the file.
        assert 0.9 * count(trained) < found["nonzero_parameters"]
        assert found["nonzero_parameters"] <= count(trained)
    else:
        assert found["nonzero_parameters"] == count(trained)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_measure_gives_an_int8_file_real_values_of_any_dtype(
    dtype, artefacts, digits
):
    """Whole numbers are scaled too, though an int8 could hold them."""
    x, y = digits.test
    found = measure(artefacts["int8"], (x.astype(dtype), y), latency=False)
    of_floats = measure(artefacts["int8"], (x, y), latency=False)
    assert found["accuracy"] == of_floats["accuracy"] > 0.8


def test_measure_sees_damage_in_the_file(artefacts, digits, tmp_path):
    model = keras.models.load_model(artefacts["keras"], compile=False)
    model.get_layer("logits").kernel.assign(np.zeros((64, 10)))
    model.save(tmp_path / "damaged.keras")
    path = tmp_path / "damaged.keras"
    found = measure(path, digits.test, latency=False)
    assert found["accuracy"] < 0.3
    assert found["nonzero_parameters"] <= count(model)


def test_measure_bytes_are_those_on_disk(artefacts, trained, digits, tmp_path):
    tiny = (digits.test[0][:8], digits.test[1][:8])

    def size(what):
        return measure(what, tiny, latency=False)["bytes"]

    for name in ("keras", "float32", "int8"):
        assert size(artefacts[name]) == artefacts[name].stat().st_size
    files = artefacts["saved_model"].rglob("*")
    total = sum(file.stat().st_size for file in files if file.is_file())
    assert size(artefacts["saved_model"]) == total

    def gzip_size(what):
        return measure(what, tiny, latency=False)["gzip_bytes"]

    content = artefacts["sparse"].read_bytes()
    assert gzip_size(artefacts["sparse"]) == len(gzip.compress(content, 6))
    files = [
        file for file in artefacts["saved_model"].rglob("*") if file.is_file()
    ]
    assert gzip_size(artefacts["saved_model"]) == sum(
        len(gzip.compress(file.read_bytes(), 6)) for file in files
    )
    # Adam keeps two more numbers per weight; they do not ship.
    optimizer = trained.optimizer
    with_optimizer = artefacts["keras"].stat().st_size
    assert size(trained) < with_optimizer - 2 * 4 * DENSE + 2000
    assert trained.optimizer is optimizer


def test_measure_leaves_out_what_is_no_part_of_the_model(
    artefacts, digits, tmp_path
):
    tiny = digits.test[0][:4], digits.test[1][:4]
    folder = tmp_path / "1"
    shutil.copytree(artefacts["saved_model"], folder)
    plain = measure(folder, tiny, latency=False)
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "requests").write_bytes(b"x" * 1000)
    for name in ("golden.npz", "manifest.json"):
        (folder / name).write_bytes(b"x" * 1000)
    found = measure(folder, tiny, latency=False)
    for name in ("bytes", "gzip_bytes"):
        assert found[name] == plain[name]


def test_measure_takes_datasets_and_data(trained, digits, expected):
    dataset = tf.data.Dataset.from_tensor_slices(digits.test).batch(100)
    found = measure(trained, dataset, latency=False)
    assert found["accuracy"] == pytest.approx(expected, abs=1e-12)
    data = keras_kd.data.Data(
        digits.train, validation=digits.train, test=digits.test
    )
    found = measure(trained, data, latency=False)
    assert found["accuracy"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("activation", "bias", "says_yes"),
    [(None, 0.2, True), ("sigmoid", 0.2, True), ("sigmoid", -0.2, False)],
)
def test_measure_knows_probabilities_from_logits(activation, bias, says_yes):
    """All outputs lie in [0, 1]: only the model tells what they are."""
    x = np.linspace(-1, 1, 40, dtype="float32")[:, None]
    y = (x[:, 0] > 0.3).astype("int64")
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, activation)]
    )
    model.set_weights([np.full((1, 1), 0.1), np.full(1, bias)])
    task = tasks.Classification()
    found = measure(model, (x, y), task=task, latency=False)
    assert found["accuracy"] == pytest.approx((y == says_yes).mean())


@pytest.mark.slow
def test_measure_of_two_named_inputs_by_name():
    left = keras.Input((2,), name="left")
    right = keras.Input((2,), name="right")
    model = keras.Model(
        {"left": left, "right": right},
        keras.layers.Subtract()([left, right]),
    )
    x = {
        "left": np.array([[2.0, 0.0], [0.0, 2.0]], "float32"),
        "right": np.array([[0.0, 1.0], [9.0, 0.0]], "float32"),
        # Not the model's; Keras would take it, by its place in the alphabet.
        "another": np.zeros((2, 3), "float32"),
    }
    found = measure(model, (x, np.array([0, 1])), repeats=5)
    assert found["accuracy"] == 1.0
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p90"]
    assert found["latency_ms_p90"] <= found["latency_ms_p99"]
    assert found["latency_batch"] == 1
    assert found["latency_threads"] == 1
    assert found["latency_warmup"] == 20
    assert found["latency_repeats"] == 5
    assert found["throughput_per_second"] > 0
    assert found["throughput_batch"] == 32  # though there are two examples
    assert found["throughput_repeats"] == 3
    assert found["peak_memory_bytes"] > 0


@pytest.mark.slow
def test_latency_ranks_all_kinds_before_a_far_larger_model(
    artefacts, trained, digits
):
    layers = [keras.layers.Dense(1200, "relu") for _ in range(4)]
    large = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Flatten(), *layers]
    )
    x = digits.test[0][:4]
    times = latency(
        {"model": trained, **artefacts, "large": large},
        x,
        repeats=15,
        warmup=3,
        own_inputs={"large": np.concatenate([x, x], axis=-1)},
    )
    assert list(times) == ["model", *artefacts, "large"]
    slow = times.pop("large")
    assert all(0 < t["p50_ms"] < slow["p50_ms"] for t in times.values())
    assert all(t["repeats"] == 15 for t in times.values())
    assert all(
        t["throughput_per_second"] > slow["throughput_per_second"]
        for t in times.values()
    )
    # Its 4.5 million weights, and what the small ones need as well.
    smallest = times["model"]["peak_memory_bytes"]
    assert slow["peak_memory_bytes"] - smallest > 4 * 4.3e6
    assert times["float32"]["peak_memory_bytes"] < smallest


def test_time_in_turn_alternates_and_times():
    calls = []

    def slow(number):
        calls.append(("slow", number))
        time.sleep(0.01)

    runs = {
        "slow": slow,
        "quick": lambda number: calls.append(("quick", number)),
    }
    times = time_in_turn(runs, repeats=3, warmup=1)
    assert calls == [
        *(("slow", 0), ("quick", 0)),  # warm-up
        *(("slow", 0), ("quick", 0)),
        *(("quick", 1), ("slow", 1)),
        *(("slow", 2), ("quick", 2)),
    ]
    assert min(times["slow"]) >= 10 > max(times["quick"])


def test_time_in_turn_runs_each_several_times_in_a_row():
    calls = []
    runs = {
        name: lambda number, name=name: calls.append((name, number))
        for name in "ab"
    }
    times = time_in_turn(runs, repeats=5, warmup=0, in_a_row=2)
    assert calls == [
        *(("a", 0), ("a", 1), ("b", 0), ("b", 1)),
        *(("b", 2), ("b", 3), ("a", 2), ("a", 3)),
        *(("a", 4), ("b", 4)),
    ]
    assert len(times["a"]) == len(times["b"]) == 5


def test_time_in_turn_stops_after_its_seconds():
    times = time_in_turn({"it": lambda number: None}, 1000, 0, seconds=0)
    assert len(times["it"]) == 10


@pytest.mark.slow
def test_latency_says_why_an_artefact_failed(digits, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match="could not be timed"):
        latency({"broken": path}, digits.test[0][:2], repeats=1)


@pytest.mark.parametrize(
    ("path", "text"),
    [("missing.keras", "must be an existing"), ("", "holds versions")],
)
def test_load_runner_refuses_other_paths(path, text, artefacts):
    with pytest.raises(ValueError, match=text):
        load_runner(artefacts["saved_model"].parent / path)


def test_load_runner_refuses_other_input_names(artefacts, digits):
    run = load_runner(artefacts["saved_model"])
    with pytest.raises(ValueError, match=r"named \['image'\].*\['picture'\]"):
        run({"picture": digits.test[0][:2]})


def test_load_runner_walks_a_fixed_batch_to_its_end(artefacts, digits):
    x = digits.test[0][:11]
    free = load_runner(artefacts["float32"])(x)["logits"]
    fixed = load_runner(artefacts["fixed_batch"])(x)["logits"]
    assert free.shape == (11, 10)
    np.testing.assert_allclose(fixed, free, atol=1e-5)
