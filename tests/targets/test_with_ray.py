# SPDX-License-Identifier: Apache-2.0
"""A cluster's Parquet files become the cache that one machine makes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import keras_kd as kd
from keras_kd.engines import shipping
from keras_kd.targets.build import with_ray
from targets.labelled import build
from targets.labelled import samples
from targets.labelled import teacher

ray = pytest.importorskip("ray.data", reason="pip install 'keras_kd[ray]'")
X = samples(100)


class Rows:
    """As much of a data set of Ray as is used, in this process."""

    def __init__(self, blocks):
        self.blocks = blocks

    def select_columns(self, names):
        return Rows([{n: b[n] for n in names} for b in self.blocks])

    def map_batches(self, actor, fn_constructor_args, **_):
        self.actor = actor(*fn_constructor_args)
        return self

    def iter_rows(self):
        for block in self.blocks:
            yield {"samples": self.actor(block)["samples"][0]}


def blocks(x, size):
    return Rows(
        [
            {"image": x[at : at + size], "y": np.zeros(len(x[at : at + size]))}
            for at in range(0, len(x), size)
        ]
    )


def label(folder, x=X, who=None, size=30, **options):
    given = blocks(x, size), who or teacher(), folder, "image"
    options = {"batch_size": 16, "verbose": 0, **options}
    return kd.targets.label_with_ray(*given, **options)


@pytest.mark.parametrize(
    "options", [{"dtype": "float32"}, {"top_k": 2}, {"taps": ("hidden",)}]
)
def test_cache_of_files_holds_what_one_process_stores(tmp_path, options):
    files = label(tmp_path / "files", **options)
    assert len(files) == 4
    cache = kd.TeacherCache.from_parquet(tmp_path / "files", tmp_path / "cache")
    assert {problem for _, problem in cache.verify()} == {""}
    options = {"dtype": "float16"} | options
    whole = build(tmp_path / "whole", x=X, batch_size=16, **options)
    rows = [list(whole.fingerprints).index(m) for m in cache.fingerprints]
    for tap, fields in cache.read(np.arange(100)).items():
        for name, found in fields.items():
            expected = whole.read(rows)[tap][name]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    batch = next(iter(cache.attach((X[::-1], np.zeros(100)), batch_size=10)))
    assert np.array_equal(batch[0]["inputs"], X[::-1][:10])


def test_finished_files_are_not_asked_again(tmp_path, monkeypatch):
    asked = []
    ask = with_ray.ask
    monkeypatch.setattr(
        with_ray, "ask", lambda a, x: asked.append(len(x)) or ask(a, x)
    )
    label(tmp_path, X[:60])
    assert sum(asked) == 60
    label(tmp_path, X, size=25)  # blocks that are cut otherwise
    assert sum(asked) == 100
    label(tmp_path, X)
    assert sum(asked) == 100
    with pytest.raises(ValueError, match="teacher"):
        label(tmp_path, who=teacher(seed=5))
    x = X.copy()
    x[3, 0] = np.inf  # a ReLU hides NaN
    with pytest.raises(ValueError, match="must be finite"):
        label(tmp_path / "other", x)


def test_damaged_files_are_named(tmp_path):
    path, *_ = label(tmp_path / "files")
    content = path.read_bytes()
    for broken in (content[:-9], content[:40] + b"x" + content[41:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=path.name):
            kd.TeacherCache.from_parquet(path.parent, tmp_path / "cache")
    with pytest.raises(ValueError, match="without a Parquet file"):
        kd.TeacherCache.from_parquet(tmp_path, tmp_path / "cache")


def test_several_columns_are_a_dict(tmp_path):
    fields = {f.name: None for f in dataclasses.fields(with_ray.Labeller)}
    asked = []

    class Said(with_ray.Labeller):
        def _stored(self, x, place):
            asked.append(x)
            return {"tap0.values": np.zeros((len(x["a"]), 1, 3), "float32")}

    given = {"directory": tmp_path, "columns": ("a", "b"), "is_one": False}
    given |= {"encodings": {}, "settings": {}, "batch_size": 9, "asked": 0}
    given |= {"known": np.zeros(0, "uint64")}
    one = shipping.unpacked(shipping.packed(Said(**fields | given)))
    assert one.label({"a": X[:4], "b": X[:4] + 1, "c": X[:4]}) == 4


@pytest.mark.slow
def test_labels_on_a_cluster(tmp_path):
    import ray as cluster

    cluster.init("local", num_cpus=4, include_dashboard=False)
    try:
        x = samples(500)
        dataset = ray.from_items([{"image": row} for row in x])
        given = dataset, teacher(), tmp_path / "files", "image"
        options = {"file_size": 100, "dtype": "float32", "verbose": 0}
        with pytest.raises(ValueError, match="has 4 CPUs"):
            kd.targets.label_with_ray(*given, workers=4)
        files = kd.targets.label_with_ray(*given, **options)
        assert len(files) >= 5
        again = kd.targets.label_with_ray(*given, **options)
        assert files == again
    finally:
        cluster.shutdown()
    cache = kd.TeacherCache.from_parquet(tmp_path / "files", tmp_path / "cache")
    whole = build(tmp_path / "whole", x=x)
    order = np.argsort(cache.fingerprints), np.argsort(whole.fingerprints)
    found, expected = (
        c.read(rows)["output"]["values"]
        for c, rows in zip((cache, whole), order, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
