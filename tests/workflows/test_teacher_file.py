# SPDX-License-Identifier: Apache-2.0
"""The teacher's .tflite file: a refusal is kept, a passing fault is not."""

from __future__ import annotations

import errno
import types

import keras
import numpy as np
import pytest

from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.data.splits import Data
from keras_kd.export.formats import converting
from keras_kd.workflows import export_stages


@pytest.fixture
def run(tmp_path):
    """What `teacher_file` needs of a run."""
    teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    arrays = np.zeros((4, 2), "float32"), np.zeros(4, "int32")
    return types.SimpleNamespace(
        evaluator=types.SimpleNamespace(teacher_model=lambda: teacher),
        folder=StageFolder(tmp_path / "stages"),
        files=Data(arrays, arrays),
        common={"lesson": "a"},
        say=lambda line: None,
    )


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        MemoryError(),
        TimeoutError("did not end"),
        RuntimeError("...: No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_passing_fault_is_not_kept_as_a_refusal(run, fault, monkeypatch):
    def fails(*_, **__):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(export_stages, "export", fails)
        with pytest.raises(type(fault)):
            export_stages.teacher_file(run)
    made = StageRecord("export", "teacher", metrics={"tflite": {}})
    monkeypatch.setattr(export_stages, "export", lambda *_, **__: made)
    assert export_stages.teacher_file(run).metrics == made.metrics


def test_refusal_of_the_converter_is_kept(run, monkeypatch):
    def refuses(*_, **__):
        raise RuntimeError("LiteRT's converter refused it")

    monkeypatch.setattr(export_stages, "export", refuses)
    first = export_stages.teacher_file(run)
    assert "refused it" in first.metrics["refused"]
    monkeypatch.setattr(export_stages, "export", None)  # not called again
    assert export_stages.teacher_file(run) == first


def test_converter_does_not_call_a_full_disk_a_refusal(monkeypatch, tmp_path):
    class Converter:
        def convert(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        converting.tf.lite.TFLiteConverter,
        "from_saved_model",
        lambda *_, **__: Converter(),
    )
    with pytest.raises(OSError, match="No space left"):
        converting._convert(tmp_path, None, None, False)
