# SPDX-License-Identifier: Apache-2.0
"""Every notebook runs from top to bottom, and shows outputs that are small."""

from __future__ import annotations

import base64
import importlib.util
import io
import pathlib
import sys

import nbformat
import numpy as np
import pytest
from matplotlib import image

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000

_spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(notebooks)

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.stem
)


def test_notebooks_are_found():
    assert NOTEBOOKS, f"No *.ipynb in {FOLDER}"


@pytest.mark.docs
@every_notebook
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_FAST", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # As for a reader: pictures are drawn into the notebook.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    check = f"import sys\nassert sys.executable == {sys.executable!r}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(check, id="python"))
    # A cell that fails raises CellExecutionError, which shows its traceback.
    notebooks.execute(notebook, str(tmp_path), timeout=300)
    for cell in notebook.cells:
        if "plt.show()" in cell.source:
            shown = [output.get("data", {}) for output in cell.outputs]
            assert any("image/png" in data for data in shown), cell.source


@every_notebook
def test_notebook_shows_its_outputs_and_is_small(path):
    assert path.stat().st_size < LARGEST
    cells = nbformat.read(path, as_version=4).cells
    outputs = [o for cell in cells for o in cell.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert any(o.get("name") == "stdout" for o in outputs)
    # Nothing of the machine that ran it, and no error.
    assert not any(o.get("name") == "stderr" for o in outputs)
    assert not any(o.output_type == "error" for o in outputs)
    assert not any("execution" in cell.metadata for cell in cells)


def drawn(height, width):
    """Returns noise as a PNG in base64: the worst there is to pack."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    buffer = io.BytesIO()
    image.imsave(buffer, pixels.astype("uint8"), format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def test_outputs_are_shrunk():
    v4 = nbformat.v4
    png = drawn(300, 1800)
    told = "10 %\r100 %\nin /tmp/tmpo1j9lxpb/a\n"
    lines = "".join(f"line {n}\n" for n in range(1000))
    outputs = [
        v4.new_output("stream", name="stdout", text=told + lines),
        v4.new_output("stream", name="stderr", text="a warning"),
        v4.new_output(
            "display_data",
            {"image/png": png, "text/html": "x" * 10**5, "text/plain": "<Fig>"},
        ),
        v4.new_output(
            "display_data", {"application/vnd.jupyter.widget-view+json": {}}
        ),
    ]
    cell = v4.new_code_cell("1", outputs=outputs)
    cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    notebook = v4.new_notebook(cells=[cell])
    notebooks.shrink(notebook)
    text, picture = notebook.cells[0].outputs
    assert text.text.startswith("100 %\nin /tmp/run/a\nline 0\n")
    assert text.text.endswith("line 999\n") and len(text.text) < 1000
    assert set(picture.data) == {"image/png", "text/plain"}
    small = base64.b64decode(picture.data["image/png"])
    assert image.imread(io.BytesIO(small)).shape[:2] == (150, 900)
    assert len(picture.data["image/png"]) < len(png) / 5
    assert "execution" not in notebook.cells[0].metadata
    nbformat.validate(notebook)


@every_notebook
def test_notebook_is_valid(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # Another kernel's name would not open on a reader's machine.
    assert notebook.metadata.kernelspec.name == "python3"
