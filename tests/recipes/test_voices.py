# SPDX-License-Identifier: Apache-2.0
"""Windows of made-up prompts; the recorded ones in a slow test."""

from __future__ import annotations

import contextlib
import io
import wave

import keras
import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import voices


def wav(samples, rate=voices.RATE):
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(rate)
        opened.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def prompt(number, count=3):
    """Windows that swing as many thousand samples wide as their prompt."""
    return wav(np.tile([number * 1000, -1000], count * voices.WINDOW // 2))


@pytest.fixture
def twenty(monkeypatch):
    """Twenty prompts, each read by all voices."""
    prompts = {f"{n:02}.wav": prompt(n + 1) for n in range(20)}

    def fetch(_, hashes, sources):
        (file,) = hashes
        return {file: _sources.archive_of(prompts)}

    monkeypatch.setattr(_fetch, "fetch", fetch)


def test_windows_are_of_one_loudness_and_silence_is_left_out():
    quiet = np.zeros(voices.WINDOW)
    loud = np.tile([9000, -9000], voices.WINDOW // 2)
    x = voices.windows(wav(np.concatenate([quiet, loud, loud[:100]])))
    assert x.shape == (1, voices.WINDOW) and x.dtype == np.float32
    np.testing.assert_allclose(np.abs(x), 1.0, rtol=1e-5)
    with pytest.raises(ValueError, match="Received: \\(16000, 2, 1\\)"):
        voices.windows(wav(loud, 16000))


def test_prompts_are_in_one_split_and_labels_are_hidden(twenty):
    data, full = voices.load_data(10), voices.load_teacher_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [210, 30, 60]
    heights = [set(x[:, 0].round(4)) for x, _ in splits]
    assert not heights[0] & heights[1] and not heights[0] & heights[2]
    labels = data.train[1]
    assert labels.dtype == "int32"
    known = labels != UNLABELLED
    assert np.bincount(labels[known]).tolist() == [2] * 5
    np.testing.assert_array_equal(labels[known], full.train[1][known])
    assert np.bincount(full.train[1]).tolist() == [42] * 5


def test_tones_and_silence_are_no_prompts(tmp_path, monkeypatch):
    top = tmp_path / "usr/share/asterisk/sounds/en_US"
    for name in ("hello.wav", "digits/1.wav", "beeperr.wav", "silence/1.wav"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(prompt(1))
    monkeypatch.setattr(
        _sources, "debian_package", lambda _: contextlib.nullcontext(tmp_path)
    )

    def fetch(_, hashes, sources):
        (deliver,) = sources.values()
        return deliver()

    monkeypatch.setattr(_fetch, "fetch", fetch)
    assert list(voices.prompts_of("en")) == ["digits/1.wav", "hello.wav"]


def test_spectrogram_is_loud_where_the_tone_is():
    waveform = keras.Input((voices.WINDOW,))
    model = keras.Model(waveform, voices.log_mel(waveform, 16, 128, 128))
    assert not model.trainable_weights
    seconds = np.arange(voices.WINDOW) / voices.RATE
    tones = np.sin(2 * np.pi * np.array([[300.0], [3000.0]]) * seconds)
    found = np.asarray(model(tones.astype("float32")))
    assert found.shape == (2, 15, 16, 1)
    low, high = found[..., 0].mean(axis=1).argmax(axis=1)
    assert low < 5 and high > 11
    # Silence is far below, and a finite number.
    silence = np.asarray(model(np.zeros((1, voices.WINDOW), "float32")))
    np.testing.assert_allclose(silence, np.log(1e-4), atol=1e-3)
    assert found.max() > silence.max() + 5


@pytest.mark.slow
def test_real_prompts_are_as_described():
    data = voices.load_data()
    splits = (data.train, data.validation, data.test)
    assert sum(len(y) for _, y in splits) > 13000
    assert (data.train[1] != UNLABELLED).sum() == 100
    assert np.bincount(data.test[1]).min() > 300
    assert np.isfinite(data.train[0]).all()
