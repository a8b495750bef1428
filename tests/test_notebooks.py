# SPDX-License-Identifier: Apache-2.0
"""Every notebook runs from top to bottom, and is committed without outputs."""

from __future__ import annotations

import pathlib
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import default

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.stem
)


class ThisPython(AsyncKernelManager):
    """Runs the tests' own interpreter, whatever kernels are registered."""

    @default("kernel_spec_manager")
    def _ipykernels_own(self):
        # Nowhere to look: what is left is the kernel ipykernel itself offers.
        return KernelSpecManager(parent=self, kernel_dirs=[])


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
    NotebookClient(
        notebook,
        timeout=300,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    for cell in notebook.cells:
        if "plt.show()" in cell.source:
            shown = [output.get("data", {}) for output in cell.outputs]
            assert any("image/png" in data for data in shown), cell.source


@every_notebook
def test_notebook_has_no_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.source
            assert cell.execution_count is None, cell.source


@every_notebook
def test_notebook_is_valid(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # Another kernel's name would not open on a reader's machine.
    assert notebook.metadata.kernelspec.name == "python3"
