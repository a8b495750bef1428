# SPDX-License-Identifier: Apache-2.0
"""Movies somebody will like: embeddings a quarter as wide, taught to rank.

    keras-kd run movies

671 people and the movies they gave four stars or more. A model sees which
movies a person has liked so far and gives every movie a score; those liked
already are left out (-1e9). The teacher's embeddings are 128 wide, the
student's 32, so its file is a quarter as large.

Time splits each person's likes: the last fifth is the test split, the tenth
before it the validation split. What stands before is training: cut at ten
places, each time with the likes after the cut as labels. The 2,000 movies that
have most likes in training are there, and all of them are ranked. The settings
were chosen by the validation split.

Expected: no gain that five seeds show, and a .tflite file of a quarter of the
teacher's bytes. Student and teacher learned from the same likes, and a narrow
model of few data is not far behind a wide one.

Data: MovieLens latest-small of 2016 in the Debian package r-cran-dslabs
(Artistic-2.0). The ratings have GroupLens' own terms: research use, no
commercial use without permission, cite Harper, Konstan 2015,
https://doi.org/10.1145/2827872
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_kd.data.splits import Data
from keras_kd.losses.ranking import Ranking
from keras_kd.losses.soft_targets import SoftTargets
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes._r_data import read_lazy
from keras_kd.tasks.recommendation import Recommendation

about = dict(
    task="recommendation, embeddings a quarter as wide",
    data="100,004 ratings of 671 people (MovieLens)",
    licence="GroupLens: research, cite",
    minutes="5",
    gained="+0.09 points of NDCG@10, no gain (-0.36 to +0.54)",
)
settings = dict(
    task=Recommendation(top_k=10),
    # Several movies are right, each as much as the others.
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    distillation_losses=[Ranking(10), SoftTargets(1.0)],
    alpha=0.7,
    batch_size=128,
    teacher_epochs=20,
    teacher_learning_rate=2e-3,
    epochs=20,
    learning_rate=2e-3,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
)

SHA256 = {
    "Rdata.rdx": (
        "97e59cc21906407fe85a369cd92a765ea050e69346d4043545471972bd02a6b3"
    ),
    "Rdata.rdb": (
        "7f740c8802abcf5de56096417560b2d5be317c59f30d50c9d37548695952aa3b"
    ),
}
PACKAGE = "r-cran-dslabs"
LIKED = 4.0  # stars
FEWEST = 10  # likes of a person
CUTS = 10
MOVIES = 2_000
LEFT_OUT = -1e9


def load_data() -> Data:
    """Returns likes up to a moment, and those that follow.

    `x` is uint8 `(count, movies)`, 1 for what was liked before; `y` float32
    of that shape, the likes after it, which sum to 1.

    Raises:
        FileNotFoundError: If the files can be had from no source.
    """
    sources = {f"the Debian package {PACKAGE}": from_debian}
    files = _fetch.fetch("movies", SHA256, sources)
    found = read_lazy(files["Rdata.rdx"], files["Rdata.rdb"], "movielens")
    return split(found)


def from_debian() -> dict[str, bytes]:
    """Returns the data base of the Debian package."""
    with _sources.debian_package(PACKAGE) as folder:
        place = folder / "usr/lib/R/site-library/dslabs/data"
        return {name: (place / name).read_bytes() for name in SHA256}


def split(table: dict[str, Any]) -> Data:
    """Returns the splits of a table of ratings, by time for each person."""
    rows = np.lexsort((table["timestamp"], table["userId"]))
    rows = rows[table["rating"][rows] >= LIKED]
    people, starts = np.unique(table["userId"][rows], return_index=True)
    likes = np.split(table["movieId"][rows], starts[1:])
    # Per person: likes to train on, and up to the end of validation.
    parts = [
        (each, int(0.7 * len(each)), int(0.8 * len(each)))
        for each in likes
        if len(each) >= FEWEST
    ]
    trained = np.concatenate([each[:first] for each, first, _ in parts])
    ids, counts = np.unique(trained, return_counts=True)
    known = np.sort(ids[np.argsort(-counts, kind="stable")[:MOVIES]])
    rng = np.random.default_rng(0)
    pairs: dict[str, list] = {"train": [], "validation": [], "test": []}
    for each, first, second in parts:
        for cut in rng.integers(1, first, CUTS):
            pairs["train"].append((each[:cut], each[cut:first]))
        pairs["validation"].append((each[:first], each[first:second]))
        pairs["test"].append((each[:second], each[second:]))
    return Data(
        train=marked(pairs["train"], known),
        validation=marked(pairs["validation"], known),
        test=marked(pairs["test"], known),
    )


def marked(
    pairs: list[tuple[np.ndarray, np.ndarray]], known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `(x, y)` of likes before and after; those with none are left out.

    Args:
        pairs: Numbers of movies, before and after a moment.
        known: Numbers of the movies that there are.
    """
    x, y = (
        np.stack([np.isin(known, pair[side]) for pair in pairs])
        for side in (0, 1)
    )
    y = (y & ~x).astype("float32")
    has_label = y.any(axis=1)
    x, y = x[has_label].astype("uint8"), y[has_label]
    return x, y / y.sum(axis=1, keepdims=True)


def ranker(width: int, dropout: float, name: str) -> keras.Model:
    """A model that embeds what was liked, and scores movies beside that."""
    seen = keras.Input((MOVIES,), dtype="uint8", name="liked")
    liked = ops.cast(seen, "float32")
    # The more likes, the less each counts.
    total = ops.sum(liked, axis=-1, keepdims=True)
    x = liked / ops.sqrt(ops.maximum(total, 1.0))
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(width, activation="tanh", name="embedding")(x)
    scores = layers.Dense(MOVIES, name="scores")(x)
    # Not -inf: a target must be finite.
    scores = ops.where(liked > 0, LEFT_OUT, scores)
    return keras.Model(seen, scores, name=name)


def build_teacher() -> keras.Model:
    """Embeddings of 128, about 514,000 weights."""
    return ranker(128, dropout=0.5, name="teacher")


def build_student() -> keras.Model:
    """Embeddings of 32, about 130,000 weights."""
    return ranker(32, dropout=0.5, name="student")
