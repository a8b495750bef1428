# SPDX-License-Identifier: Apache-2.0
"""What the commands share: their arguments, and telling of files."""

from __future__ import annotations

import argparse
import ast
import inspect
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from keras_kd.core.arguments import did_you_mean
from keras_kd.core.printable import printable
from keras_kd.engines.named import NAMES


def add_command(
    commands: argparse._SubParsersAction,
    command: Callable[[argparse.Namespace], int],
    directory: str | None = None,
) -> argparse.ArgumentParser:
    """Adds a function as a command: its name, and its docstring as the help.

    It takes the options and returns the exit code. `directory` says what the
    command's directory is, if it takes one.
    """
    name = command.__name__.removeprefix("_")
    told = inspect.getdoc(command)
    parser = commands.add_parser(name, help=told, description=told)
    parser.set_defaults(command=command)
    if directory is not None:
        parser.add_argument("directory", type=pathlib.Path, help=directory)
    return parser


def add_recipe(
    parser: argparse.ArgumentParser, directory: str, setting: str
) -> None:
    """Adds a recipe, where its results go, and what is changed in it."""
    parser.add_argument(
        "recipe", help="a name (see `keras-kd recipes`) or a path/to/recipe.py"
    )
    parser.add_argument("--directory", type=pathlib.Path, help=directory)
    data = "an argument of load_data, as in --data labelled=None"
    for flag, text in (("--set", setting), ("--data", data)):
        parser.add_argument(
            flag, metavar="KEY=VALUE", action="append", default=[], help=text
        )


def add_engine(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds where trainings run, and how many of them at a time."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help=what,
    )
    parser.add_argument(
        "--engine",
        choices=NAMES,
        default=argparse.SUPPRESS,
        help="where the trainings run (default: this process, or loky where "
        "there are several workers); ray: the cluster that RAY_ADDRESS names, "
        "or one of its own on this machine",
    )


def run_directory(options: argparse.Namespace) -> pathlib.Path:
    """Returns the folder of a recipe's runs, unless another was given."""
    name = pathlib.Path(options.recipe).stem
    return options.directory or pathlib.Path("saved_models") / name


def tell(files: Iterable[tuple[str, str]]) -> int:
    """Prints `(path, problem)` of each file; returns the exit code."""
    failures = 0
    for path, problem in files:
        print(f"{'FAILED' if problem else 'ok':<7}{printable(path)}")
        if problem:
            failures += 1
            print(f"       {printable(problem)}")
    return 1 if failures else 0


def tell_result(result: Any, paths: Iterable[pathlib.Path]) -> int:
    """Prints a report and where its files are; returns the exit code."""
    print(f"\n{printable(result)}\n")
    print(*map(printable, paths), sep="\n")
    return 0


def options_of(texts: Sequence[str], flag: str, taker: Callable) -> dict:
    """Parses `key=value` texts as keyword arguments of `taker`."""
    pairs = pairs_of(texts, flag)
    parameters = inspect.signature(taker).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return pairs
    for key in pairs:
        if key not in parameters:
            raise ValueError(
                f"{flag} {key}: {taker.__name__} takes no such argument."
                f"{did_you_mean(key, parameters)} Expected any of "
                f"{sorted(parameters)}."
            )
    return pairs


def repeated(
    words: Sequence[str], flag: str, values: Sequence[str]
) -> list[str]:
    """Returns `--flag a b` as `--flag a --flag b`.

    So the flag takes several values, and no word that is none of them: a
    recipe's name may follow.
    """
    found: list[str] = []
    for word in words:
        follows = len(found) > 1 and found[-2] == flag and found[-1] in values
        found += [flag, word] if follows and word in values else [word]
    return found


def pairs_of(texts: Sequence[str], flag: str) -> dict:
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
