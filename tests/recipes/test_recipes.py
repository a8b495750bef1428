# SPDX-License-Identifier: Apache-2.0
"""The contract of a recipe, over every recipe in the folder."""

from __future__ import annotations

import inspect
import math
import pathlib
import re
import sys

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import recipes
from keras_kd.core.stage_cache import fingerprint_of_model
from keras_kd.workflows import recipe_runs

FOLDER = pathlib.Path(recipes.__file__).parent
NAMES = [p.stem for p in FOLDER.glob("*.py") if not p.name.startswith("_")]
GOOD = """
import keras

def load_data():
    split = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    return split, split
def build_teacher():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
def build_student():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
settings = dict(alpha=0.5)
"""

KEPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
each_recipe = pytest.mark.parametrize("name", NAMES)
# Its student is made of MiniLM, which is fetched, and takes seconds to load.
FETCHES = pytest.param("snippets_transformer", marks=pytest.mark.slow)


def written(tmp_path, source):
    path = tmp_path / "mine.py"
    path.write_text(source, "utf-8")
    return path


def test_available_lists_every_file():
    assert recipes.available() == sorted(NAMES)
    assert {"digits", "fashion_mnist"} <= set(NAMES)


@each_recipe
def test_recipe_loads_by_name_and_by_path(name):
    by_name = recipes.load(name)
    by_path = recipes.load(FOLDER / f"{name}.py")
    assert by_path is not by_name
    # Tasks and losses are other objects in each: what they say is the same.
    told = [
        re.sub(" at 0x[0-9a-f]+", "", repr(recipe.settings))
        for recipe in (by_path, by_name)
    ]
    assert told[0] == told[1]


@each_recipe
def test_recipe_says_what_its_kept_run_gained(name):
    about = recipes.load(name).about
    assert set(about) == set(recipes.ABOUT)
    assert all(about[key] for key in recipes.ABOUT)
    report = kd.Report.load(KEPT / name)
    gain = report.gain
    interval = f"({gain.low:+.2f} to {gain.high:+.2f})"
    assert about["gained"].startswith(f"{gain.mean:+.2f} ")
    assert about["gained"].endswith(interval)
    minutes = sum(stage.seconds for stage in report.lineage) / 60
    assert about["minutes"] == str(math.ceil(minutes))
    # What only the recipe can write needs the files of a real run.
    assert report.notes or not hasattr(recipes.load(name), "remarks")


@each_recipe
def test_recipe_settings_are_in_range(name):
    settings = recipes.settings_of(recipes.load(name))
    assert (settings["temperature"] or 4.0) > 0
    assert 0 <= settings["alpha"] <= 1
    assert 0 <= (settings["prune"] or 0) < 1
    assert len(set(settings["seeds"])) >= 3  # a spread needs at least three
    counts = [k for k in settings if k.endswith(("epochs", "batch_size"))]
    assert all(isinstance(settings[k], int) for k in counts)
    assert all(settings[k] > 0 for k in counts)


def four_of(symbol):
    values = np.random.default_rng(0).random((4, *symbol.shape[1:]))
    if symbol.dtype == "string":
        return keras.ops.convert_to_tensor(values.astype(str))
    return values.astype(symbol.dtype)


@pytest.mark.parametrize(
    "name", [FETCHES if name in FETCHES.values else name for name in NAMES]
)
def test_recipe_models_give_outputs_alike_and_student_is_smaller(name):
    recipe = recipes.load(name)
    models = [recipe.build_student()]
    if hasattr(recipe, "build_teacher"):
        models.append(recipe.build_teacher())
        assert models[0].count_params() < models[1].count_params() / 2
    for model in models:
        assert not model.compiled
        # A student may take a part of what its teacher does.
        shapes = [{symbol.shape for symbol in m.inputs} for m in models]
        assert shapes[0] <= shapes[-1]
        assert model.output_shape == models[0].output_shape
        inputs = {symbol.name: four_of(symbol) for symbol in model.inputs}
        if len(inputs) == 1:
            (inputs,) = inputs.values()
        outputs = keras.tree.flatten(model(inputs))
        for output, symbol in zip(outputs, model.outputs, strict=True):
            values = keras.ops.convert_to_numpy(output)
            assert values.shape == (4, *symbol.shape[1:])
            # Logits or values: no probabilities.
            assert not np.allclose(values.sum(axis=-1), 1.0, atol=1e-3)


@each_recipe
def test_recipe_states_its_command_and_is_readable_in_one_go(name):
    source = (FOLDER / f"{name}.py").read_text("utf-8")
    assert f"keras-kd run {name}" in recipes.load(name).__doc__
    assert len(source.splitlines()) < 250


FINISHED = """
import numpy as np

def load_teacher():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([{weight} * np.ones((2, 2)), np.zeros(2)])
    return model
"""


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (GOOD.replace("build_teacher", "other") + FINISHED, {}),
        (
            GOOD.replace("def build_teacher", "def other")
            + FINISHED.replace("load_teacher", "build_teacher"),
            {"teacher_epochs": 0},
        ),
    ],
    ids=["load_teacher", "no_epochs"],
)
def test_finished_teacher_is_not_trained_and_known_by_its_weights(
    tmp_path, monkeypatch, source, settings
):
    monkeypatch.setattr(recipe_runs, "train", None)
    taught = []
    monkeypatch.setattr(
        recipe_runs,
        "compress",
        lambda teacher, *_, **__: taught.append(teacher),
    )
    # Of one length within one second a file would be taken from Python's cache.
    for weight in (1.0, 1.0, 0.25):
        text = source.replace("{weight}", str(weight))
        recipe = recipes.load(written(tmp_path, text))
        recipe_runs.run_recipe(recipe, tmp_path / "run", settings)
        assert np.all(taught[-1].get_weights()[0] == weight)
    first, again, other = map(fingerprint_of_model, taught)
    assert first == again != other


def test_finished_teacher_that_is_none_is_told_with_the_recipes_path(tmp_path):
    source = GOOD + "\ndef load_teacher(): pass"
    recipe = recipes.load(written(tmp_path, source))
    with pytest.raises(ValueError, match=r"load_teacher\(\) of .*mine\.py"):
        recipe_runs.run_recipe(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("alpha=0.5", "prune=50", "For 50 % write 0.5"),
        ("alpha=0.5", "seeds=3", r"write seeds=\(0, 1, 2\)"),
        ("alpha=0.5", "epochs=0", "`epochs` must be"),
        ("return split, split", "return split", r"load_data\(\): .*kd.Data\("),
        (
            "def build_student():",
            "def build_student():\n    return\n",
            "lack a",
        ),
        ("def build_teacher():", "def build_teacher():\n    return\n", "None"),
        ("layers.Dense(2)", "layers.Dense(3)", "the same classes"),
    ],
)
def test_recipe_that_cannot_run_is_told_of_before_training(
    tmp_path, monkeypatch, old, new, fragment
):
    monkeypatch.setattr(recipe_runs, "train", None)
    recipe = recipes.load(written(tmp_path, GOOD.replace(old, new, 1)))
    with pytest.raises(ValueError, match="(?s)" + fragment) as caught:
        recipe_runs.run_recipe(recipe, tmp_path / "run")
    assert str(tmp_path / "mine.py") in str(caught.value)
    assert "keras_kd_recipe" not in str(caught.value)


def test_recipe_imports_the_file_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for alpha in (0.25, 0.75):
        folder = tmp_path / str(alpha)
        folder.mkdir()
        (folder / "neighbour_of_mine.py").write_text(f"ALPHA = {alpha}")
        source = "from neighbour_of_mine import ALPHA\n" + GOOD
        source = source.replace("alpha=0.5", "alpha=ALPHA")
        recipe = recipes.load(written(folder, source))
        assert recipe.settings == {"alpha": alpha}


def test_load_runs_a_users_own_file(tmp_path):
    recipe = recipes.load(written(tmp_path, GOOD))
    assert recipe.settings == {"alpha": 0.5}


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("digit", "Did you mean 'digits'"),
        ("fashion-mnist", "Did you mean 'fashion_mnist'"),
        ("zzz", r"\['debtags', 'digits', 'fashion_mnist'"),
        ("_fetch", "no recipe named '_fetch'"),
    ],
)
def test_load_error_for_an_unknown_name(name, fragment):
    with pytest.raises(ValueError, match=fragment):
        recipes.load(name)


@pytest.mark.parametrize("name", ["no_such.py", "no/such/recipe"])
def test_load_error_for_a_missing_file(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="There is no recipe file"):
        recipes.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("def load_data(", "def data(", "lacks load_data"),
        ("def build_teacher(", "def teach(", "lacks build_teacher"),
        ("def build_student(", "def student(", "lacks build_student"),
        ("settings =", "setting =", "lacks settings"),
        ("dict(alpha=0.5)", "0.5", "must be a dict. Received: 0.5"),
        ("alpha=", "alhpa=", "Unknown setting 'alhpa'.*mean 'alpha'"),
        ("settings", "build_student = 3\nsettings", "`build_student`.*func"),
        ("settings", "load_teacher_data = 3\nsettings", "`load_teacher_data`"),
        ("settings", "load_teacher = 3\nsettings", "`load_teacher` of"),
    ],
)
def test_load_error_for_a_broken_recipe(tmp_path, old, new, fragment):
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=fragment):
        recipes.load(path)


def test_load_shows_the_users_own_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        recipes.load(written(tmp_path, "1 / 0"))


def test_settings_of_prefers_changes_then_recipe_then_defaults(tmp_path):
    recipe = recipes.load(written(tmp_path, GOOD))
    settings = recipes.settings_of(recipe, temperature=7.0)
    assert settings["temperature"] == 7.0
    assert settings["alpha"] == 0.5
    assert settings["seeds"] == recipes.DEFAULT_SETTINGS["seeds"]
    with pytest.raises(ValueError, match="Did you mean 'epochs'"):
        recipes.settings_of(recipe, epoch=3)


def test_settings_are_the_arguments_of_compress():
    given = inspect.signature(kd.compress).parameters
    own = {"teacher", "build_student", "data", "directory", "search", "verbose"}
    reached = {k: p.default for k, p in given.items() if k not in own}
    settings = recipes.DEFAULT_SETTINGS.items()
    assert reached == {k: v for k, v in settings if k not in recipes.OF_TEACHER}


def test_old_names_of_settings_still_work_and_say_so(tmp_path):
    recipe = recipes.load(written(tmp_path, GOOD))
    with pytest.warns(FutureWarning, match="`sparsity` is now called `prune`"):
        settings = recipes.settings_of(recipe, sparsity=0.25, student_epochs=7)
    assert (settings["prune"], settings["epochs"]) == (0.25, 7)
