# SPDX-License-Identifier: Apache-2.0
"""Decoder-only models: prompts that are gone on with."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd

PADDING, END, TOKENS = 0, 2, 7
PROMPTS = np.array([[3, 4, 5], [5, 0, 0], [6, 1, 0], [4, 4, 3]], "int32")


def build(length=None, head=None, seed=0):
    """A causal model whose untrained answers are uneven."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(TOKENS, 8, "normal")(tokens)
    x = layers.Conv1D(8, 4, padding="causal", activation="tanh")(x)
    scale = keras.initializers.RandomNormal(stddev=2.0)
    x = layers.Dense(TOKENS, kernel_initializer=scale, activation=head)(x)
    return keras.Model(tokens, x)


def hub_model():
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(3)
    backbone = keras_hub.models.GPT2Backbone(TOKENS, 2, 2, 8, 16, 0.0, 32)
    model = keras_hub.models.GPT2CausalLM(backbone)
    embedding = backbone.token_embedding.embeddings
    embedding.assign(np.random.default_rng(1).normal(size=embedding.shape))
    return model


def logits_after(model, sequence):
    """Float64 logits of the next token, from `predict`."""
    width = model.inputs[0].shape[1] or 8
    sequence = sequence[-width:]
    # Of one width, as the model is traced for each; what follows is not seen.
    x = np.array([[*sequence, *[PADDING] * (width - len(sequence))]], "int32")
    if isinstance(model.input, dict):
        x = {"token_ids": x, "padding_mask": np.arange(8) < len(sequence)}
        x["padding_mask"] = x["padding_mask"][np.newaxis]
    return np.float64(model.predict_on_batch(x)[0, len(sequence) - 1])


def twin(model, prompts, length, temperature=0.0, top_k=TOKENS, end=END):
    """The loop written out: one prompt, one token at a time."""
    chance = np.random.default_rng(0).random((len(prompts), length))
    found = np.full((len(prompts), length), PADDING)
    for row, prompt in enumerate(prompts):
        sequence = [token for token in prompt.tolist() if token != PADDING]
        for step in range(length):
            logits = logits_after(model, sequence)
            logits[PADDING] = -np.inf
            token = logits.argmax()
            if temperature:
                logits[np.argsort(logits)[:-top_k]] = -np.inf
                shares = np.exp((logits - logits.max()) / temperature)
                below = np.cumsum(shares / shares.sum())
                token = np.searchsorted(below, chance[row, step], "right")
            found[row, step] = token
            sequence.append(int(token))
            if token == end:
                break
    return found


@pytest.mark.parametrize(
    ("length", "draw", "end"),
    [
        (None, {}, END),
        (None, {"temperature": 1.5}, END),
        (4, {"temperature": 0.7, "top_k": 3}, None),
    ],
    ids=["greedy", "drawn", "drawn of three, in a window"],
)
def test_generate_equals_the_loop_over_predict(length, draw, end):
    model = build(length)
    found = kd.generate(model, PROMPTS, end=end, max_length=5, **draw)
    expected = twin(model, PROMPTS, 5, end=end, **draw)
    np.testing.assert_array_equal(found, expected)
    lengths = (found != PADDING).sum(1)
    assert (len(set(lengths)) > 1) == (end is not None)


@pytest.mark.usefixtures("eager")
def test_beam_goes_on_with_a_short_prompt_among_longer_ones():
    model = build()
    beam = {"end": END, "max_length": 4, "beam": 3}
    found = kd.generate(model, PROMPTS, **beam)
    alone = kd.generate(model, PROMPTS[1:2, :1], **beam)
    np.testing.assert_array_equal(found[1], alone[0])


@pytest.mark.usefixtures("eager")
def test_draws_depend_on_the_seed_and_not_on_the_batch_size():
    model = build(head="softmax")
    draw = {"max_length": 5, "temperature": 1.0}
    found = kd.generate(model, PROMPTS, **draw)
    parts = kd.generate(model, PROMPTS, batch_size=3, **draw)
    np.testing.assert_array_equal(found, parts)
    logits = kd.generate(build(), PROMPTS, **draw)
    np.testing.assert_array_equal(found, logits)
    assert (kd.generate(model, PROMPTS, seed=1, **draw) != found).any()


@pytest.mark.slow
@pytest.mark.parametrize("draw", [{}, {"temperature": 1.0, "top_k": 4}])
def test_kerashub_cache_gives_what_its_model_does_without(draw):
    model = hub_model()
    sampler = model.sampler
    found = kd.generate(model, PROMPTS, end=END, max_length=5, **draw)
    np.testing.assert_array_equal(found, twin(model, PROMPTS, 5, **draw))
    assert model.sampler is sampler
    plain = keras.Model(model.input, model.output)
    without = kd.generate(plain, PROMPTS, end=END, max_length=5, **draw)
    np.testing.assert_array_equal(found, without)


def test_teacher_forced_weighs_only_what_was_written():
    target = np.array([[6, 2], [5, 3], [2, 0], [2, 0]])
    x, y, weight = kd.teacher_forced(PROMPTS, target)
    assert x[0].tolist() == [3, 4, 5, 6] and y[0].tolist() == [4, 5, 6, 2]
    assert x[1].tolist() == [5, 5, 0, 0] and y[1].tolist() == [5, 3, 0, 0]
    assert x[2].tolist() == [6, 1, 0, 0] and y[2].tolist() == [1, 2, 0, 0]
    assert x[3].tolist() == [4, 4, 3, 0] and y[3].tolist() == [4, 3, 2, 0]
    assert weight.tolist() == [
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
    ]


@pytest.mark.usefixtures("eager")
def test_sequence_level_writes_after_the_prompts_and_weights_count():
    """Weights of a prompt and of padding are 0, for both levels at once."""
    teacher, student = build(), build(seed=1)
    data = kd.Data((PROMPTS, PROMPTS), (PROMPTS, PROMPTS))
    how = {"end": END, "max_length": 3, "verbose": False}
    made = kd.sequence_level(teacher, data, beam=1, **{**how, "end": None})
    written = kd.generate(teacher, PROMPTS, max_length=3)
    for part, expected in zip(
        made.train, kd.teacher_forced(PROMPTS, written), strict=True
    ):
        np.testing.assert_array_equal(part, expected)
    assert made.validation is data.validation

    x, y, weight = made.train
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    step = distiller.train_on_batch(x, y, weight, return_dict=True)
    p = np.float64(keras.ops.log_softmax(teacher(x)))
    q = np.float64(keras.ops.log_softmax(student(x)))
    between = (np.exp(p) * (p - q)).sum(-1)
    label = -np.take_along_axis(q, y[..., None], -1)[..., 0]
    expected = (weight * (0.5 * between + 0.5 * label)).sum() / weight.size
    assert step["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("prompts", "change", "text"),
    [
        (PROMPTS, {"start": 1}, "takes tokens alone"),
        (PROMPTS, {"temperature": -1}, "`temperature` must be 0"),
        (PROMPTS, {"temperature": 1, "beam": 2}, "draws nothing by chance"),
        (PROMPTS, {"top_k": 2}, "`temperature` above 0"),
        (PROMPTS * 0, {}, "none in row 0, and 4 such rows"),
        (PROMPTS.astype(float), {}, "must be token ids"),
        (np.array(["go on"]), {}, "tokenizer of the model"),
    ],
)
def test_generate_refuses(prompts, change, text):
    with pytest.raises(ValueError, match=text):
        kd.generate(build(), prompts, **change)


def test_what_is_not_known_of_prompts_is_asked_for():
    tokens = [keras.Input((None,)), keras.Input((None,))]
    both = keras.Model(tokens, layers.Add()(tokens))
    with pytest.raises(ValueError, match="Expected `start`"):
        kd.generate(both, PROMPTS)
    data = kd.Data((PROMPTS, PROMPTS), (PROMPTS, PROMPTS))
    with pytest.raises(ValueError, match="Expected `max_length`"):
        kd.sequence_level(build(), data)


@pytest.mark.slow
def test_on_policy_student_comes_near_its_teacher_where_it_writes():
    teacher, student = build(), build(seed=1)
    prompts = np.random.default_rng(0).integers(3, TOKENS, (64, 3))

    def written(seed):
        draw = {"max_length": 5, "temperature": 1.0, "seed": seed}
        return kd.teacher_forced(prompts, kd.generate(student, prompts, **draw))

    def apart():
        x, _, weight = written(seed=99)
        p, q = (
            np.float64(keras.ops.log_softmax(model(x)))
            for model in (teacher, student)
        )
        between = (np.exp(q) * (q - p)).sum(-1)
        return (weight * between).sum() / weight.sum()

    loss = kd.losses.SoftTargets(1.0, divergence="jensen_shannon", beta=0.5)
    distiller = kd.Distiller(
        teacher, student, alpha=1.0, distillation_losses=loss
    )
    distiller.compile(keras.optimizers.Adam(0.02))
    before = apart()
    for turn in range(4):
        x, y, weight = written(turn)
        distiller.fit(
            x, y, sample_weight=weight, epochs=15, batch_size=16, verbose=0
        )
    assert apart() < 0.3 * before
