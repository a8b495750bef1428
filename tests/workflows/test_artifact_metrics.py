# SPDX-License-Identifier: Apache-2.0
"""What is timed in a fresh process can be loaded there."""

from __future__ import annotations

import keras
import pytest

from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.workflows.artifact_metrics import _timed


@keras.saving.register_keras_serializable(package="artifact_metrics_test")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize("own", [False, True])
def test_model_of_own_layers_is_timed_without_their_code(tmp_path, own):
    layer = Doubled() if own else keras.layers.ReLU()
    model = keras.Sequential([keras.Input((2,)), layer])
    folder = StageFolder(tmp_path)
    record = folder.run(
        "student", {}, lambda: (model, StageRecord("student", "student"))
    )
    timed = _timed(folder, record)
    assert isinstance(timed, keras.Model) == own
    if not own:
        assert timed == folder.model_path(record)
