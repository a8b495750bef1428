# SPDX-License-Identifier: Apache-2.0
"""Prices of houses: trees teach a small network numbers it has no label for.

    keras-kd run houses

2,930 sales in Ames, Iowa, each described by 73 columns. The teacher is no
Keras model: boosted trees of scikit-learn that learned from the prices of all
2,000 training rows. The student, a small network, has 200 of these prices;
for the other 1,800 rows it has the teacher's answers only. A price that is
not known is -1, and the label loss of this file passes it over.

Columns of words become yes and no, columns of numbers are standardised, both
by the training rows. The settings were chosen by the validation split.

Expected: the distilled student is several thousand dollars nearer to the
price than the same student trained on 200 prices (the control), in as many
steps. (The control gets the rows without a price, too, and they cost nothing;
on the 200 rows alone, in as many steps, one seed was as good on validation.)
The report has no size and no latency of a teacher that is no Keras model.

Data: De Cock 2011, https://doi.org/10.1080/10691898.2011.11889627, in the
Debian package r-cran-modeldata (MIT).
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import sklearn
from keras import layers
from keras import ops
from sklearn.ensemble import GradientBoostingRegressor

import keras_kd as kd
from keras_kd.core.type_aliases import Tensor
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes._r_data import read_lazy


@keras.saving.register_keras_serializable(package="keras_kd.houses")
def error_of_known(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Returns the squared error of a row; 0 where the price is -1."""
    known = ops.cast(y_true >= 0, y_pred.dtype)
    return ops.mean(known * ops.square(y_pred - y_true), axis=-1)


about = dict(
    task="regression, 200 prices",
    data="2,930 house sales, 73 columns (Ames, Iowa)",
    licence="MIT",
    minutes="3",
    gained="+5.59 thousand dollars of mean error (+4.53 to +6.65)",
)
settings = dict(
    task=kd.tasks.Regression(unit="thousand dollars"),
    loss=error_of_known,
    alpha=0.9,  # most rows have no price to learn from
    batch_size=64,
    epochs=60,
    learning_rate=3e-3,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
)

SHA256 = {
    "Rdata.rdx": (
        "c23e1be60f2730fb526ce158a307e154c91a953169fcb8e73350c4e032e14538"
    ),
    "Rdata.rdb": (
        "2ecef5e8da0f782ae4e3f65d928fe769702accffd8981cc358a3097f6736f58f"
    ),
}
PACKAGE = "r-cran-modeldata"
LABEL = "Sale_Price"
TREES = 400
TRAIN, VALIDATION = 2000, 344
RARE = 10  # words of fewer training rows have no input of their own


def load_data(labelled: int | None = 200) -> Data:
    """Returns 2,000 training, 344 validation and 586 test rows.

    Rows are `(count, 236)`, float32; prices `(count, 1)` in thousand dollars.

    Args:
        labelled: How many training rows keep their price; that of the others
            is -1. `None` keeps all.

    Raises:
        FileNotFoundError: If the files can be had from no source.
    """
    sources = {f"the Debian package {PACKAGE}": from_debian}
    files = _fetch.fetch("houses", SHA256, sources)
    index, base = (files[name] for name in SHA256)
    return split(read_lazy(index, base, "ames"), labelled)


def from_debian() -> dict[str, bytes]:
    """Returns the data base of the Debian package."""
    with _sources.debian_package(PACKAGE) as folder:
        place = folder / "usr/lib/R/site-library/modeldata/data"
        return {name: (place / name).read_bytes() for name in SHA256}


def split(table: dict[str, Any], labelled: int | None) -> Data:
    """Returns the splits of a table, drawn once for all."""
    y = np.asarray(table[LABEL], "float32")[:, np.newaxis] / 1000
    order = np.random.default_rng(0).permutation(len(y))
    train, validation, test = np.split(order, [TRAIN, TRAIN + VALIDATION])
    columns = {name: table[name] for name in table if name != LABEL}
    x = numbers(columns, train)
    y_train = y[train]
    if labelled is not None:
        y_train[labelled:] = UNLABELLED
    return Data(
        train=(x[train], y_train),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
    )


def numbers(columns: dict[str, Any], train: np.ndarray) -> np.ndarray:
    """Returns columns as numbers of mean 0, and words as 0 and 1.

    Args:
        columns: Arrays of numbers or words, by name.
        train: Rows that say mean, deviation and which words there are.
    """
    found = []
    for column in map(np.asarray, columns.values()):
        if column.dtype.kind in "if":
            known = column[train]
            deviation = known.std()
            found.append((column - known.mean()) / (deviation or 1.0))
            continue
        words, counts = np.unique(column[train], return_counts=True)
        found += [column == word for word in words[counts >= RARE]]
    return np.stack(found, axis=1).astype("float32")


def load_teacher() -> kd.teachers.CallableTeacher:
    """Returns the trees; they are grown when they are first asked.

    The run keeps their answers, so that one which goes on grows no trees.
    """

    @functools.cache
    def trees():
        x, y = load_data(labelled=None).train
        grown = GradientBoostingRegressor(
            n_estimators=TREES,
            learning_rate=0.05,
            max_depth=4,
            subsample=0.5,
            random_state=0,
        )
        return grown.fit(x, y.ravel())

    return kd.teachers.CallableTeacher(
        lambda x: trees().predict(x)[:, np.newaxis],
        outputs="values",
        identity=f"{TREES} boosted trees of scikit-learn {sklearn.__version__}",
    )


def build_student() -> keras.Model:
    """A network with a hidden layer of 16 and about 3,800 weights."""
    return keras.Sequential(
        [
            keras.Input((236,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(1),
            # The mean of the prices and their deviation, about.
            layers.Rescaling(80.0, offset=180.0),
        ],
        name="student",
    )
