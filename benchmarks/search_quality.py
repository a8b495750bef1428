# SPDX-License-Identifier: Apache-2.0
"""Is a searched T and alpha better than the default? On fresh seeds.

    .venv/bin/python benchmarks/search_quality.py   # 15 minutes on two cores
    .venv/bin/python benchmarks/search_quality.py digits   # anew, beside other
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/search_quality.py     # a look

20 trials choose by the validation split. Then the best settings, the default
(alpha = 0.7, T = 1; the kept runs had T = 4) and the control are trained with
five seeds that chose nothing and measured on the test split.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time

import keras
import numpy as np
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from _timing import kept

from keras_kd import recipes
from keras_kd.tuning.display.formatting import settings_text
from keras_kd.tuning.trials.confirmed import SIDES
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.workflows.recipe_runs import search_recipe

SCRIPT = "search_quality"
TRIALS, SEEDS = (4, 2) if FAST else (20, 5)

# What differs from the recipe. With its ten epochs Fashion-MNIST would take
# half an hour.
RECIPES: dict[str, dict] = {"digits": {}, "fashion_mnist": {"epochs": 3}}
TITLES = {
    "digits": "digits, 100 labels",
    "fashion_mnist": "Fashion-MNIST, 3,000 labels",
}


def measure(name: str) -> dict:
    """Returns what a search of a recipe found, and what that is worth."""
    recipe = recipes.load(name)
    options = {"epochs": recipe.settings["epochs"], **RECIPES[name]}
    settings = {}
    if FAST:
        options["epochs"], settings["teacher_epochs"] = 1, 1
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = search_recipe(
            recipe,
            folder,
            settings=settings,
            trials=TRIALS,
            confirm=SEEDS,
            **options,
        )
    print(f"\n{result}\n", flush=True)
    return {
        "epochs": options["epochs"],
        "seconds": time.perf_counter() - began,
        "rows": [dataclasses.asdict(row) for row in result.rows],
        "confirmed": result.confirmed.to_json(),
    }


def to_markdown(results: dict) -> str:
    lines, sentences, notes = [], [], []
    for name, found in results["recipes"].items():
        confirmed = Confirmed(**found["confirmed"])
        for side in SIDES:
            values = 100 * np.array(confirmed.values(side, "test"))
            what = f"best ({settings_text(confirmed.settings)})"
            lines.append(
                f"| {TITLES[name]}, {found['epochs']} epochs | "
                f"{what if side == 'best' else side} | {values.mean():.2f} ± "
                f"{values.std(ddof=1):.2f} | "
                f"{', '.join(f'{value:.2f}' for value in values)} |"
            )
        text = " ".join(confirmed.sentences("test"))
        sentences += [f"**{TITLES[name]}.** {text}", ""]
        notes += [
            f"{name} ({found['seconds']:.0f} s with the teacher's training): "
            f"{footnote(found)}",
            "",
        ]
    return "\n".join(
        [
            "# Is a searched T and alpha better than the default?",
            "",
            f"`keras_kd.search`, {TRIALS} trials by Bayesian optimisation on "
            "the validation split, the control and the default among them; "
            f"then {SEEDS} fresh seeds each, measured on the test split. "
            "Accuracy in percent: mean ± standard deviation over seeds.",
            "",
            "| task | settings | test accuracy % | seeds |",
            "|---|---|---|---|",
            *lines,
            "",
            *sentences,
            *notes,
        ]
    )


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        raise SystemExit(f"No recipe {unknown}. There are: {list(RECIPES)}")
    keras.utils.set_random_seed(0)
    found = kept(SCRIPT).get("recipes", {})
    for name in names or RECIPES:
        print(name, flush=True)
        about = circumstances(SCRIPT)
        found[name] = {**about, **measure(name)}
        results = {"trials": TRIALS, "seeds": SEEDS, "recipes": found}
        keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main(sys.argv[1:])
