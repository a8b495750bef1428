# SPDX-License-Identifier: Apache-2.0
"""write_tflite() and run_tflite(): sizes, numbers, refusals."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_kd.export import run_tflite
from keras_kd.export import write_saved_model
from keras_kd.export import write_tflite
from keras_kd.export.formats import converting
from keras_kd.export.formats import litert
from selection import quick

layers = keras.layers


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A SavedModel of 1.2 MB, 80 % of whose kernel weights are zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((512,), name="x"),
            layers.Dense(580, activation="relu"),
            layers.Dense(10),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            w * (rng.random(w.shape) < 0.2) if w.ndim > 1 else w
            for w in model.get_weights()
        ]
    )
    folder = tmp_path_factory.mktemp("pruned") / "model"
    write_saved_model(model, folder, batch_size=1)
    x = rng.random((20, 512), "float32")
    return folder, x, model.predict(x, verbose=0)


@pytest.mark.parametrize(
    "quantize, share, tolerance",
    quick(
        1,
        [(None, 0.4, 1e-5), ("float16", 0.25, 1e-3), ("dynamic", 0.3, 0.05)]
        + [("int8", 0.3, 0.05), ("full_int8", 0.3, 0.05)],
    ),
)
def test_write_tflite_is_small_and_right(
    pruned, tmp_path, quantize, share, tolerance
):
    source, x, expected = pruned
    path = tmp_path / "model.tflite"
    write_tflite(source, path, quantize=quantize, representative={"x": x})
    dense = 4 * (512 * 580 + 580 * 10)
    assert path.stat().st_size < share * dense
    logits = run_tflite(path, x)["logits"]
    assert np.abs(logits - expected).max() < tolerance
    # A file that dropped its weights would answer the same to everything.
    assert np.abs(expected - expected.mean(0)).max() > 2 * tolerance
    assert os.listdir(tmp_path) == ["model.tflite"]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"quantize": "int3"}, "`quantize` must be one of"),
        ({"quantize": "int8"}, "needs real inputs"),
        ({"quantize": "full_int8"}, "needs real inputs"),
    ],
)
def test_write_tflite_refuses_options(pruned, tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        write_tflite(pruned[0], tmp_path / "m.tflite", **options)


def test_full_int8_takes_and_gives_int8_and_int8_takes_and_gives_floats(
    pruned, tmp_path
):
    source, x, expected = pruned
    for quantize, kind in (("int8", "float32"), ("full_int8", "int8")):
        path = tmp_path / f"{quantize}.tflite"
        write_tflite(source, path, quantize=quantize, representative={"x": x})
        runner = Interpreter(model_path=str(path)).get_signature_runner()
        (taken,) = runner.get_input_details().values()
        given = runner.get_output_details().values()
        assert np.dtype(taken["dtype"]) == kind
        assert {str(np.dtype(d["dtype"])) for d in given} == {kind}


SPARSE_IN_DENSE = [
    ("dynamic", "does not load this model stored sparsely"),
    ("int8", r"exclude=\[its Dense layers\]"),
    ("full_int8", r"exclude=\[its Dense layers\]"),
]


@pytest.mark.parametrize("quantize, text", quick(1, SPARSE_IN_DENSE))
def test_write_tflite_refuses_what_does_not_load(
    pruned, tmp_path, quantize, text
):
    """If one loads now, LiteRT has learned it: then it may be offered."""
    options = {"quantize": quantize, "representative": {"x": pruned[1]}}
    with pytest.raises(RuntimeError, match=text):
        write_tflite(pruned[0], tmp_path / "m.tflite", sparse=True, **options)
    assert os.listdir(tmp_path) == []


def convolutions(share):
    """A CNN whose convolutions, not its Dense layer, have zeros."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16), name="x"),
            layers.Conv2D(128, 1, activation="relu"),
            layers.Conv2D(128, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    rng = np.random.default_rng(0)
    for layer in model.layers[:2]:
        keep = rng.random(layer.kernel.shape) >= share
        layer.kernel.assign(layer.kernel.numpy() * keep)
    return model


@pytest.mark.slow
def test_sparse_int8_convolutions_are_smaller_and_equal(tmp_path):
    source = write_saved_model(convolutions(0.8), tmp_path / "s", batch_size=1)
    x = np.random.default_rng(1).random((20, 8, 8, 16), "float32")
    files = {}
    for sparse in (False, True, None):
        files[sparse] = write_tflite(
            source,
            tmp_path / f"{sparse}.tflite",
            quantize="int8",
            representative={"x": x},
            sparse=sparse,
        )
    sizes = {key: path.stat().st_size for key, path in files.items()}
    assert sizes[None] == sizes[True] < 0.8 * sizes[False]
    answers = [run_tflite(path, x)["logits"] for path in files.values()]
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.slow
def test_write_tflite_refuses_sparse_files_that_grow(tmp_path):
    source = write_saved_model(convolutions(0.5), tmp_path / "s", batch_size=1)
    options = {"representative": {"x": np.ones((3, 8, 8, 16), "float32")}}
    with pytest.raises(RuntimeError, match="bytes, stored densely"):
        write_tflite(
            source,
            tmp_path / "m.tflite",
            quantize="int8",
            sparse=True,
            **options,
        )
    assert os.listdir(tmp_path) == ["s"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3)])
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return write_saved_model(model, folder, batch_size=1)


@pytest.mark.parametrize("quantize", quick(1, ["float16", "dynamic"]))
def test_write_tflite_refuses_quantising_that_saves_nothing(
    tiny, tmp_path, quantize
):
    with pytest.raises(RuntimeError, match="bytes, against .* in float32"):
        write_tflite(tiny, tmp_path / "m.tflite", quantize=quantize)
    assert os.listdir(tmp_path) == []


def test_write_tflite_says_where_int8_grows_the_file(tiny, tmp_path, caplog):
    rows = {"x": np.ones((3, 4), "float32")}
    path = tmp_path / "m.tflite"
    write_tflite(tiny, path, quantize="int8", representative=rows)
    assert "does not make this small model smaller" in caplog.text


@pytest.mark.slow
def test_write_tflite_outlives_a_converter_that_dies(tmp_path):
    """If int8 converts now, LiteRT has learned it: then it may be offered."""

    def build(**how):
        lstm = layers.LSTM(32, **how)
        return keras.Sequential([keras.Input((6, 64), name="x"), lstm])

    model = build()
    source = write_saved_model(model, tmp_path / "s", batch_size=1)
    rows = {"x": np.random.default_rng(0).random((9, 6, 64), "float32")}
    path = tmp_path / "m.tflite"
    with pytest.raises(RuntimeError, match="cannot quantise .* signal 11"):
        write_tflite(source, path, quantize="int8", representative=rows)
    assert not path.exists()
    expected = model.predict(rows["x"], verbose=0)
    # What the message says instead.
    write_tflite(source, path, quantize="dynamic")
    (answer,) = run_tflite(path, rows["x"]).values()
    assert np.abs(answer - expected).max() < 0.02
    unrolled = build(unroll=True)
    unrolled.set_weights(model.get_weights())
    source = write_saved_model(unrolled, tmp_path / "u", batch_size=1)
    write_tflite(source, path, quantize="int8", representative=rows)
    (answer,) = run_tflite(path, rows["x"]).values()
    assert np.abs(answer - expected).max() < 0.05


def test_a_refusal_of_the_converter_is_told_in_short():
    """Of its own pages of notation, what a reader can act on."""
    place = (
        'fused["BatchMatMulV3:", "net/dense_1/MatMul@__inference_1"] at '
        'callsite(fused["Call:", "Call@__inference_2"])))'
    )
    text = f"Could not translate.<unknown>:0: error: loc(callsite({place}): "
    text += (
        "'tfl.fully_connected' op operand #0 must be tensor\n" + 99 * "note\n"
    )
    assert converting._in_short(text) == (
        "Received: BatchMatMulV3 in net/dense_1/MatMul: "
        "'tfl.fully_connected' op operand #0 must be tensor"
    )
    text += "TF Select ops: StringLower, StringSplitV2\nDetails:\n"
    told = converting._in_short(text)
    assert "used here: StringLower, StringSplitV2. Leave" in told
    assert converting._in_short("out of luck") == "Received: out of luck"


def test_check_runs_outlives_a_file_that_kills_its_process(
    tmp_path, monkeypatch
):
    broken = tmp_path / "m.tflite"
    broken.write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match="failed while loading"):
        litert.check_runs(broken)
    killer = tmp_path / "killer.py"
    killer.write_text("import os\nprint('loading', flush=True)\nos.abort()")
    monkeypatch.setattr(litert.trial, "__file__", str(killer))
    with pytest.raises(RuntimeError, match="aborted by signal 6 while loading"):
        litert.check_runs(broken)
    killer.write_text("import time\ntime.sleep(60)")
    with pytest.raises(TimeoutError, match="within 0 seconds"):
        litert.check_runs(broken, timeout=0.2)


def test_run_tflite_refuses_wrong_requests(exported):
    images = exported.images
    with pytest.raises(ValueError, match="has shape"):
        run_tflite(exported.tflite, images[..., 0])
    with pytest.raises(ValueError, match="has shape"):
        run_tflite(exported.tflite, images[:, :4])
    with pytest.raises(ValueError, match="takes the inputs"):
        run_tflite(exported.tflite, {"picture": images})
