# SPDX-License-Identifier: Apache-2.0
"""The loader on made-up images; the real ones are fetched in a slow test."""

from __future__ import annotations

import gzip
import hashlib
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

from keras_kd import recipes
from keras_kd.data.splits import UNLABELLED
from keras_kd.export.formats.converting import convert
from keras_kd.export.formats.saved_model import write_saved_model
from keras_kd.export.formats.variants import variants
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import fashion_mnist


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_set(monkeypatch):
    """Stands 600 + 50 numbered images in for the 60,000 + 10,000."""
    x = np.arange(650, dtype="float32").reshape(650, 1, 1, 1)
    y = (np.arange(650) % 10).astype("int32")
    parts = x[:600], y[:600], x[600:], y[600:]
    monkeypatch.setattr(fashion_mnist, "download", lambda: parts)
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 50)
    return parts


def test_load_data_trains_on_every_image_but_few_labels(small_set):
    x, y, _, _ = small_set
    data = fashion_mnist.load_data(labelled=30)
    ids, labels = data.train[0].ravel().astype(int), data.train[1]
    np.testing.assert_array_equal(np.sort(ids), np.arange(600))
    known = labels != UNLABELLED
    assert known.sum() == 30
    np.testing.assert_array_equal(labels[known], y[ids[known]])
    np.testing.assert_array_equal(np.bincount(labels[known]), [3] * 10)


def test_load_data_hides_the_validation_labels(small_set):
    data = fashion_mnist.load_data(labelled=30)
    ids, labels = data.train[0].ravel().astype(int), data.train[1]
    validation = data.validation[0].ravel().astype(int)
    assert len(validation) == 50
    assert (labels[np.isin(ids, validation)] == UNLABELLED).all()


def test_teacher_never_sees_the_validation_images(small_set):
    data = fashion_mnist.load_teacher_data()
    ids = data.train[0].ravel().astype(int)
    validation = data.validation[0].ravel().astype(int)
    assert len(ids) == 550 and not np.isin(ids, validation).any()
    assert (data.train[1] != UNLABELLED).all()
    student = fashion_mnist.load_data(labelled=30)
    np.testing.assert_array_equal(student.validation[0], data.validation[0])


def test_test_split_is_the_official_one(small_set):
    _, _, x_test, y_test = small_set
    for data in (
        fashion_mnist.load_data(labelled=30),
        fashion_mnist.load_teacher_data(),
    ):
        np.testing.assert_array_equal(data.test[0], x_test)
        np.testing.assert_array_equal(data.test[1], y_test)


@pytest.mark.parametrize("labelled", [0, -10, 25, 560])
def test_load_data_refuses_uneven_label_counts(small_set, labelled):
    with pytest.raises(ValueError, match=f"Received: {labelled}"):
        fashion_mnist.load_data(labelled=labelled)


def test_offline_error_names_all_three_tries(own_home, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(_sources.shutil, "which", lambda tool: None)
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist.load_data()
    message = str(caught.value)
    assert f"the cache {own_home}" in message
    assert "keras.datasets.fashion_mnist: URLError" in message
    assert "the Debian package dataset-fashion-mnist: OSError" in message


def test_sources_deliver_the_same_bytes(own_home, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    shapes = [(6, 28, 28), (6,), (3, 28, 28), (3,)]
    expected = [rng.integers(0, 9, shape, "u1") for shape in shapes]
    folder = tmp_path / "usr/share/datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for name, array in zip(fashion_mnist.SHA256, expected, strict=True):
        header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
        content = gzip.compress(header + array.tobytes())
        (folder / f"{name}.gz").write_bytes(content)
    monkeypatch.setattr(fashion_mnist, "KERAS_HOST", f"{folder.as_uri()}/")
    files = fashion_mnist.from_keras()

    @contextmanager
    def package(name):
        yield tmp_path

    monkeypatch.setattr(_sources, "debian_package", package)
    assert fashion_mnist.from_debian() == files
    arrays = [_fetch.parse_idx(files[name]) for name in fashion_mnist.SHA256]
    for array, given in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, given, strict=True)


@pytest.mark.slow
def test_students_int8_file_is_a_fiftieth_of_the_teachers(tmp_path):
    """Untrained: what a kernel holds does not change what it takes."""
    images = np.random.default_rng(0).random((8, 28, 28, 1), "float32")
    sizes = {}
    for build, quantize in (
        (fashion_mnist.build_teacher, None),
        (fashion_mnist.build_student, "int8"),
    ):
        folder = tmp_path / build.__name__
        write_saved_model(build(), folder, batch_size=1, names={"input": "x"})
        content = convert(folder, quantize, {"x": images})
        sizes[quantize] = len(content)
    # A fitted batch normalisation has longer names: about 1 KB of them.
    assert sizes[None] > 50 * (sizes["int8"] + 400)


def test_the_recipe_makes_an_int8_file_beside_the_float32_one():
    settings = recipes.settings_of(fashion_mnist)
    assert variants(settings["quantize"]) == {
        "tflite.float32": None,
        "tflite.int8": "int8",
    }


@pytest.mark.slow
def test_real_images_arrive_whole(own_home):
    data = fashion_mnist.load_data()
    assert data.train[0].shape == (60000, 28, 28, 1)
    assert data.train[0].max() == 1.0
    assert (data.train[1] != UNLABELLED).sum() == 3000
    np.testing.assert_array_equal(np.bincount(data.test[1]), [1000] * 10)
    for name, expected in fashion_mnist.SHA256.items():
        cached = own_home / "datasets" / "fashion_mnist" / name
        found = hashlib.sha256(cached.read_bytes()).hexdigest()
        assert found == expected


@pytest.mark.slow
def test_debian_package_works_without_the_systems_lists(own_home, monkeypatch):
    run, calls = _sources.run, []

    def without_system_lists(command, folder):
        calls.append(command)
        if command[:2] == ["apt-get", "download"]:
            raise OSError("Unable to locate package")
        run(command, folder)

    monkeypatch.setattr(_sources, "run", without_system_lists)
    _fetch.check_hashes(fashion_mnist.from_debian(), fashion_mnist.SHA256)
    assert any("update" in command for command in calls)
