# SPDX-License-Identifier: Apache-2.0
"""Imports inside keras_kd point one way, and files stay small.

The imports are read from the source, function-level and relative ones
included, so a forbidden import cannot hide in a function. One test a rule,
and each names every file that breaks it.
"""

from __future__ import annotations

import ast
import graphlib
import pathlib
import re
import statistics

import pytest

import keras_kd

ROOT = pathlib.Path(keras_kd.__file__).parent
DOCUMENT = ROOT.parent / "docs" / "architecture.md"

# A room imports what stands before it, and itself. "keras_kd" is the public
# page, __init__.py; a recipe is written as users write, against that page.
ORDER = (
    "core engines data losses tasks recipes models teachers targets testing "
    "distillers callbacks training pruning quantization export evaluation "
    "report tuning workflows labels keras_kd cli"
).split()
RANK = {room: place for place, room in enumerate(ORDER)}
USES_PUBLIC_PAGE = "recipes"
TYPE_ALIASES = "keras_kd.core.type_aliases"
# Packages that only one room may import.
OWNERS = {
    "keras_tuner": "tuning",
    "tensorflow_model_optimization": "pruning",
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def dotted_name(path):
    """Returns `keras_kd.losses.base` for `keras_kd/losses/base.py`."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {
    name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()
}


def room_of(name):
    """Returns the name in ORDER that a dotted module name falls under."""
    return name.split(".")[1] if "." in name else name


def imports(module):
    """Yields `(node, dotted name)` of everything that a module imports."""
    package = module
    if MODULES[module].name != "__init__.py":
        package = module.rpartition(".")[0]
    nodes = list(ast.walk(TREES[module]))
    if module == TYPE_ALIASES:
        # Its names of higher rooms are read by type checkers alone.
        checked = [n for n in nodes if isinstance(n, ast.If)]
        unrun = {inner for block in checked for inner in ast.walk(block)}
        nodes = [node for node in nodes if node not in unrun]
    for node in nodes:
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
                name = f"{base}.{alias.name}"
                yield node, name if name in MODULES else base
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("...") and __import__("...")
            called = ast.unparse(node.func).rpartition(".")[2]
            name = getattr(node.args[0], "value", None)
            if called in ("import_module", "__import__") and name:
                yield node, name


def own_imports(module):
    """Yields the dotted names of keras_kd's own modules a module imports."""
    for _, name in imports(module):
        if name.split(".")[0] == "keras_kd":
            yield name


def test_order_lists_every_room():
    found = {room_of(name) for name in MODULES}
    assert found == set(ORDER), (
        "Add a new room to ORDER, after all that it imports and before all "
        "that imports it; strike one that is gone."
    )


def test_rooms_import_only_what_stands_before_them():
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in own_imports(module)
        if RANK[room_of(name)] > RANK[room_of(module)]
        and (room_of(module), name) != (USES_PUBLIC_PAGE, "keras_kd")
    ]
    assert not wrong, "Move what both need to a room before both: " + str(wrong)


def test_imports_form_no_circle():
    graph = {
        name: set(own_imports(name)) - {name, "keras_kd"} for name in MODULES
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_root_holds_the_public_page_and_callbacks_only():
    loose = {path.name for path in ROOT.glob("*.py")}
    assert loose == {"__init__.py", "callbacks.py"}


def test_every_folder_is_a_package():
    """Else it would be left out of what is built and installed."""
    folders = {path.parent for path in MODULES.values()}
    assert [f for f in folders if not (f / "__init__.py").is_file()] == []


def test_heavy_packages_are_imported_by_their_owner_only():
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for _, name in imports(module)
        if OWNERS.get(name.split(".")[0], room_of(module)) != room_of(module)
    ]
    assert not wrong, wrong


def test_tfmot_is_imported_inside_functions_only():
    """Its import flips tf.keras to Keras 2, so the moment must be chosen."""
    for module, tree in TREES.items():
        functions = [n for n in ast.walk(tree) if isinstance(n, FUNCTION)]
        for node, name in imports(module):
            if name.split(".")[0] == "tensorflow_model_optimization":
                assert any(node in ast.walk(f) for f in functions), module


def test_files_state_their_licence():
    licence = "# SPDX-License-Identifier: Apache-2.0"
    wrong = [
        module
        for module, path in MODULES.items()
        if path.read_text("utf-8").partition("\n")[0] != licence
    ]
    assert not wrong, wrong


def test_files_can_be_read_in_a_sitting():
    lines = {
        path: len(path.read_text("utf-8").splitlines())
        for path in MODULES.values()
    }
    assert statistics.median(lines.values()) <= 150
    assert [path for path, count in lines.items() if count > 300] == []


def test_library_has_no_assert_statement():
    """`python -O` removes asserts; a library raises ValueError instead."""
    wrong = [
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert not wrong, wrong


def test_architecture_page_names_files_that_exist():
    named = re.findall(r"`(keras_kd/[\w/]+\.py)`", DOCUMENT.read_text("utf-8"))
    assert named
    assert [name for name in named if not (ROOT.parent / name).is_file()] == []


def test_architecture_page_draws_every_room():
    page = DOCUMENT.read_text("utf-8")
    unseen = [
        r for r in ORDER[:-3] + ["cli"] if not re.search(rf"\b{r}\b", page)
    ]
    assert not unseen, f"{unseen} are not in {DOCUMENT.name}"


@pytest.mark.parametrize(
    ("flow", "most"),
    [("training step", 8), ("`compress`", 12), ("trial of a search", 10)],
)
def test_flow_is_short_and_runs_downwards(flow, most):
    """Each file of a flow is called by one that stands before it."""
    page = DOCUMENT.read_text("utf-8")
    (section,) = (
        s for s in page.split("\n### ")[1:] if flow in s.split("\n")[0]
    )
    paths = re.findall(r"^\d+\. `(.+)`$", section, flags=re.MULTILINE)
    assert 1 < len(paths) <= most
    modules = [dotted_name(ROOT.parent / path) for path in paths]
    for place, module in enumerate(modules[1:], start=1):
        # A package's page hands on what its files define.
        known = {module, module.rpartition(".")[0]}
        callers = modules[:place]
        assert any(known & set(own_imports(m)) for m in callers), module
