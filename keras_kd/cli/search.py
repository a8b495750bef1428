# SPDX-License-Identifier: Apache-2.0
"""`keras-kd search`: KerasTuner looks for the temperature and alpha."""

from __future__ import annotations

import argparse
import pathlib

from keras_kd.cli.arguments import pairs_of


def add_search(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the parser of `keras-kd search`."""
    parser.set_defaults(command=_search)
    parser.add_argument("recipe", help="a name or a path/to/recipe.py")
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        help="folder of the recipe's runs (default: saved_models/<recipe>); "
        "the search is in search/ there",
    )
    parser.add_argument(
        "--trials", type=int, default=20, help="the control is one of them"
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
    parser.add_argument("--epochs", type=int, help="of one trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--confirm",
        type=int,
        default=3,
        help="fresh seeds for the best settings, the defaults and the control",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="trials at a time"
    )
    parser.add_argument("--overwrite", action="store_true", help="begin again")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a setting of the recipe, as in --set batch_size=64",
    )
    parser.add_argument(
        "--data",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of load_data, as in --data labelled=None",
    )


def _search(options):
    from keras_kd import recipes
    from keras_kd.tuning.trials.worker import SearchError
    from keras_kd.workflows import recipe_runs

    name = pathlib.Path(options.recipe).stem
    directory = options.directory or pathlib.Path("saved_models") / name
    names = ("trials", "tuner", "objective", "seed", "confirm", "workers")
    arguments = {name: getattr(options, name) for name in names}
    if options.epochs is not None:
        arguments["epochs"] = options.epochs
    try:
        result = recipe_runs.search_recipe(
            recipes.load(options.recipe),
            directory,
            settings=pairs_of(options.set, "--set"),
            data_options=pairs_of(options.data, "--data"),
            overwrite=options.overwrite,
            **arguments,
        )
    except SearchError as error:
        raise ValueError(error) from error  # told without a traceback
    print()
    print(result)
    print()
    for file in ("search.html", "search.png"):
        print(directory / "search" / file)
    return 0
