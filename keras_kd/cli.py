# SPDX-License-Identifier: Apache-2.0
"""keras-kd: the command line, a thin skin over the stages."""

from __future__ import annotations

import argparse
import ast
import os
import pathlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    0: done. 1: a check failed (`verify`). 2: the call was wrong.
    130: stopped by Ctrl-C; finished stages are kept.
    """
    options = _parser().parse_args(arguments)
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
    except (ValueError, FileNotFoundError) as error:
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
        choices=("float16", "dynamic", "int8"),
        help="quantise the .tflite file",
    )

    report = commands.add_parser("report", help="print the report of a run")
    report.set_defaults(command=_report)
    report.add_argument("directory", type=pathlib.Path)

    verify = commands.add_parser(
        "verify", help="check the exported files of a run in fresh processes"
    )
    verify.set_defaults(command=_verify)
    verify.add_argument("directory", type=pathlib.Path)

    methods = commands.add_parser("methods", help="list the methods")
    methods.set_defaults(command=_methods)
    recipes = commands.add_parser("recipes", help="list the recipes")
    recipes.set_defaults(command=_recipes)
    _add_labels(commands.add_parser("labels", help="label data once, on disk"))
    return parser


def _add_labels(parser):
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser(
        "build", help="label a recipe's training data; goes on after a stop"
    )
    build.set_defaults(command=_labels_build)
    build.add_argument("recipe", help="a name or a path/to/recipe.py")
    build.add_argument(
        "--directory",
        type=pathlib.Path,
        help="where labels go (default: saved_models/<recipe>/labels)",
    )
    build.add_argument(
        "--teacher",
        type=pathlib.Path,
        help="a .keras file (default: the teacher that `keras-kd run` left)",
    )
    build.add_argument(
        "--data",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of load_data, as in --data labelled=None",
    )
    build.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="an argument of TeacherCache, as in --set top_k=16",
    )
    build.add_argument(
        "--part", metavar="I/N", help="only the I-th (from 0) of N parts"
    )
    build.add_argument("--batch-size", type=int, default=256)
    build.add_argument(
        "--agreement",
        type=float,
        help="allow faster engines that agree on this share, such as 0.995",
    )

    info = commands.add_parser("info", help="say what is in a cache")
    info.set_defaults(command=_labels_info)
    info.add_argument("directory", type=pathlib.Path)

    verify = commands.add_parser("verify", help="check every file of a cache")
    verify.set_defaults(command=_labels_verify)
    verify.add_argument("directory", type=pathlib.Path)

    merge = commands.add_parser("merge", help="make one cache of all parts")
    merge.set_defaults(command=_labels_merge)
    merge.add_argument("directories", type=pathlib.Path, nargs="+")
    merge.add_argument("--into", type=pathlib.Path, required=True)


def _run(options):
    from keras_kd import pipeline
    from keras_kd import recipes

    recipe = recipes.load(options.recipe)
    name = pathlib.Path(options.recipe).stem
    directory = options.directory or pathlib.Path("saved_models") / name
    report = pipeline.run_recipe(
        recipe,
        directory,
        settings=_pairs(options.set, "--set"),
        data_options=_pairs(options.data, "--data"),
        quantize=options.quantize,
    )
    print()
    print(report)
    print()
    for path in pipeline.results(directory):
        print(path)
    return 0


def _report(options):
    from keras_kd.report import Report

    print(Report.load(options.directory))
    return 0


def _verify(options):
    from keras_kd.export import verify_directory

    return _tell(verify_directory(options.directory))


def _tell(files):
    """Prints `(path, problem)` of each file; returns the exit code."""
    failures = 0
    for path, problem in files:
        print(f"{'FAILED' if problem else 'ok':<7}{path}")
        if problem:
            failures += 1
            print(f"       {problem}")
    return 1 if failures else 0


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


def _labels_build(options):
    import keras

    from keras_kd import recipes
    from keras_kd.labels.cache import TeacherCache

    recipe = recipes.load(options.recipe)
    run = pathlib.Path("saved_models") / pathlib.Path(options.recipe).stem
    path = options.teacher or run / "stages" / "trained-teacher.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no trained teacher {str(path)!r}. Train it with "
            f"`keras-kd run {options.recipe}`, or give --teacher FILE.keras."
        )
    teacher = keras.saving.load_model(path, compile=False)
    data = recipe.load_data(**_pairs(options.data, "--data"))
    directory = options.directory or run / "labels"
    cache = TeacherCache(directory, **_pairs(options.set, "--set"))
    cache.build(
        teacher,
        data.train,
        batch_size=options.batch_size,
        part=_part(options.part),
        agreement=options.agreement,
    )
    print(f"{len(cache)} samples in {directory}")
    return 0


def _part(text):
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ValueError(f"--part takes I/N, such as 0/3. Received: {text!r}")
    return int(index), int(count)


def _labels_info(options):
    from keras_kd.labels.cache import TeacherCache

    for key, value in TeacherCache.open(options.directory).info().items():
        print(f"{key:<26}{value}")
    return 0


def _labels_verify(options):
    from keras_kd.labels.cache import TeacherCache

    return _tell(TeacherCache.open(options.directory).verify())


def _labels_merge(options):
    from keras_kd.labels.cache import TeacherCache

    cache = TeacherCache.merge(options.directories, options.into)
    print(f"{len(cache)} samples in {options.into}")
    return 0


def _pairs(texts, flag):
    """Parses `key=value` texts; values are Python literals, else strings."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(
                f"{flag} takes KEY=VALUE, such as {flag} temperature=2. "
                f"Received: {text!r}"
            )
        try:
            pairs[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pairs[key] = value
    return pairs


if __name__ == "__main__":
    sys.exit(main())
