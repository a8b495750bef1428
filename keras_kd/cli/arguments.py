# SPDX-License-Identifier: Apache-2.0
"""What the commands share: reading `key=value`, and telling of files."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from collections.abc import Sequence


def tell(files: Iterable[tuple[str, str]]) -> int:
    """Prints `(path, problem)` of each file; returns the exit code."""
    failures = 0
    for path, problem in files:
        print(f"{'FAILED' if problem else 'ok':<7}{path}")
        if problem:
            failures += 1
            print(f"       {problem}")
    return 1 if failures else 0


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
