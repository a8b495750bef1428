# SPDX-License-Identifier: Apache-2.0
"""Imports inside keras_kd point one way, and files stay small.

The imports are read from the source, function-level and relative ones
included, so a forbidden import cannot hide in a function.
"""

from __future__ import annotations

import ast
import graphlib
import pathlib

import pytest

import keras_kd

ROOT = pathlib.Path(keras_kd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module may import what stands above it, and its own row as long as no
# circle arises. "keras_kd" is the public page, __init__.py itself.
ORDER = [
    {"records", "data", "scalars", "copies", "layer_names", "matching"},
    {"losses", "taps", "projectors", "heads", "class_ids", "early_exit"},
    {"teachers"},
    {"labels", "sequences"},
    {"terms", "pairing", "unlabelled", "guard", "training_log", "callbacks"},
    {"ensemble", "peer_optimizers", "peers"},
    {"distiller", "loss_scales", "mutual"},
    {"testing"},
    {"pruning"},
    {"quantization"},
    {"export"},
    {"report"},
    {"recipes"},
    {"checkup", "progress", "stages"},
    {"step_input", "step_race", "step_settings", "training_step"},
    {"lesson", "training"},
    {"tuning"},
    {"generations"},
    {"run"},
    {"run_figures"},
    {"pipeline"},
    {"recipe_runs"},
    {"keras_kd"},
    {"cli", "cli_labels", "cli_search", "cli_serve", "cli_words"},
]
RANK = {name: rank for rank, row in enumerate(ORDER) for name in row}
# Users copy a recipe to start from, so recipes may be written as users
# write, against the public page.
USES_PUBLIC_PAGE = {"recipes"}
# Packages that only one module may import.
OWNERS = {
    "keras_tuner": "tuning",
    "tensorflow_model_optimization": "pruning",
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

each_file = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(ROOT))
)


def dotted_name(path):
    """Returns `keras_kd.losses.base` for `keras_kd/losses/base.py`."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_of(name):
    """Returns the name in ORDER that a dotted module name falls under."""
    return name.split(".")[1] if "." in name else name


MODULES = {dotted_name(path): path for path in FILES}


def imports(path, tree=None):
    """Yields `(node, dotted name)` of everything that a file imports."""
    tree = tree or ast.parse(path.read_text("utf-8"))
    package = dotted_name(path)
    if path.name != "__init__.py":
        package = package.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield node, module if module in MODULES else base
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("...") and __import__("...")
            called = ast.unparse(node.func).rpartition(".")[2]
            name = getattr(node.args[0], "value", None)
            if called in ("import_module", "__import__") and name:
                yield node, name


def own_imports(path):
    """Yields the dotted names of keras_kd's own modules a file imports."""
    for _, name in imports(path):
        if name.split(".")[0] == "keras_kd":
            yield name


def test_order_lists_every_module():
    found = {top_of(name) for name in MODULES}
    unknown = sorted(found - set(RANK))
    assert not unknown, (
        f"{unknown} stand in no row of ORDER in {pathlib.Path(__file__).name}. "
        "Add each to the row below everything it imports and above everything "
        "that imports it."
    )


@each_file
def test_file_imports_only_what_stands_above_it(path):
    top = top_of(dotted_name(path))
    assert top in RANK, f"ORDER has no row for {top}"
    for name in own_imports(path):
        target = top_of(name)
        if target == "keras_kd" and top in USES_PUBLIC_PAGE:
            continue
        assert target in RANK, f"{path.name}: ORDER has no row for {name}"
        assert RANK[target] <= RANK[top], (
            f"{path.name} imports {name}, but `{target}` stands below `{top}` "
            "in ORDER. Move what both need to a module above both."
        )


def test_imports_form_no_circle():
    graph = {
        name: set(own_imports(path)) - {name, "keras_kd"}
        for name, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@each_file
def test_heavy_package_is_imported_by_its_owner_only(path):
    top = top_of(dotted_name(path))
    for _, name in imports(path):
        owner = OWNERS.get(name.split(".")[0], top)
        assert owner == top, f"only keras_kd.{owner} may import {name}"


@each_file
def test_tfmot_is_imported_inside_functions_only(path):
    """Its import flips tf.keras to Keras 2, so the moment must be chosen."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, FUNCTION)]
    for node, name in imports(path, tree):
        if name.split(".")[0] == "tensorflow_model_optimization":
            assert any(node in ast.walk(f) for f in functions), (
                f"{path.name}:{node.lineno} imports {name} at module level"
            )


@each_file
def test_file_states_its_licence(path):
    first = path.read_text("utf-8").partition("\n")[0]
    assert first == "# SPDX-License-Identifier: Apache-2.0"


@each_file
def test_file_has_at_most_300_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 300


@each_file
def test_file_has_no_assert_statement(path):
    """`python -O` removes asserts; a library raises ValueError instead."""
    tree = ast.parse(path.read_text("utf-8"))
    lines = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    assert not lines, f"{path.name}: assert statement in lines {lines}"
