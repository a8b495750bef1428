# SPDX-License-Identifier: Apache-2.0
"""Transcription: a text from frames of sound, by CTC."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from keras_kd import losses
from keras_kd.core.extras import import_extra
from keras_kd.tasks import drawing
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.base import check_choice
from keras_kd.tasks.base import ends_in_logits
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import weights_of

METRICS = ("character_error_rate", "word_error_rate")
BLANK = 0


@dataclasses.dataclass(frozen=True)
class Transcription(Task):
    """Frames give symbols; repeats and blanks fall away (CTC).

    Outputs: `(batch, frames, symbols)`; symbol 0 is the blank, as in Keras.
    Labels: symbol numbers `(batch, length)`, filled up with 0 or -1.
    Headline: character error rate (or `"word_error_rate"`), less is better:
    edits over the length of what is right. The text is read off the likeliest
    symbol of each frame.
    Agreement: share of characters that both models' texts have in common,
    when aligned.
    Distils: `SoftTargets(1)` by frame.
    Memory: flat. Needs jiwer: `pip install 'keras_kd[speech]'`.

    Args:
        alphabet: What each symbol is in the text, that of the blank included
            (anything, such as `""`).
        metric: `"character_error_rate"` or `"word_error_rate"`.

    Raises:
        ValueError: If there is no alphabet.

    Example:

    ```python
    task = kd.tasks.Transcription(alphabet=("", "a", "b"))
    task.text([1, 1, 0, 1, 2])  # "aab"
    ```
    """

    squash = "softmax"
    panels = ("input", "texts")

    alphabet: tuple[str, ...] = ()
    metric: str = "character_error_rate"

    def __post_init__(self):
        object.__setattr__(self, "alphabet", tuple(self.alphabet))
        check_choice("metric", self.metric, METRICS)
        if len(self.alphabet) < 2:
            raise ValueError(
                "`alphabet` must hold a string for each symbol, the blank's "
                f"first. Received: alphabet={self.alphabet}"
            )

    @property
    def headline(self):
        return Headline(self.metric, "min")

    def label_loss(self, student, output=None):
        if not ends_in_logits(student, output):
            raise ValueError(
                "Keras' CTC loss takes logits. Received: an output that is "
                "probabilities. Leave the softmax out of the model."
            )
        return keras.losses.CTC()

    def distillation_losses(self):
        return [losses.SoftTargets(1.0)]

    def meter(self, outputs=None, teacher_outputs=None):
        return TranscriptionMeter(self)

    def text(self, frames: np.ndarray) -> str:
        """Returns the text of one example's symbol for each frame."""
        frames = np.asarray(frames)
        is_new = np.append(True, frames[1:] != frames[:-1])[: len(frames)]
        return self.spelled(frames[is_new])

    def spelled(self, symbols: np.ndarray) -> str:
        """Returns symbol numbers as text, without what is filled up."""
        return "".join(self.alphabet[s] for s in symbols if s > BLANK)

    def draw(self, axes, x, label, teacher, student):
        sound = np.asarray(x).squeeze()
        axes[0].set_axis_off()
        if sound.ndim == 2:  # a spectrogram: frames and frequencies
            axes[0].imshow(sound.T, origin="lower", aspect="auto")
        else:
            axes[0].plot(sound.ravel(), linewidth=0.4)
        axes[1].set_axis_off()
        texts = [
            self.text(Reader().array(drawing.batch_of_one(o))[0].argmax(-1))
            for o in (teacher, student)
        ]
        drawing.decisions(axes[1], self.spelled(np.ravel(label)), *texts)


class TranscriptionMeter(Meter):
    """Adds up edits of characters and words."""

    def __init__(self, task):
        self.task = task
        self.reader, self.teacher_reader = Reader(), Reader()
        # Hits, substitutions, deletions, insertions.
        self.characters, self.words, self.beside_teacher = np.zeros((3, 4))

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        jiwer = import_extra("jiwer", "speech", "kd.tasks.Transcription")
        scores = self._checked(self.reader.array(outputs))
        counts = weights_of(scores.shape[:2], sample_weight, mask) > 0
        examples = counts.any(axis=1)
        said = self._texts(scores[examples], counts[examples])
        labels = np.asarray(labels)[examples]
        right = [self.task.spelled(row) for row in labels]
        # A text without a letter cannot be missed: it has no label.
        pairs = [(r, s) for r, s in zip(right, said, strict=True) if r]
        if pairs:
            texts = list(map(list, zip(*pairs, strict=True)))
            self.characters += _edits(jiwer.process_characters(*texts))
            self.words += _edits(jiwer.process_words(*texts))
        if teacher_outputs is not None:
            theirs = self._checked(self.teacher_reader.array(teacher_outputs))
            theirs = self._texts(theirs[examples], counts[examples])
            edits = _edits(jiwer.process_characters(theirs, said))
            self.beside_teacher += edits

    def result(self):
        figures = {}
        for name, counts in zip(
            METRICS, (self.characters, self.words), strict=True
        ):
            if length := counts[:3].sum():
                figures[name] = float(counts[1:].sum() / length)
        if total := self.beside_teacher.sum():
            figures["agreement"] = float(self.beside_teacher[0] / total)
        return figures

    def _texts(self, scores, counts):
        symbols = scores.argmax(axis=-1)
        pairs = zip(symbols, counts, strict=True)
        return [self.task.text(row[kept]) for row, kept in pairs]

    def _checked(self, scores):
        symbols = len(self.task.alphabet)
        if scores.ndim != 3 or scores.shape[-1] != symbols:
            raise ValueError(
                f"The outputs must be (batch, frames, {symbols}), a score "
                f"for each symbol of `alphabet`. Received: {scores.shape}"
            )
        return scores


def _edits(found):
    return np.array(
        [found.hits, found.substitutions, found.deletions, found.insertions],
        np.float64,
    )
