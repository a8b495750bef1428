# SPDX-License-Identifier: Apache-2.0
"""One runner for every .tflite file, wherever it came from."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.core.litert_runner import LiteRTRunner
from keras_kd.core.litert_runner import name_inputs
from keras_kd.export.formats import trial


@pytest.fixture(scope="module")
def content():
    """A file without a signature: a + 10 b, and a - b, for 4 rows at once."""
    specs = [tf.TensorSpec((4, 2), tf.float32, name) for name in ("b", "a")]
    function = tf.function(
        lambda b, a: [a + 10.0 * b, a - b], input_signature=specs
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    converter.experimental_lower_to_saved_model = False
    return converter.convert()


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_file_without_a_signature_goes_by_its_tensors_names(content, rows):
    run = LiteRTRunner(content, threads=2)
    a = np.arange(2.0 * rows).reshape(rows, 2)
    b = np.full((rows, 2), 3, "int64")
    found = run({"a": a, "b": b, "not": "asked for"})
    assert list(found) == ["output_0", "output_1"]
    np.testing.assert_array_equal(found["output_0"], a + 30)
    np.testing.assert_array_equal(found["output_1"], a - 3)


def test_runner_refuses_what_the_file_does_not_take_and_goes_on(content):
    run = LiteRTRunner(content)
    a = np.ones((4, 2), "float32")
    refused = {
        "one array without a name": a,
        "2 arrays without names": (a, a),
        r"inputs named \['a'\]": {"a": a},
        "equally many rows": {"a": a, "b": a[:2]},
        "at least one": {"a": a[:0], "b": a[:0]},
        "has shape": {"a": a, "b": a[:, :1]},
        "must be float32": {"a": a, "b": a.astype("S")},
    }
    for text, inputs in refused.items():
        with pytest.raises(ValueError, match=text):
            run(inputs)
    assert (run({"a": a, "b": a})["output_0"] == 11).all()


def test_name_inputs_knows_an_order_from_a_list_only():
    a, b = np.zeros(1), np.ones(1)
    assert name_inputs((a, b), ["y", "x"]) == {"y": a, "x": b}
    assert name_inputs([a], {"x"}) == name_inputs(a, {"x"}) == {"x": a}
    assert name_inputs([[1.0], [2.0]], {"x"}) == {"x": [[1.0], [2.0]]}
    for inputs in ((a, b), [], a):
        with pytest.raises(ValueError, match=r"named \['x', 'y'\]"):
            name_inputs(inputs, {"y", "x"})


def test_runner_needs_neither_tensorflow_nor_this_package(content, tmp_path):
    (tmp_path / "m.tflite").write_bytes(content)
    script = (
        "import json, runpy, sys\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    path = trial.__file__
    script = f"import sys; sys.argv[0] = {path!r}\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.tflite")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-500:]
    *said, modules = done.stdout.splitlines()
    assert said == ["loading", "answering zeros"]
    assert not {"keras", "keras_kd", "tensorflow"} & set(json.loads(modules))


def test_name_inputs_knows_names_as_an_export_writes_them():
    a, b = np.zeros(1), np.ones(1)
    found = name_inputs({"raw-x": a, "raw.y": b}, {"raw_x", "raw_y"})
    assert found == {"raw_x": a, "raw_y": b}
    # The very name goes first; of two that are written alike none is certain.
    assert name_inputs({"a-b": a, "a_b": b}, {"a_b"}) == {"a_b": b}
    with pytest.raises(ValueError, match=r"named \['a_b'\]"):
        name_inputs({"a-b": a, "a.b": b}, {"a_b"})
