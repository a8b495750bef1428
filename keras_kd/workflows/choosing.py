# SPDX-License-Identifier: Apache-2.0
"""Choosing between trained models, by their figures on the validation split."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_kd import tasks
from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import Split
from keras_kd.training.trainer import validation_value


def still_improving(students: Sequence[StageRecord], epochs: int) -> list[str]:
    """Returns a sentence if every student's last epoch was its best."""
    last = [record.metrics.get("best_epoch") == epochs for record in students]
    if epochs < 2 or not all(last):
        return []
    return [
        f"Every student was best in its last epoch ({epochs}): more epochs "
        "may help."
    ]


def ship_the_control(place: pathlib.Path) -> str:
    """Returns the advice where a control is better, whose files are there."""
    return (
        "On the validation split the control is better than the distilled "
        f"student. Ship the control: its files are in {place}."
    )


def order_of_examples(train: Split) -> list[str]:
    """Returns a sentence if students and controls may see another order."""
    if not isinstance(train, tf.data.Dataset):
        return []
    return [
        "A control has the initial weights of its student and as many steps. "
        "The order of its examples is what the data set gives."
    ]


def is_better(
    these: Sequence[StageRecord],
    others: Sequence[StageRecord],
    headline: tasks.Headline,
) -> bool:
    """Whether some records are better than others on validation, on average."""
    means = [
        np.mean([validation_value(r.metrics, headline) for r in records])
        for records in (these, others)
    ]
    return bool(means[0] > means[1])


def best_of(
    records: list[StageRecord], name: str, headline: tasks.Headline
) -> StageRecord:
    """Returns the record that is best on validation, with all seeds' figures.

    The test split chooses nothing.
    """
    best = max(
        records, key=lambda record: validation_value(record.metrics, headline)
    )
    metrics = {
        **best.metrics,
        "seeds": [record.settings["seed"] for record in records],
    }
    values = [record.metrics.get(headline.name) for record in records]
    if None not in values:
        is_accuracy = headline == tasks.Headline("accuracy")
        metrics["accuracies" if is_accuracy else "headlines"] = values
    seconds = sum(record.seconds for record in records)
    return dataclasses.replace(
        best, name=name, metrics=metrics, seconds=seconds
    )
