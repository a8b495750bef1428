# SPDX-License-Identifier: Apache-2.0
"""What a page says first: the verdict, and the settings it holds for."""

from __future__ import annotations

from collections.abc import Sequence

from keras_kd.core.records import StageRecord
from keras_kd.evaluation.gain import ACCURACY
from keras_kd.evaluation.gain import GAIN
from keras_kd.evaluation.gain import NO_GAIN
from keras_kd.evaluation.gain import WORSE
from keras_kd.evaluation.gain import Gain

VERDICTS = {
    GAIN: ("Gain", "gain"),
    NO_GAIN: ("No gain shown", "open"),
    WORSE: ("Worse than without a teacher", "loss"),
}
ONE_SEED = ("One seed, may be chance", "open")
UNKNOWN = ("No control, so it is not known whether the teacher helped", "open")
SETTINGS = (
    *("temperature", "alpha", "distillation_losses", "epochs"),
    *("batch_size", "learning_rate", "loss", "sparsity"),
)


def verdict(gain: Gain | None) -> tuple[str, str]:
    """Returns the verdict in a line, and its kind: gain, loss or open."""
    if gain is None:
        return UNKNOWN
    words, kind = VERDICTS.get(
        gain.verdict, ("One seed, may be chance", "open")
    )
    if gain.headline in (None, ACCURACY):
        difference = f"{gain.mean:+z.2f} points of accuracy"
    else:
        difference = (
            f"{gain.headline.difference_text(gain.mean)}, {gain.headline.title}"
        )
    return f"{words}: {difference}", kind


def settings(records: Sequence[StageRecord]) -> list[tuple[str, str]]:
    """Returns the settings of the distilled student as names and values."""
    found: dict[str, object] = {}
    seeds: list = []
    for record in records:
        if record.stage in ("student", "prune"):
            found = {**record.settings, **found}
            seeds = seeds or record.metrics.get("seeds", [])
    if found.get("distillation_losses"):
        found["temperature"] = None  # each loss has its own
    shown = [
        (name.replace("_", " "), _text(found[name]))
        for name in SETTINGS
        if found.get(name) is not None
    ]
    return shown + [("seeds", ", ".join(map(str, seeds)))] * bool(seeds)


def _text(value):
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and "class_name" in value:
        temperature = value.get("config", {}).get("temperature")
        told = "" if temperature is None else f" (T = {temperature:g})"
        return f"{value['class_name']}{told}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)
