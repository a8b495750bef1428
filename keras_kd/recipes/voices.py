# SPDX-License-Identifier: Apache-2.0
"""Whose voice is it: a quarter of a second of sound, few labels, for phones.

    keras-kd run voices

The prompts of a telephone exchange, read by five voices: English and Spanish
by the same woman, French, Italian and Russian by three other people. A window
of 2,000 samples at 8 kHz is all that a model gets; it is scaled to one
loudness. Each voice was recorded in its own room and language, so what is told
apart are recordings as much as people.

The waveform goes in, and the log-mel spectrogram is part of the model, so a
phone needs no code for it: the Fourier transform is a convolution with fixed
weights (`STFTSpectrogram`), the mel bands are a fixed matrix. (Keras has a
layer `MelSpectrogram`. It cuts off what is `top_db` below the loudest moment of
the whole *batch*, so that a window's answer depends on those beside it, and a
file, asked one by one, differs; with top_db=1000 it does not. Its FFT is slower
in LiteRT.) In int8 the power of quiet bands is lost, so the file is float32.

The teacher, convolutions over 64 bands and 125 frames a second, learned from
the labels of all training windows. The student, over 24 bands and 62 frames
a second, has 100 labels; for the other windows it has the teacher's answers
only. Prompts of one name, whoever reads them, are in one split. The settings
are first guesses, made to run in a few minutes, and were not searched.

Expected: the distilled student is far above the same student trained on 100
windows alone (the control), within 3 points of its teacher, and its .tflite
about ten times faster than its teacher's.

Data: Debian's asterisk-core-sounds; Allison Smith and June Wallack CC BY-SA
3.0, Carlo Flora and Maxim Topal CC BY 3.0.
"""

from __future__ import annotations

import io
import wave

import keras
import numpy as np
from keras import layers
from keras import ops
from sklearn.model_selection import train_test_split

from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

about = dict(
    task="classification of sound, 100 labels",
    data="27,000 windows of 0.25 s, five voices (Asterisk)",
    licence="CC BY-SA 3.0 and CC BY 3.0",
    minutes="10",
    gained="+40.64 points of accuracy (+36.16 to +45.13)",
)
settings = dict(
    temperature=2.0,
    alpha=0.9,  # most windows have no label to learn from
    batch_size=128,
    teacher_epochs=5,
    teacher_learning_rate=3e-3,
    epochs=6,
    learning_rate=1e-2,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
)

VOICES = {
    "en": "Allison, English",
    "es": "Allison, Spanish",
    "fr": "June, French",
    "it": "Carlo, Italian",
    "ru": "Maxim, Russian",
}
SHA256 = {
    "en": ("82ef97c821be5f78850889133d0b95da12d302abbb944f2c38291840088039ac"),
    "es": ("cd41370d32abeb570193ba1be418611d939529a1e49abff98c9c8b071d260a06"),
    "fr": ("d698610ce1a9b9236da4d259c0e1568e5f94ac6aaca2d0ea2e6ba5c07f3bb044"),
    "it": ("92c4e3f4fca08091b119439289c03673adaeed7d26345e30fcf20a36def19307"),
    "ru": ("b3739c10cd21657e22d1d799ac1369c1c753b1119aa9919152eaa02289014b9c"),
}
RATE = 8000  # samples a second
WINDOW = RATE // 4
QUIETEST = 0.01  # of full scale, root mean square
NO_VOICE = ("silence", "beep", "tone")


def load_data(labelled: int | None = 100) -> Data:
    """Returns windows `(n, 2000)`, float32, and the numbers of their voices.

    Of ten prompts in a row, by name, seven are for training, one for
    validation and two for the test.

    Args:
        labelled: How many training windows keep their label, drawn evenly
            over the voices; the others are marked unlabelled (-1). `None`
            keeps all.

    Raises:
        FileNotFoundError: If a voice can be had from no source.
    """
    prompts = {voice: prompts_of(voice) for voice in VOICES}
    names = sorted(set().union(*prompts.values()))
    turn = {name: place % 10 for place, name in enumerate(names)}
    train, validation, test = (
        windows_of(prompts, {name for name in names if turn[name] in turns})
        for turns in (range(7), (7,), (8, 9))
    )
    y = train[1]
    if labelled is not None:
        hidden, _ = train_test_split(
            np.arange(len(y)), test_size=labelled, stratify=y, random_state=0
        )
        y[hidden] = UNLABELLED
    return Data(
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(VOICES.values()),
    )


def load_teacher_data() -> Data:
    """Returns the same splits with all labels: what the teacher saw."""
    return load_data(labelled=None)


def prompts_of(voice: str) -> dict[str, bytes]:
    """Returns the .wav files of a voice by the names of the prompts."""
    package = f"asterisk-core-sounds-{voice}-wav"
    file = f"{voice}.tar"

    def from_debian():
        with _sources.debian_package(package) as folder:
            (sounds,) = (folder / "usr/share/asterisk/sounds").glob(
                f"{voice}_*"
            )
            found = {
                path.relative_to(sounds).as_posix(): path.read_bytes()
                for path in sounds.glob("**/*.wav")
            }
        return {file: _sources.archive_of(spoken(found))}

    sources = {f"the Debian package {package}": from_debian}
    files = _fetch.fetch("voices", {file: SHA256[voice]}, sources)
    return _sources.files_of(files[file])


def spoken(prompts: dict[str, bytes]) -> dict[str, bytes]:
    """Returns the prompts that are no silence and no tones."""
    return {
        name: content
        for name, content in prompts.items()
        if not any(word in name for word in NO_VOICE)
    }


def windows_of(
    prompts: dict[str, dict[str, bytes]], names: set[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all windows of the named prompts, and their voices' numbers."""
    x, y = [], []
    for number, of_voice in enumerate(prompts.values()):
        for name in sorted(names & set(of_voice)):
            found = windows(of_voice[name])
            x.append(found)
            y.append(np.full(len(found), number, "int32"))
    return np.concatenate(x), np.concatenate(y)


def windows(content: bytes) -> np.ndarray:
    """Returns the windows of a .wav file that are not silent `(n, 2000)`.

    They do not overlap; the mean square of each is 1.
    """
    with wave.open(io.BytesIO(content)) as file:
        told = file.getframerate(), file.getsampwidth(), file.getnchannels()
        if told != (RATE, 2, 1):
            raise ValueError(
                f"Expected {RATE} samples a second of 2 bytes in 1 channel. "
                f"Received: {told}"
            )
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    count = len(samples) // WINDOW
    x = samples[: count * WINDOW].reshape(count, WINDOW) / np.float32(32768)
    loudness = np.sqrt(np.square(x).mean(axis=1, keepdims=True))
    return (x / np.maximum(loudness, QUIETEST))[loudness[:, 0] > QUIETEST]


def log_mel(
    x: keras.KerasTensor, bands: int, frame: int, step: int
) -> keras.KerasTensor:
    """Returns the log-mel spectrogram `(batch, frames, bands, 1)`.

    Args:
        x: Waveform `(batch, samples)`.
        bands: How many.
        frame: Samples of a frame.
        step: Samples from one frame to the next.
    """
    x = layers.Reshape((WINDOW, 1))(x)
    x = layers.STFTSpectrogram("psd", frame, step, trainable=False)(x)
    matrix = layers.MelSpectrogram().linear_to_mel_weight_matrix(
        bands, x.shape[-1], RATE, 60.0, RATE / 2
    )
    mel = keras.initializers.Constant(ops.convert_to_numpy(matrix))
    x = layers.Dense(
        bands, use_bias=False, kernel_initializer=mel, trainable=False
    )(x)
    return layers.Reshape((*x.shape[1:], 1))(ops.log(x + 1e-4))


def build_teacher() -> keras.Model:
    """Convolutions of 24 to 64 channels over 64 bands: 117,000 weights."""
    waveform = keras.Input((WINDOW,), name="waveform")
    x = log_mel(waveform, 64, 256, 64)
    for filters in (24, 48, 64):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        if filters < 64:
            x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(waveform, layers.Dense(len(VOICES))(x), name="teacher")


def build_student() -> keras.Model:
    """Convolutions of 12 and 24 channels over 24 bands: 23,000 weights."""
    waveform = keras.Input((WINDOW,), name="waveform")
    x = log_mel(waveform, 24, 128, 128)
    for filters in (12, 24):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Flatten()(x)
    return keras.Model(waveform, layers.Dense(len(VOICES))(x), name="student")
