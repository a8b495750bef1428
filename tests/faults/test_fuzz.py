# SPDX-License-Identifier: Apache-2.0
"""Folders of others: read, refused in words, and nothing of them run."""

from __future__ import annotations

import pickle
import random
import zipfile

import keras
import numpy as np
import pytest

from faults import fuzzing
from faults import mutations
from keras_kd.core.array_files import load_arrays
from keras_kd.core.array_files import save_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fuzzing.fresh(tmp_path_factory.mktemp("before"))


def test_mutated_folders_are_refused_in_words(folder):
    counts, faults = fuzzing.fuzz(folder, 100, seed=1, seconds=8)
    assert not faults
    assert counts["refused"] > counts.total() / 5


@pytest.mark.faults
def test_ten_thousand_mutations_are_refused_in_words(folder):
    counts, faults = fuzzing.fuzz(folder, 10_000, seed=2, seconds=500)
    print(f"fuzz: {counts.total()} tries, {dict(counts)}, faults {len(faults)}")
    assert not faults


@pytest.mark.slow
def test_planted_code_is_never_run(folder, tmp_path):
    """Pickles and Lambda layers where a command looks, one after the other."""
    mark = str(tmp_path / ".ran")
    layer = keras.layers.Lambda(lambda x: open(mark, "w") and x)
    planted = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((4,)), layer]).save(planted)
    (tmp_path / ".ran").unlink(missing_ok=True)
    bomb = mutations.Bomb(tmp_path / ".ran")
    for kind, asked in fuzzing.ASKED.items():
        for path in sorted((folder / kind).rglob("*")):
            if not path.is_file():
                continue
            with mutations.Kept(path):
                if path.suffix == ".keras":
                    path.write_bytes(planted.read_bytes())
                elif path.suffix in (".npz", ".npy"):
                    mutations.into_pickle(path, random.Random(0))
                else:
                    path.write_bytes(pickle.dumps(bomb))
                for ask in asked:
                    fuzzing._answer(ask, folder / kind)
            assert not (tmp_path / ".ran").exists(), path
            assert not list(folder.rglob(".ran")), path
    with pytest.raises(ValueError, match="[Ll]ambda"):
        keras.saving.load_model(planted)


def test_arrays_ask_for_no_more_memory_than_the_file_takes(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"file": np.arange(6.0).reshape(2, 3), "text": np.array(["ü"])}
    save_arrays(path, arrays)
    for name, array in load_arrays(path).items():
        np.testing.assert_array_equal(array, arrays[name])
    # A gigabyte and more, packed into a megabyte.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        with z.open("x.npy", "w", force_zip64=True) as file:
            for _ in range(1025):
                file.write(bytes(2**20))
    with pytest.raises(ValueError, match="bytes are packed in it"):
        load_arrays(path)
    for seed in range(8):
        mutations.into_huge(path, random.Random(seed))
        with pytest.raises(ValueError, match="a.npz cannot be read"):
            load_arrays(path)
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "none.npz")
