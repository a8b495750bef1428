# SPDX-License-Identifier: Apache-2.0
"""keras-kd: the command line, a thin skin over the stages."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from keras_kd.cli.arguments import pairs_of
from keras_kd.cli.arguments import tell
from keras_kd.cli.search import add_search
from keras_kd.cli.serve import add_serve
from keras_kd.cli.targets import add_targets


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    0: done. 1: a check failed (`verify`). 2: the call was wrong.
    130: stopped by Ctrl-C; finished stages are kept.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["labels"]:
        print("keras-kd labels is called targets now.", file=sys.stderr)
        words[0] = "targets"
    options = _parser().parse_args(words)
    # TensorFlow's start-up notices would bury the table; what goes wrong is
    # raised as an error anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print(
            "\nStopped. Finished stages are kept: the same command goes on "
            "from there.",
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError) as error:
        print(f"keras-kd: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-kd",
        description="Distil, prune, export and verify small Keras models.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run a recipe from the teacher to the report"
    )
    run.set_defaults(command=_run)
    run.add_argument(
        "recipe", help="a name (see `keras-kd recipes`) or a path/to/recipe.py"
    )
    run.add_argument(
        "--directory",
        type=pathlib.Path,
        help="where results go (default: saved_models/<recipe>)",
    )
    run.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a setting of the recipe, as in --set temperature=2",
    )
    run.add_argument(
        "--data",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of load_data, as in --data labelled=None",
    )
    run.add_argument(
        "--quantize",
        nargs="+",
        choices=("float32", "float16", "dynamic", "int8", "full_int8"),
        help="kinds of .tflite file: one, or several for one file each "
        "(default: the recipe's)",
    )
    run.add_argument(
        "--search",
        type=int,
        metavar="TRIALS",
        help="first search temperature and alpha in so many trials",
    )
    add_search(
        commands.add_parser("search", help="search temperature and alpha")
    )

    report = commands.add_parser("report", help="print the report of a run")
    report.set_defaults(command=_report)
    report.add_argument("directory", type=pathlib.Path)

    verify = commands.add_parser(
        "verify", help="check the exported files of a run in fresh processes"
    )
    verify.set_defaults(command=_verify)
    verify.add_argument("directory", type=pathlib.Path)

    add_serve(commands.add_parser("serve", help="serve an exported model"))
    methods = commands.add_parser("methods", help="list the methods")
    methods.set_defaults(command=_methods)
    recipes = commands.add_parser("recipes", help="list the recipes")
    recipes.set_defaults(command=_recipes)
    add_targets(
        commands.add_parser("targets", help="run a teacher once, onto disk")
    )
    return parser


def _run(options):
    from keras_kd import recipes
    from keras_kd.workflows import recipe_runs

    recipe = recipes.load(options.recipe)
    name = pathlib.Path(options.recipe).stem
    directory = options.directory or pathlib.Path("saved_models") / name
    settings = pairs_of(options.set, "--set")
    if options.quantize:
        settings["quantize"] = _kinds(options.quantize)
    report = recipe_runs.run_recipe(
        recipe,
        directory,
        settings=settings,
        data_options=pairs_of(options.data, "--data"),
        search=options.search,
    )
    print()
    print(report)
    print()
    for path in recipe_runs.results(directory):
        print(path)
    return 0


def _kinds(names):
    kinds = [None if name == "float32" else name for name in names]
    return kinds[0] if len(kinds) == 1 else kinds


def _report(options):
    from keras_kd.report import Report

    print(Report.load(options.directory))
    return 0


def _verify(options):
    from keras_kd.export import verify_directory

    return tell(verify_directory(options.directory))


def _methods(options):
    from rich.console import Console
    from rich.table import Table

    from keras_kd import losses
    from keras_kd.losses.cards import card_of

    table = Table("loss", "what it does", "use it", "do not", "suggested")
    for card in map(card_of, losses.METHODS):
        table.add_row(
            card.name, card.summary, card.use, card.avoid, card.suggested
        )
    Console().print(table)
    return 0


def _recipes(options):
    from keras_kd import recipes

    for name in recipes.available():
        summary = recipes.load(name).__doc__.splitlines()[0]
        print(f"{name:<22}{summary}")
    return 0
