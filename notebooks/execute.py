# SPDX-License-Identifier: Apache-2.0
"""Runs notebooks as a reader would, and keeps their outputs, small.

    make notebooks                                    # all of them
    .venv/bin/python notebooks/execute.py notebooks/01_*.ipynb

A run ends in an error as soon as a cell does; its file then stays as it was.
"""

from __future__ import annotations

import base64
import io
import pathlib
import re
import sys
import tempfile

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image
from traitlets import default

FOLDER = pathlib.Path(__file__).parent
LINES = 40
CHARACTERS = 6_000
COLOURS = 64
PIXELS = 900
# Another name each time, and of this machine.
TEMPORARY = re.compile(r"/tmp/tmp[a-z0-9_]{8}\b")


class ThisPython(AsyncKernelManager):
    """Runs this interpreter, whatever kernels are registered."""

    @default("kernel_spec_manager")
    def _ipykernels_own(self):
        # Nowhere to look: what is left is the kernel ipykernel itself offers.
        return KernelSpecManager(parent=self, kernel_dirs=[])


def execute(notebook: nbformat.NotebookNode, folder: str, timeout: int) -> None:
    """Runs all cells in a folder; raises CellExecutionError if one fails."""
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": folder}},
    ).execute()


def shrink(notebook: nbformat.NotebookNode) -> None:
    """Keeps of the outputs what a reader needs, and nothing of the machine."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps
        if cell.cell_type == "code":
            outputs = [output for output in cell.outputs if _is_kept(output)]
            for output in outputs:
                _shrink_output(output)
            cell.outputs = outputs


def _is_kept(output):
    # Warnings and notices are of this machine, progress bars of this moment.
    is_notice = output.get("name") == "stderr"
    is_widget = "application/vnd.jupyter.widget-view+json" in output.get(
        "data", {}
    )
    return not is_notice and not is_widget


def _shrink_output(output):
    if output.output_type == "stream":
        output.text = shortened(output.text)
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = small_png(data["image/png"])
    for kind in list(data):
        if kind.startswith("text/"):
            if kind != "text/plain" and len(data[kind]) > CHARACTERS:
                del data[kind]
            else:
                data[kind] = shortened(data[kind])


def shortened(text: str) -> str:
    """Returns a text without what was overwritten, and without its middle."""
    text = TEMPORARY.sub("/tmp/run", text)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
    if len(lines) > LINES:
        half = LINES // 2
        lines = [*lines[:half], "...", *lines[-half:]]
    text = "\n".join(lines)
    if len(text) > CHARACTERS:
        text = f"{text[: CHARACTERS // 2]}\n...\n{text[-CHARACTERS // 2 :]}"
    return text


def small_png(content: str) -> str:
    """Returns a PNG in base64 with few colours, and of modest width."""
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    image.thumbnail((PIXELS, 10 * PIXELS))
    buffer = io.BytesIO()
    image.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    small = base64.b64encode(buffer.getvalue()).decode("ascii")
    return small if len(small) < len(content) else content.strip()


def main(paths: list[str]) -> None:
    """Executes notebooks and writes them back."""
    for path in map(pathlib.Path, paths or sorted(FOLDER.glob("*.ipynb"))):
        notebook = nbformat.read(path, as_version=4)
        before = notebook.metadata.copy()
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder, timeout=1800)
        shrink(notebook)
        notebook.metadata = before
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
