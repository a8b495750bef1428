# SPDX-License-Identifier: Apache-2.0
"""TeacherCache: what is stored is what the teacher said, of any data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.targets.hashing.fingerprint import fingerprints
from targets.labelled import build
from targets.labelled import contents
from targets.labelled import samples
from targets.labelled import teacher

X = samples()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 25

    def __getitem__(self, index):
        return X[index * 40 : (index + 1) * 40], np.zeros(40)


def test_stored_logits_are_the_teachers(tmp_path):
    cache = build(tmp_path)
    rows = np.array([0, 299, 300, 999, 5])
    stored = cache.read(rows)["output"]["values"]
    np.testing.assert_allclose(stored, teacher()(X[rows]), rtol=1e-6)
    assert len(cache) == 1000
    assert [len(shard) for shard in cache.shards] == [300, 300, 300, 100]
    np.testing.assert_array_equal(cache.fingerprints, fingerprints(X).numpy())


def test_taps_and_output_are_stored_side_by_side(tmp_path):
    cache = build(tmp_path, taps=("output", "hidden"))
    rows = np.arange(0, 1000, 7)
    found = cache.read(rows)
    expected = kd.tap(teacher(), ["hidden", "output"])(X[rows])
    assert list(found) == ["output", "hidden"]
    for tap, fields in found.items():
        np.testing.assert_allclose(
            fields["values"], expected[tap], rtol=1e-5, atol=1e-6
        )


def test_probabilities_are_stored_as_logits(tmp_path):
    cache = build(tmp_path, who=teacher(activation="softmax"))
    stored = cache.read(np.arange(9))["output"]["values"]
    expected = tf.nn.log_softmax(teacher()(X[:9]))
    np.testing.assert_allclose(
        tf.nn.log_softmax(stored), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{"dtype": "float16"}, {"dtype": "float32"}, {"top_k": 2}, {"sampled": 5}],
    ids=str,
)
def test_each_encoding_comes_back_from_disk(tmp_path, options):
    build(tmp_path, **options)
    cache = kd.TeacherCache.open(tmp_path)
    found = cache.read(np.arange(1000))["output"]
    # What was learned of the data, such as the classes, is there again.
    encoding = cache.encodings["output"]
    expected = encoding.fields(teacher()(X).numpy())
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        assert array.shape == expected[name].shape
        if "sampled" not in options:  # the last bit changes what is drawn
            np.testing.assert_allclose(
                array.astype("float32"),
                expected[name].astype("float32"),
                rtol=2e-3,
                atol=2e-3,
            )


@pytest.fixture(scope="module")
def of_arrays(tmp_path_factory):
    return contents(build(tmp_path_factory.mktemp("one")).directory)


@pytest.mark.parametrize(
    "data",
    [
        (X, np.zeros(1000)),
        tf.data.Dataset.from_tensor_slices((X, np.zeros(1000))).batch(64),
        tf.data.Dataset.from_tensor_slices(X).batch(37),
        Batches(),
    ],
    ids=["arrays", "dataset", "inputs only", "PyDataset"],
)
def test_any_form_of_data_gives_the_same_files(tmp_path, of_arrays, data):
    cache = kd.TeacherCache(tmp_path, shard_size=300, dtype="float32").build(
        teacher(), data, batch_size=64, verbose=False
    )
    assert len(cache) == 1000
    assert contents(tmp_path) == of_arrays


def test_inputs_of_several_tensors_and_strings(tmp_path):
    words = np.array([["a b"], ["c"], ["d e f"]] * 4)
    x = {"numbers": X[:12], "words": words}

    def count(x):
        return np.stack([[len(w[0].split())] for w in x["words"]]) + 0.0

    cache = kd.TeacherCache(tmp_path, shard_size=5).build(
        kd.teachers.CallableTeacher(count), (x,), verbose=False
    )
    stored = cache.read(np.arange(12))["output"]["values"]
    np.testing.assert_array_equal(stored[:, 0], [2, 1, 3] * 4)
    assert len(set(cache.fingerprints)) == 12


class Counting:
    """A teacher that counts what it is asked."""

    def __init__(self):
        self._asked = 0

    def __call__(self, x):
        self._asked += len(x)
        return x


def test_build_asks_the_teacher_once_for_each_sample(tmp_path):
    counting = Counting()
    for _ in range(2):
        # It changes with each call; the name says that this is no matter.
        named = kd.teachers.CallableTeacher(counting, identity="counting 1")
        build(tmp_path, who=named)
        assert counting._asked == 1000


def test_extend_labels_new_samples_only(tmp_path):
    taps = ("output", "hidden")  # not in the order of the alphabet
    cache = build(tmp_path, X[:500], taps=taps)
    old = contents(tmp_path)
    cache.extend(teacher(), (X[400:],), batch_size=64, verbose=False)
    assert len(cache) == 1000
    np.testing.assert_array_equal(cache.fingerprints, fingerprints(X).numpy())
    for tap, expected in kd.tap(teacher(), taps)(X).items():
        stored = cache.read(np.arange(1000))[tap]["values"]
        np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)
    new = contents(tmp_path)
    assert all(new[p] == old[p] for p in old if p != "manifest.json")
    assert not any(problem for _, problem in cache.verify())
    # Again, and the first part alone: nothing is left to do.
    cache.extend(teacher(), (X,), verbose=False)
    build(tmp_path, X[:500], taps=taps)
    assert contents(tmp_path) == new


def test_open_reads_the_settings(tmp_path):
    build(tmp_path, top_k=2, shard_size=77)
    cache = kd.TeacherCache.open(tmp_path)
    assert cache.options.top_k == 2
    assert cache.options.shard_size == 77
    info = cache.info()
    assert info["samples"] == 1000
    assert info["bytes"] == sum(map(len, contents(tmp_path).values()))


def other(**changes):
    return lambda path: build(path, **changes)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (other(dtype="float16"), "dtype: 'float32' there, 'float16' here"),
        (other(taps=("hidden",)), "taps"),
        (other(who=teacher(seed=5)), "teacher: '.*' there"),
        (other(part=(0, 2)), "part: None there, .0, 2. here"),
        (other(x=X[::-1].copy()), "Sample 0 of the data .* Expected: 0x"),
        (other(x=X[:600]), None),
        (other(x=X[:650]), "Sample 650 .* Received: no sample"),
        (other(x=np.tile(X, (2, 1))), "Sample 1000 .* Expected: no sample"),
        (lambda path: kd.TeacherCache(path), "shard_size"),
        (lambda path: kd.TeacherCache.open(path / "no"), "no teacher cache"),
        (lambda path: len(kd.TeacherCache(path / "no")), "not finished"),
        (lambda path: kd.TeacherCache.open(path).read([1000]), "0 to 999"),
        (lambda path: kd.TeacherCache.open(path).read([0], 1), "views"),
    ],
)
def test_finished_cache_refuses_other_settings_and_data(
    tmp_path_factory, call, text
):
    path = tmp_path_factory.getbasetemp() / "refusing"
    if not path.exists():
        build(path)
    before = contents(path)
    if text is None:
        call(path)
    else:
        with pytest.raises(ValueError, match=text):
            call(path)
    assert contents(path) == before


def poisoned(value, row):
    x = X.copy()
    x[row, 0] = value
    return x


ECHO = kd.teachers.CallableTeacher(lambda x: x)
ENDLESS = tf.data.Dataset.from_tensor_slices(X[:8]).batch(4).repeat()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (other(x=poisoned(np.nan, 417), who=ECHO), "nan for sample 417"),
        (other(x=poisoned(np.inf, 64), who=ECHO), "inf for sample 64"),
        (other(top_k=2, sampled=3), "not both"),
        (other(top_k=3), "`k` must be below"),
        (other(dtype="int8"), "dtype"),
        (other(shard_size=0), "shard_size"),
        (other(part=(3, 3)), "`part` must be"),
        (other(taps=("hiden",)), "Did you mean.*hidden"),
        (other(x=X[:0]), "empty"),
        (other(who=kd.teachers.EMATeacher()), "can be stored"),
        (
            lambda path: kd.TeacherCache(path).build(teacher(), ENDLESS),
            "repeats forever",
        ),
    ],
)
def test_bad_build_is_answered_in_words(tmp_path, call, text):
    with pytest.raises(ValueError, match=text):
        call(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_building_shows_speed(tmp_path, capsys):
    build(tmp_path, verbose=True)
    assert "samples/s" in capsys.readouterr().out
