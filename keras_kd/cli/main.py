# SPDX-License-Identifier: Apache-2.0
"""keras-kd: the command line, a thin skin over the stages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

import keras_kd as kd
from keras_kd.cli.arguments import add_command
from keras_kd.cli.arguments import add_engine
from keras_kd.cli.arguments import add_recipe
from keras_kd.cli.arguments import options_of
from keras_kd.cli.arguments import pairs_of
from keras_kd.cli.arguments import repeated
from keras_kd.cli.arguments import run_directory
from keras_kd.cli.arguments import tell
from keras_kd.cli.arguments import tell_result
from keras_kd.cli.quiet import load_tensorflow
from keras_kd.cli.search import add_search
from keras_kd.cli.serve import add_serve
from keras_kd.cli.signals import CODE
from keras_kd.cli.signals import Terminated
from keras_kd.cli.signals import terminable
from keras_kd.cli.targets import add_targets
from keras_kd.core.file_formats import of_tflite
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.printable import printable

_KINDS = {row.name: row for row in of_tflite().values()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    0: done. 1: a check failed (`verify`). 2: the call was wrong, or the
    machine failed it (a full disk, no permission). 130: stopped by Ctrl-C,
    143: by SIGTERM; finished stages are kept.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["labels"]:
        print("keras-kd labels is called targets now.", file=sys.stderr)
        words[0] = "targets"
    options = _parser().parse_args(repeated(words, "--quantize", list(_KINDS)))
    try:
        with terminable():
            load_tensorflow()  # its notices would bury the table
            return options.command(options)
    except KeyboardInterrupt as error:
        print(
            "\nStopped. Finished stages are kept: the same command continues "
            "from there.",
            file=sys.stderr,
        )
        return CODE if isinstance(error, Terminated) else 130
    except Exception as error:
        if not isinstance(error, ValueError) and not is_passing(error):
            raise
        text = str(error) or type(error).__name__
        print(f"keras-kd: {printable(text)}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-kd",
        description="Distil, prune, export and verify small Keras models.",
        epilog="To begin: keras-kd run digits. `keras-kd COMMAND --help` tells "
        "more of each.",
    )
    version = f"keras-kd {kd.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = add_command(commands, _run)
    add_recipe(
        run,
        "where results go (default: saved_models/<recipe>)",
        "change a setting, as in --set temperature=2: an argument of "
        "kd.compress, teacher_epochs or teacher_learning_rate",
    )
    run.add_argument(
        "--quantize",
        action="append",
        choices=list(_KINDS),
        help="kinds of .tflite file: one, or several for one file each "
        "(default: the recipe's). "
        + "; ".join(f"{name}: {row.stores}" for name, row in _KINDS.items()),
    )
    run.add_argument(
        "--search",
        type=int,
        metavar="TRIALS",
        help="first search for a temperature and alpha, with this many trials",
    )
    add_engine(run, "how many models to train at a time (default: 1)")
    add_search(commands)
    add_command(commands, _report, "the folder of the run")
    verify = add_command(
        commands, _verify, "the folder of a run, export, search or cache"
    )
    verify.add_argument(
        "--repair",
        action="store_true",
        help="move a damaged newest version aside: renamed, never deleted",
    )
    verify.add_argument(
        "--trust",
        action="store_true",
        help="run SavedModels that read or write files: as you would run a "
        "program of whoever made them",
    )
    add_serve(commands)
    add_command(commands, _methods)
    add_command(commands, _recipes)
    add_targets(commands)
    return parser


def _run(options):
    """Run a recipe from the teacher to the report."""
    from keras_kd.workflows import recipe_runs

    directory = run_directory(options)
    settings = pairs_of(options.set, "--set")
    if options.quantize:
        kinds = [_KINDS[name].quantize for name in options.quantize]
        settings["quantize"] = kinds[0] if len(kinds) == 1 else kinds
    given = vars(options)
    settings |= {k: given[k] for k in ("workers", "engine") if k in given}
    recipe = kd.recipes.load(options.recipe)
    report = recipe_runs.run_recipe(
        recipe,
        directory,
        settings=settings,
        data_options=options_of(options.data, "--data", recipe.load_data),
        search=options.search,
    )
    return tell_result(report, recipe_runs.results(directory))


def _report(options):
    """Print the report of a run."""
    print(kd.Report.load(options.directory))
    return 0


def _verify(options):
    """Check all files of a folder; exported ones run in fresh processes."""
    from keras_kd.workflows.run_files import verify_folder

    how = options.trust, options.repair
    return tell(verify_folder(options.directory, *how))


def _methods(options):
    """List the losses, and when to use which."""
    from keras_kd.losses.cards import card_of

    table = Table("loss", "what it does", "use it", "do not", "suggested")
    for card in map(card_of, kd.losses.METHODS):
        table.add_row(
            card.name, card.summary, card.use, card.avoid, card.suggested
        )
    Console().print(table)
    return 0


def _recipes(options):
    """List the recipes that come with the package."""
    table = Table("recipe", *kd.recipes.ABOUT)
    for name in kd.recipes.available():
        about = kd.recipes.load(name).about
        table.add_row(name, *(about[key] for key in kd.recipes.ABOUT))
    Console().print(table)
    return 0
