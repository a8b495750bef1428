# SPDX-License-Identifier: Apache-2.0
"""The fresh process of `verify`: load a file, answer one batch, refuse more.

Run by its path, `python _serve.py MODEL REQUEST.npz ANSWER.npz`, so that
neither Keras nor TensorFlow's Python is there to help the file along. A bad
file may abort the process; the last line on standard output then tells what
it was doing.
"""

from __future__ import annotations

import os
import sys

import numpy as np


def run_tflite(path: str | os.PathLike, inputs) -> dict[str, np.ndarray]:
    """Runs a .tflite file by LiteRT's interpreter, through its signature.

    A file with batch size 1 is asked row by row; the rows of its answers are
    put together again.

    Args:
        path: A .tflite file with one signature.
        inputs: Arrays `(batch, ...)` by input name, or one array if the file
            has one input.

    Returns:
        Arrays `(batch, ...)` by output name.

    Raises:
        ValueError: If the names or shapes are not those of the signature.
        RuntimeError: If LiteRT cannot load or run the file.

    Example:

    ```python
    run_tflite("student.tflite", {"image": images})["logits"]
    ```
    """
    from ai_edge_litert.interpreter import Interpreter

    # Read here: the interpreter reports any bad path as "Could not open".
    with open(path, "rb") as file:
        interpreter = Interpreter(model_content=file.read())
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    request = _by_name(inputs, details)
    batch_sizes = set()
    for name, detail in details.items():
        array, signature = request[name], detail["shape_signature"]
        fits = array.ndim == len(signature) and all(
            expected in (-1, received)
            for expected, received in zip(
                signature[1:], array.shape[1:], strict=True
            )
        )
        if not fits:
            raise ValueError(
                f"Input `{name}` of {path} has shape {tuple(signature)} (-1: "
                f"any). Received an array of shape {array.shape}."
            )
        request[name] = array.astype(detail["dtype"])
        batch_sizes.add(int(signature[0]))
    if batch_sizes != {1}:
        return runner(**request)
    rows = len(next(iter(request.values())))
    answers = [
        runner(**{name: array[i : i + 1] for name, array in request.items()})
        for i in range(rows)
    ]
    return {
        name: np.concatenate([answer[name] for answer in answers])
        for name in answers[0]
    }


def _by_name(inputs, names):
    """Returns inputs as a dict of arrays; one bare array has a sole name."""
    if not isinstance(inputs, dict):
        inputs = {"": inputs}
    if set(inputs) == {""} and len(names) == 1:
        inputs = {next(iter(names)): inputs[""]}
    if set(inputs) != set(names):
        raise ValueError(
            f"The model takes the inputs {sorted(names)}. "
            f"Received: {sorted(inputs)}"
        )
    return {name: np.asarray(array) for name, array in inputs.items()}


def misshapen(request, shapes):
    """Yields copies of a request with one input of a wrong shape each.

    Args:
        request: Arrays by input name.
        shapes: Signature's shape of each input, -1 for any size.
    """
    for name, array in request.items():
        wrong = [array[..., None]]
        if array.ndim:
            wrong.append(array[..., 0])
        for axis, size in enumerate(shapes[name]):
            if size > 0:
                wrong.append(np.concatenate([array, array], axis=axis))
        for changed in wrong:
            yield name, {**request, name: changed}


def _serve_saved_model(path, request):
    from _c_api import SavedModelSession

    session = SavedModelSession(path)
    infos = {**session.inputs, **session.outputs}
    shapes = {
        name: tuple(dim.size for dim in info.tensor_shape.dim)
        for name, info in infos.items()
    }
    for name, shape in shapes.items():
        if not infos[name].tensor_shape.unknown_rank and shape[:1] != (-1,):
            raise RuntimeError(
                f"The batch dimension of `{name}` is not free: its shape is "
                f"{shape}, expected (-1, ...)."
            )
    request = _by_name(request, session.inputs)
    _say("answering the batch")
    yield session.run(request)
    for name, hostile in misshapen(request, shapes):
        text = f"a request whose `{name}` has shape {hostile[name].shape}"
        _say(f"answering {text}")
        try:
            session.run(hostile)
        except RuntimeError:
            continue
        raise RuntimeError(
            f"It answered {text} where the signature says {shapes[name]}, "
            "instead of refusing it."
        )


def _serve_tflite(path, request):
    _say("answering the batch")
    yield run_tflite(path, request.get("", request))


def _say(text):
    print(text, flush=True)


def main(path: str, request_path: str, answer_path: str) -> None:
    """Loads `path`, answers the request, then checks that it refuses."""
    with np.load(request_path) as file:
        request = dict(file)
    _say("loading")
    tflite = path.endswith(".tflite")
    serve = _serve_tflite if tflite else _serve_saved_model
    for answer in serve(path, request):
        np.savez(answer_path, **answer)
    _say("done")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
