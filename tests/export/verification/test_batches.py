# SPDX-License-Identifier: Apache-2.0
"""A model that looks across its batch is told of, before its files differ."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd.export.signatures.endpoint import make_endpoint
from keras_kd.export.verification.expected import expected_answers

WAVES = np.random.default_rng(0).normal(size=(3, 512)).astype("float32")
WAVES *= np.float32([[1e-4], [1.0], [100.0]])


@pytest.mark.parametrize(("top_db", "count"), [(80.0, 1), (1000.0, 0)])
def test_mel_spectrogram_that_cuts_off_by_the_batch_is_told_of(top_db, count):
    waveform = keras.Input((512,), name="waveform")
    layer = keras.layers.MelSpectrogram(
        fft_length=128,
        sequence_stride=128,
        num_mel_bins=4,
        sampling_rate=8000,
        max_freq=4000,
        top_db=top_db,
    )
    model = keras.Model(waveform, layer(waveform))
    endpoint = make_endpoint(model, head="regression")
    said = []
    answers = expected_answers(
        endpoint, {"waveform": WAVES}, 1e-4, False, said.append
    )
    assert answers["output"].shape[0] == 3
    told = [text for text in said if "others in its batch" in text]
    assert len(told) == count
    if told:
        assert "`output`" in told[0] and "top_db=1000" in told[0]
