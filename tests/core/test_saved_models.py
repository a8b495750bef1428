# SPDX-License-Identifier: Apache-2.0
"""SavedModels that are made of operations outside of TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tensorflow as tf

from keras_kd.core import saved_models


def of_words(folder):
    """Writes a SavedModel that counts words by TensorFlow Text."""
    text = pytest.importorskip("tensorflow_text")
    model = tf.Module()
    model.count = tf.function(
        lambda x: text.WhitespaceTokenizer().tokenize(x).row_lengths(),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(model, str(folder))


@pytest.mark.slow  # another process, which alone does not know the operations
def test_operations_of_tensorflow_text_are_found(tmp_path):
    of_words(tmp_path)
    code = (
        "import sys; from keras_kd.core.saved_models import load_saved_model; "
        "assert 'tensorflow_text' not in sys.modules; "
        "loaded = load_saved_model(sys.argv[1]); "
        "print(loaded.count(['a b', 'c']).numpy().tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[2, 1]"


@pytest.fixture
def load(monkeypatch):
    """Has every load fail for the given reason; returns how often it did."""

    def failing(message):
        calls = []

        def load(path):
            calls.append(path)
            raise RuntimeError(message)

        monkeypatch.setattr(tf.saved_model, "load", load)
        return calls

    return failing


def test_missing_tensorflow_text_is_named(load, monkeypatch, tmp_path):
    load("Op type not registered 'RegexSplitWithOffsets' in binary")
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(ModuleNotFoundError, match="install tensorflow-text"):
        saved_models.load_saved_model(tmp_path)


def test_other_failures_are_told_as_they_are(load, tmp_path):
    calls = load("a file is damaged")
    with pytest.raises(RuntimeError, match="^a file is damaged$"):
        saved_models.load_saved_model(tmp_path)
    assert len(calls) == 1
