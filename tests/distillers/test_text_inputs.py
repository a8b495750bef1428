# SPDX-License-Identifier: Apache-2.0
"""Text as it comes: strings in arrays, and tasks of KerasHub."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd

TEXTS = np.array(["good film", "very bad film", "a good film", "bad"] * 2)
LABELS = np.array([1, 0, 1, 0] * 2)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def of_strings(seed):
    keras.utils.set_random_seed(seed)
    vectorize = layers.TextVectorization(vocabulary=["good", "bad"])
    text = keras.Input((), dtype="string")
    x = layers.Embedding(4, 3)(vectorize(text))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(text, layers.Dense(2)(x))


def distiller_of(teacher, student):
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=0.5)
    return distiller.compile(keras.optimizers.SGD(0.0), LOSS)


def expected_loss(teacher_logits, student_logits):
    p, q = (
        np.float64(keras.ops.log_softmax(logits))
        for logits in (teacher_logits, student_logits)
    )
    label = -q[np.arange(len(q)), LABELS].mean()
    return 0.5 * (np.exp(p) * (p - q)).sum(-1).mean() + 0.5 * label


def test_arrays_of_strings_are_trained_on():
    teacher, student = of_strings(0), of_strings(1)
    distiller = distiller_of(teacher, student)
    data = (TEXTS, LABELS)
    history = distiller.fit(*data, validation_data=data, verbose=0).history
    text = tf.constant(TEXTS)
    logits = [np.asarray(model(text)) for model in (teacher, student)]
    assert history["loss"][0] == pytest.approx(expected_loss(*logits), rel=1e-5)
    found = distiller.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(found, logits[1], rtol=1e-5)
    loss = distiller.evaluate(x=TEXTS, y=LABELS, verbose=0)
    assert loss == pytest.approx(history["val_loss"][0])


def task(seed):
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(seed)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, "good", "bad", "very", "film", "a"]
    return keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone(10, 1, 2, 4, 4, max_sequence_length=8),
        num_classes=2,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            keras_hub.models.BertTokenizer(vocabulary=words), sequence_length=8
        ),
    )


def with_opinions(model):
    """Returns a task whose words mean something."""
    vectors = np.random.default_rng(0).normal(size=(10, 4))
    model.backbone.token_embedding.embeddings.assign(vectors)
    return model


@pytest.mark.slow
def test_tasks_of_kerashub_are_measured_on_text():
    """In this process, and in the one that times them."""
    model = with_opinions(task(0))
    scores = model.predict(TEXTS.tolist(), verbose=0)
    labels = scores.argmax(axis=1)
    labels[0] = 1 - labels[0]
    data = tf.data.Dataset.from_tensor_slices((TEXTS, labels)).batch(3)
    for split in ((TEXTS, labels), (TEXTS.astype(object), labels), data):
        found = kd.measure(model, split, repeats=5)
        assert found["accuracy"] == 7 / 8
        assert found["latency_ms_p50"] > 0
    agreement = kd.measure(
        model, data, teacher_predictions=scores, latency=False
    )["agreement"]
    assert agreement == 1.0


@pytest.mark.slow
def test_tasks_of_kerashub_take_text():
    teacher, student = with_opinions(task(0)), task(1)
    logits = [m.predict(TEXTS.tolist(), verbose=0) for m in (teacher, student)]
    distiller = distiller_of(teacher, student)
    loss = distiller.fit(TEXTS, LABELS, verbose=0).history["loss"][0]
    # Dropout of the student.
    assert loss == pytest.approx(expected_loss(*logits), rel=0.1)
    found = distiller.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(found, logits[1], atol=1e-5)
    # What is exported takes token ids, so those are the data of compress.
    data = kd.Data((TEXTS, LABELS), (TEXTS, LABELS))
    with pytest.raises(ValueError, match=r"x = .*\.preprocessor\(texts\)"):
        kd.compress(teacher, lambda: task(1), data, "unused")
