# SPDX-License-Identifier: Apache-2.0
"""The loader on a made-up index; Debian's own is read in a slow test."""

from __future__ import annotations

import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import debtags

INDEX = """Package: libfoo-perl
Source: foo (1.2)
Description: reads Foo: the format
Tag: devel::library,
 implemented-in::perl, suite::TODO
Size: 3

Package: bare
Description: has no tags

Package: bar
Description: a game
Tag: use::gameplaying
"""


@pytest.fixture
def forty(monkeypatch):
    """Two packages of each of twenty sources; one tag tells them apart."""
    lines = [
        f"p{source}-{kind}\ts{source:02}\tword{source}\ttag::{kind}"
        for source in range(20)
        for kind in ("a", "b")
    ]
    files = {debtags.FILE: "\n".join(lines).encode()}
    monkeypatch.setattr(_fetch, "fetch", lambda *_: files)


def test_tagged_packages_are_read_from_an_index():
    content = debtags.tagged_only(INDEX)
    assert content.splitlines() == [
        "bar\tbar\ta game\tuse::gameplaying",
        "libfoo-perl\tfoo\treads Foo: the format\t"
        "devel::library, implemented-in::perl, suite::TODO",
    ]
    bar, foo = debtags.parse(content)
    assert bar == ("bar", "bar a game", ["use::gameplaying"])
    assert foo[0] == "foo"
    assert foo[2] == ["devel::library", "implemented-in::perl"]  # no TODO
    assert debtags.words_of(foo[1])[:3] == ["libfoo", "perl", "reads"]


def test_sources_are_in_one_split_and_tags_are_hidden(forty, monkeypatch):
    monkeypatch.setattr(debtags, "TAGS", 2)
    data, full = debtags.load_data(6), debtags.load_teacher_data()
    splits = [data.train, data.validation, data.test]
    assert [x.shape for x, _ in splits] == [(32, 16), (4, 16), (4, 16)]
    known = (data.train[1] != UNLABELLED).all(axis=1)
    assert known.sum() == 6
    assert (data.train[1][~known] == UNLABELLED).all()
    np.testing.assert_array_equal(data.train[1][known], full.train[1][known])
    np.testing.assert_array_equal(full.train[1][:2], [[1, 0], [0, 1]])
    assert full.train[0].dtype == full.train[1].dtype == "int32"
    # Only words of the training split have numbers; 0 is padding.
    assert (full.train[0][:, :3] > 1).all() and (
        full.train[0][:, 3:] == 0
    ).all()
    for x, _ in splits[1:]:
        assert (x[:, [0, 2]] == 1).all() and (x[:, 1] > 1).all()


def test_private_list_is_made_where_apt_has_none(monkeypatch):
    updates, lists = [], iter(["", "one.lz4\ntwo.lz4"])

    def said_by(*command):
        return INDEX if "cat-file" in command else next(lists)

    monkeypatch.setattr(debtags, "said_by", said_by)
    monkeypatch.setattr(_sources, "run", lambda c, _: updates.append(c[-1]))
    files = debtags.from_apt()
    assert files == {debtags.FILE: debtags.tagged_only(INDEX).encode()}
    assert updates == ["update"]
    lists = iter(["", ""])
    with pytest.raises(FileNotFoundError, match="no list of Debian 12"):
        debtags.from_apt()


@pytest.mark.slow
def test_real_index_is_as_described():
    data = debtags.load_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [24082, 3056, 3165]
    assert (data.train[1] >= 0).all(axis=1).sum() == 500
    assert data.test[1].sum(axis=0).min() >= 20
