# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.data.beam_search import beam_search
from keras_kd.data.decoding import Decoding
from keras_kd.targets.attached import attach_targets
from selection import quick

PADDING, START, END, TOKENS = 0, 1, 2, 6


def build(width=8, head=None, seed=0):
    """A GRU whose state starts at the source: uneven, untrained answers."""
    keras.utils.set_random_seed(seed)
    source = keras.Input((3,))
    so_far = keras.Input((None,), dtype="int32")
    h = layers.Embedding(TOKENS, width, "normal", mask_zero=True)(so_far)
    state = layers.Dense(width)(source)
    h = layers.GRU(width, return_sequences=True)(h, state)
    scale = keras.initializers.RandomNormal(stddev=1.5)
    h = layers.Dense(TOKENS, kernel_initializer=scale, activation=head)(h)
    return keras.Model([source, so_far], h)


def sources(count=5):
    return np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


def next_log_probs(model, source, sequence):
    """Float64 log-probabilities; padding and start are never generated."""
    so_far = np.array([[START, *sequence]], "int32")
    logits = model([source[np.newaxis], so_far])[0, -1]
    logits = np.asarray(logits, "float64")
    logits[[PADDING, START]] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def scores_of(model, source, sequences):
    """Float64 log-probability of each sequence, all in one pass."""
    length = max(map(len, sequences))
    target = np.array([padded(s, length) for s in sequences], "int32")
    inputs, _ = kd.teacher_forced(
        np.repeat(source[np.newaxis], len(target), 0), target, START
    )
    logits = np.array(keras.ops.convert_to_numpy(model(inputs)), "float64")
    logits[..., [PADDING, START]] = -np.inf
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    steps = np.take_along_axis(logits, target[..., np.newaxis], -1)[..., 0]
    return np.where(target == PADDING, 0.0, steps).sum(1)


def beam_twin(model, source, max_length, beam):
    """Beam search written out, one source at a time."""
    kept = [((), 0.0)]
    for _ in range(max_length):
        grown = []
        for sequence, total in kept:
            if sequence[-1:] == (END,):
                grown.append((sequence, total))
                continue
            steps = next_log_probs(model, source, sequence)
            grown += [
                ((*sequence, token), total + steps[token])
                for token in range(END, TOKENS)
            ]
        kept = sorted(grown, key=lambda pair: -pair[1])[:beam]
    return kept


def padded(sequence, length):
    return [*sequence, *[PADDING] * (length - len(sequence))]


def every_sequence(length):
    """All that end, and all that are cut at `length`."""
    inner = range(END + 1, TOKENS)
    for count in range(length):
        for body in itertools.product(inner, repeat=count):
            yield (*body, END)
    yield from itertools.product(inner, repeat=length)


@pytest.mark.parametrize("beam", quick(1, [1, 3]))
def test_generate_equals_search_written_out(beam):
    model, x = build(), sources()
    found = kd.generate(model, x, START, END, 6, beam=beam)
    for row, source in zip(found, x, strict=True):
        best, _ = beam_twin(model, source, 6, beam)[0]
        assert row.tolist() == padded(best, 6)
    lengths = (found != PADDING).sum(1)
    assert len(set(lengths)) > 1  # so finished and running beams were mixed


def test_beam_search_gives_all_beams_in_order_with_their_scores():
    model, x = build(), sources()
    how = Decoding(START, END, 4, 3, PADDING)
    found, scores = beam_search(model, x, None, how)
    assert found.shape == (5, 3, 4)
    assert (np.diff(scores, axis=1) <= 0).all()
    for sequences, totals, source in zip(found, scores, x, strict=True):
        expected = scores_of(model, source, sequences.numpy().tolist())
        np.testing.assert_allclose(totals, expected, rtol=1e-5)


def test_wide_beam_finds_the_most_probable_of_all_sequences():
    model, x = build(), sources()
    greedy = kd.generate(model, x, START, END, 3)
    found = kd.generate(model, x, START, END, 3, beam=TOKENS**2)
    every = list(every_sequence(3))
    differ = 0
    for row, first, source in zip(found, greedy, x, strict=True):
        best = every[scores_of(model, source, every).argmax()]
        assert row.tolist() == padded(best, 3)
        differ += row.tolist() != first.tolist()
    assert differ  # the beam was needed


@pytest.mark.usefixtures("eager")
def test_generate_does_not_depend_on_the_batch_size():
    model, x = build(), sources(7)
    whole = kd.generate(model, x, START, END, 6, beam=2)
    parts = kd.generate(model, x, START, END, 6, beam=2, batch_size=3)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.usefixtures("eager")
def test_generate_reads_a_softmax_head_as_its_logits():
    logits, softmax = build(), build(head="softmax")
    x = sources()
    np.testing.assert_array_equal(
        kd.generate(logits, x, START, END, 6, beam=3),
        kd.generate(softmax, x, START, END, 6, beam=3),
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"end": START}, "three different ids"),
        ({"padding": END}, "three different ids"),
        ({"beam": 0}, "`beam` must be a whole number of at least 1"),
        ({"max_length": 0}, "`max_length` must be a whole number"),
    ],
)
def test_generate_refuses(change, text):
    arguments = {"start": START, "end": END, "max_length": 4, **change}
    with pytest.raises(ValueError, match=text):
        kd.generate(build(), sources(), **arguments)


def test_generate_refuses_a_model_that_gives_nan():
    model = build()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(ValueError, match="gives NaN"):
        kd.generate(model, sources(), START, END, 4)


def references(count=40, length=5):
    rng = np.random.default_rng(1)
    target = rng.integers(END + 1, TOKENS, (count, length)).astype("int32")
    ends = rng.integers(0, length, count)
    places = np.arange(length)
    target[places == ends[:, np.newaxis]] = END
    target[places > ends[:, np.newaxis]] = PADDING
    return kd.teacher_forced(sources(count), target, START)


def test_teacher_forced_shifts_the_target_by_one():
    (source, so_far), target = references()
    assert (so_far[:, 0] == START).all()
    assert so_far.dtype == target.dtype and len(source) == len(target)
    assert (target == PADDING).any()
    for read, write in zip(so_far, target, strict=True):
        write = write[write != PADDING].tolist()
        assert read.tolist() == padded([START, *write[:-1]], 5)


@pytest.mark.parametrize("as_dataset", quick(1, [True, False]))
def test_sequence_level_replaces_the_training_targets_only(as_dataset):
    teacher, split = build(), references()
    data = kd.Data(train=split, validation=split)
    if as_dataset:
        batches = kd.data.as_dataset(split, 16)
        data = kd.Data(train=batches, validation=split)
    with pytest.warns(UserWarning, match="do not end within 5 tokens"):
        made = kd.sequence_level(
            teacher, data, START, END, beam=2, verbose=False
        )
    assert made.validation is split and made.test is split
    written = kd.generate(teacher, split[0][0], START, END, 5, beam=2)
    ended = (written == END).any(1)
    assert 0 < ended.sum() < len(ended)
    (source, so_far), target = made.train
    np.testing.assert_array_equal(target, written[ended])
    np.testing.assert_array_equal(source, split[0][0][ended])
    kept = kd.teacher_forced(source, target, START)[0][1]
    np.testing.assert_array_equal(so_far, kept)


def test_sequence_level_refuses_a_teacher_that_never_ends():
    teacher, split = build(), references()
    bias = teacher.layers[-1].bias
    bias.assign([0, 0, -50, 0, 0, 0])
    data = kd.Data(train=split, validation=split)
    with pytest.raises(ValueError, match="None of the 40 sequences"):
        kd.sequence_level(teacher, data, START, END, verbose=False)


def test_sequence_level_shows_a_progress_bar(capsys):
    split = references()
    data = kd.Data(train=split, validation=split)
    with pytest.warns(UserWarning):
        kd.sequence_level(build(), data, START, END, batch_size=20)
    assert "2/2" in capsys.readouterr().out


class OneStep:
    """The losses of one step, on targets whose padding is filled at will."""

    def __init__(self, levels):
        self.levels = levels

    def __call__(self, fill):
        (source, so_far), target = references()
        target = np.where(target == PADDING, fill, target)
        teacher, student = build(16, seed=1), build(seed=2)
        learner, x = student, (source, so_far)
        if "word" in self.levels:
            learner = kd.Distiller(None, student, temperature=2.0)
            logits = np.array(keras.ops.convert_to_numpy(teacher(x)))
            logits[so_far == PADDING] += fill
            logits[so_far == PADDING, 0] -= 5.0 * fill
            x = attach_targets(x, {"output": logits})
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        learner.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
        logs = learner.train_on_batch(x, target, return_dict=True)
        return logs["loss"], student.get_weights()


@pytest.mark.parametrize("level", ["sequence", "word"])
def test_padding_teaches_nothing(level):
    step = OneStep(level)
    (loss, weights), (other_loss, other_weights) = step(0), step(3)
    assert loss == pytest.approx(other_loss, rel=1e-6)
    for first, second in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_student_learns_from_generated_data():
    """A student that starts elsewhere comes to write what its teacher does."""
    teacher, student = build(), build(16, seed=3)
    split = kd.teacher_forced(
        sources(200), np.full((200, 6), PADDING, "int32"), START
    )
    data = kd.Data(train=split, validation=split)
    with pytest.warns(UserWarning):
        made = kd.sequence_level(teacher, data, START, END, verbose=False)
    source, target = made.train[0][0], made.train[1]

    def agreement():
        found = kd.generate(student, source, START, END, 6)
        return (found == target).all(1).mean()

    before = agreement()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.03), loss)
    student.fit(*made.train, epochs=25, verbose=0)
    assert before < 0.5
    assert agreement() > 0.9
