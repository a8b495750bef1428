# SPDX-License-Identifier: Apache-2.0
"""`keras-kd search`: KerasTuner looks for the temperature and alpha."""

from __future__ import annotations

import argparse

import keras_kd as kd
from keras_kd.cli.arguments import add_command
from keras_kd.cli.arguments import add_engine
from keras_kd.cli.arguments import add_recipe
from keras_kd.cli.arguments import options_of
from keras_kd.cli.arguments import pairs_of
from keras_kd.cli.arguments import run_directory
from keras_kd.cli.arguments import tell_result


def add_search(commands: argparse._SubParsersAction) -> None:
    """Adds `keras-kd search`."""
    parser = add_command(commands, _search)
    add_recipe(
        parser,
        "folder of the recipe's runs (default: saved_models/<recipe>); the "
        "search is in search/ there",
        "change a setting of the recipe, as in --set batch_size=64",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        help="how many, the control included (default: 20)",
    )
    parser.add_argument(
        "--tuner",
        choices=("bayesian", "random", "grid", "hyperband"),
        default="bayesian",
    )
    parser.add_argument(
        "--objective",
        help="what to compare, such as val_accuracy (the default)",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=argparse.SUPPRESS,
        help="epochs of one trial",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--confirm",
        type=int,
        default=3,
        help="fresh seeds for the best settings, the defaults and the control",
    )
    add_engine(parser, "how many trials to run at a time (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="start anew")


def _search(options):
    """Search for a temperature and alpha."""
    from keras_kd.tuning.trials.driver import SearchError
    from keras_kd.workflows import recipe_runs

    directory = run_directory(options)
    recipe = kd.recipes.load(options.recipe)
    own = ("command", "recipe", "directory", "set", "data")
    try:
        result = recipe_runs.search_recipe(
            recipe,
            directory,
            settings=pairs_of(options.set, "--set"),
            data_options=options_of(options.data, "--data", recipe.load_data),
            **{k: v for k, v in vars(options).items() if k not in own},
        )
    except SearchError as error:
        raise ValueError(error) from error  # told without a traceback
    folder = directory / "search"
    return tell_result(result, [folder / "search.html", folder / "search.png"])
