# SPDX-License-Identifier: Apache-2.0
"""verify(): damaged files, other models and hostile requests are caught."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_kd.export
from keras_kd.export import VerificationError
from keras_kd.export import verify
from keras_kd.export.manifest import write_manifest

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from c_api import SavedModelSession
session = SavedModelSession(sys.argv[2])
answers = {}
for shape in [(2, 12, 12, 1), (0, 12, 12, 1), (12, 12, 1), (4,), (),
              (2, 12, 12, 1, 1), (2, 20, 20, 1), (2, 12, 12, 3)]:
    try:
        logits = session.run({"image": np.zeros(shape, "float32")})["logits"]
        answers[str(shape)] = list(logits.shape)
    except RuntimeError as error:
        answers[str(shape)] = str(error)
print(json.dumps([answers, sorted(sys.modules)]))
"""


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_verify_returns_the_largest_difference(exported):
    # Half of what is allowed: 1e-4 of the answers' spread.
    shift = np.float32(5e-5) * np.ptp(exported.logits)
    expected = {"logits": exported.logits + shift}
    for path in (exported.version, exported.tflite):
        difference = verify(path, exported.images, expected)
        assert 0.8 * shift < difference < 1.2 * shift


def test_verify_refuses_other_answers(exported):
    other = {"logits": exported.logits + np.float32(0.01)}
    with pytest.raises(VerificationError, match="differs by up to 0.01"):
        verify(exported.tflite, exported.images, other)
    assert verify(exported.tflite, exported.images, other, 0.1) > 0.009
    missing = {"scores": exported.logits}
    with pytest.raises(VerificationError, match="no output `scores`"):
        verify(exported.tflite, exported.images, missing)
    unknown = {"logits": np.full_like(exported.logits, np.nan)}
    with pytest.raises(VerificationError, match="differs by up to nan"):
        verify(exported.tflite, exported.images, unknown)
    with pytest.raises(ValueError, match="`expected` must be a dict"):
        verify(exported.tflite, exported.images, {})


@pytest.mark.parametrize(
    "name",
    [
        "1/saved_model.pb",
        "1/variables/variables.data-00000-of-00001",
        "cnn.tflite",
    ],
)
def test_verify_names_the_damaged_file(copied, name):
    file = copied.folder / "cnn" / name
    flip_bit(file)
    path = copied.tflite if name == "cnn.tflite" else copied.version
    with pytest.raises(VerificationError) as error:
        verify(path, copied.images, {"logits": copied.logits})
    assert f"{file} is damaged" in str(error.value)


def test_verify_names_missing_file_and_manifest(copied):
    expected = {"logits": copied.logits}
    index = copied.version / "variables" / "variables.index"
    index.unlink()
    with pytest.raises(VerificationError, match="index is missing"):
        verify(copied.version, copied.images, expected)
    # With a manifest that agrees, the runtime itself has to refuse.
    write_manifest(copied.version)
    text = "failed while answering warm-up record 0"
    with pytest.raises(VerificationError, match=text):
        verify(copied.version, copied.images, expected)
    (copied.version / "saved_model.pb").unlink()
    write_manifest(copied.version)
    with pytest.raises(VerificationError, match="failed while loading"):
        verify(copied.version, copied.images, expected)
    (copied.version / "manifest.json").unlink()
    with pytest.raises(VerificationError, match="no readable manifest"):
        verify(copied.version, copied.images, expected)


@pytest.mark.slow
def test_verify_refuses_export_without_shape_guard(tmp_path, exported):
    image = keras.Input((12, 12, 1), name="image")
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(10, name="logits")(x))
    model.export(tmp_path / "1", verbose=False)
    write_manifest(tmp_path / "1")
    # Whether oneDNN aborts or answers depends on the machine; both are bad.
    text = "aborted by signal|instead of refusing it"
    with pytest.raises(VerificationError, match=text):
        verify(tmp_path / "1", exported.images, {"output_0": exported.logits})


def test_exported_model_answers_wrong_shapes_with_an_error(exported):
    folder = pathlib.Path(keras_kd.export.__file__).parent / "verification"
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, exported.version],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    answers, modules = json.loads(process.stdout)
    assert answers.pop("(2, 12, 12, 1)") == [2, 10]
    # oneDNN may refuse an empty batch; it must not abort.
    answers.pop("(0, 12, 12, 1)")
    assert len(answers) == 6
    for answer in answers.values():
        assert "is not compatible with expected shape" in answer
    # A server has no Python either.
    assert not {"keras", "keras_kd", "tensorflow.python"} & set(modules)
