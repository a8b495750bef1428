# SPDX-License-Identifier: Apache-2.0
"""`keras-kd targets`: build, look into, verify and merge teacher caches."""

from __future__ import annotations

import argparse
import pathlib

import keras_kd as kd
from keras_kd.cli.arguments import add_command
from keras_kd.cli.arguments import add_recipe
from keras_kd.cli.arguments import options_of
from keras_kd.cli.arguments import tell
from keras_kd.core.printable import printable


def add_targets(commands: argparse._SubParsersAction) -> None:
    """Adds the commands of `keras-kd targets`."""
    told = "Store a teacher's answers on disk, and look after them."
    parser = commands.add_parser("targets", help=told, description=told)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = add_command(commands, _build)
    add_recipe(
        build,
        "where they go (default: saved_models/<recipe>/targets)",
        "an argument of TeacherCache, as in --set top_k=16",
    )
    build.add_argument(
        "--teacher",
        type=pathlib.Path,
        help="a .keras file (default: the recipe's load_teacher, or the "
        "teacher that `keras-kd run` left)",
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

    add_command(commands, _info, "the folder of the cache")
    add_command(commands, _verify, "the folder of the cache")
    merge = add_command(commands, _merge)
    merge.add_argument("directories", type=pathlib.Path, nargs="+")
    merge.add_argument("--into", type=pathlib.Path, required=True)


def _build(options):
    """Store a teacher's answers to a recipe's data; resumes after a stop."""
    import keras

    from keras_kd.workflows import recipe_runs

    recipe = kd.recipes.load(options.recipe)
    settings = options_of(options.set, "--set", kd.TeacherCache)
    asked = options_of(options.data, "--data", recipe.load_data)
    run = pathlib.Path("saved_models") / pathlib.Path(options.recipe).stem
    teacher = None
    if options.teacher is None:
        known = kd.recipes.settings_of(recipe)
        teacher = recipe_runs.finished_teacher(recipe, known)
    if teacher is None:
        path = options.teacher or run / "stages" / "trained-teacher.keras"
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no trained teacher {str(path)!r}. Train it with "
                f"`keras-kd run {options.recipe}`, or give --teacher "
                "FILE.keras."
            )
        teacher = keras.saving.load_model(path, compile=False)
    data = recipe.load_data(**asked)
    directory = options.directory or run / "targets"
    cache = kd.TeacherCache(**{"directory": directory, **settings})
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


def _info(options):
    """Show what is in a cache."""
    for key, value in kd.TeacherCache.open(options.directory).info().items():
        print(printable(f"{key:<26}{value}"))
    return 0


def _verify(options):
    """Check every file of a cache."""
    return tell(kd.TeacherCache.open(options.directory).verify())


def _merge(options):
    """Join all parts into one cache."""
    cache = kd.TeacherCache.merge(options.directories, options.into)
    print(f"{len(cache)} samples in {options.into}")
    return 0
