# SPDX-License-Identifier: Apache-2.0
"""Recipes: one task, one file. Copy one to start your own.

A recipe is a Python file that defines:

```python
def load_data(**options): ...  # returns a keras_kd.data.Data
def build_teacher(): ...  # returns a keras.Model with logits as output
def build_student(): ...  # returns a keras.Model with logits as output
settings = {"epochs": 20}  # arguments of compress, see DEFAULT_SETTINGS
```

A teacher that is trained already takes the place of `build_teacher`:

```python
def load_teacher(): ...  # returns a trained keras.Model, or a Teacher
```

(With `teacher_epochs=0` what `build_teacher` returns is not trained either.)
It may import the files beside it. If the teacher learns from other data than
the student (more labels, for example), a recipe also has

```python
def load_teacher_data(): ...  # returns a keras_kd.data.Data
```

Sentences that only the recipe can write, such as what a language model says,
go under the table of the report:

```python
def remarks(directory): ...  # returns a list of str; a finished run's folder
```

What `keras-kd recipes` prints of a recipe is in its `about`, a dict of texts:
`task`, `data`, `licence`, `minutes` and `gained`, both of the kept run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
import pkgutil
import sys
from types import ModuleType

from keras_kd.core.arguments import did_you_mean
from keras_kd.recipes._settings import DEFAULT_SETTINGS
from keras_kd.recipes._settings import OF_TEACHER
from keras_kd.recipes._settings import settings_of

__all__ = [
    "DEFAULT_SETTINGS",
    "OF_TEACHER",
    "available",
    "load",
    "settings_of",
]

FUNCTIONS = ("load_data", "build_teacher", "build_student")
OPTIONAL = ("load_teacher", "load_teacher_data", "remarks")
ABOUT = ("task", "data", "licence", "minutes", "gained")
_FOLDERS: set[pathlib.Path] = set()


def available() -> list[str]:
    """Returns the names of the recipes that ship with keras_kd."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def load(name_or_path: str | os.PathLike) -> ModuleType:
    """Returns a recipe, by its name or by the path of its file.

    Args:
        name_or_path: One of `available()`, or a path that ends in `.py`.

    Raises:
        ValueError: If there is no such recipe (the message lists near
            names), or it lacks something that a recipe must define.
        FileNotFoundError: If a path is given and no file is there.

    Example:

    ```python
    recipe = kd.recipes.load("digits")
    data = recipe.load_data()
    ```
    """
    name = os.fspath(name_or_path)
    if name.endswith(".py") or os.sep in name:
        recipe = import_file(pathlib.Path(name))
    elif name in available():
        recipe = importlib.import_module(f"{__name__}.{name}")
    else:
        raise ValueError(
            f"There is no recipe named {name!r}."
            f"{did_you_mean(name, available())} Expected one of "
            f"{available()}, or the path of your own recipe, such as "
            f"'{name}.py'."
        )
    check(recipe, name)
    return recipe


def import_file(path: pathlib.Path) -> ModuleType:
    """Runs a Python file and returns it as a module."""
    name = f"keras_kd_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    is_python = path.suffix == ".py" and path.is_file()
    if not is_python or spec is None or spec.loader is None:
        raise FileNotFoundError(
            f"There is no recipe file {str(path)!r}. Expected a Python file "
            f"(.py), or one of the names {available()}."
        )
    find_neighbours(path.absolute().parent)
    module = importlib.util.module_from_spec(spec)
    # Pickle, dataclasses and Keras' serialisation look modules up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def find_neighbours(folder: pathlib.Path) -> None:
    """Lets a recipe import the files beside it, as a script of Python may.

    Modules of the same names from the folder of another recipe are forgotten.
    """
    others = {str(other) for other in _FOLDERS} - {str(folder)}
    for path in folder.iterdir():
        found = sys.modules.get(path.stem)
        file = getattr(found, "__file__", None)
        if file and any(file.startswith(other + os.sep) for other in others):
            del sys.modules[path.stem]
    _FOLDERS.add(folder)
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))


def check(recipe: ModuleType, name: str) -> None:
    """Raises unless `recipe` defines what a recipe must.

    Raises:
        ValueError: If a function or `settings` is missing or of the wrong
            kind, or a setting is unknown.
    """
    required = [*FUNCTIONS, "settings"]
    if hasattr(recipe, "load_teacher"):
        required.remove("build_teacher")
    missing = [key for key in required if not hasattr(recipe, key)]
    if missing:
        raise ValueError(
            f"The recipe {name!r} lacks {', '.join(missing)}. A recipe must "
            "define load_data(**options), build_teacher() (or load_teacher(), "
            "for one that is trained), build_student() and "
            "settings = dict(...); keras_kd/recipes/digits.py is one to "
            "copy from."
        )
    for key in (*FUNCTIONS, *OPTIONAL):
        if hasattr(recipe, key) and not callable(getattr(recipe, key)):
            raise ValueError(
                f"`{key}` of the recipe {name!r} must be a function. "
                f"Received: {getattr(recipe, key)!r}"
            )
    settings_of(recipe)
