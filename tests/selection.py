# SPDX-License-Identifier: Apache-2.0
"""Which cases of a test `make test` runs; `make test-slow` runs the others."""

from __future__ import annotations

import pytest


def quick(number, cases):
    """Leaves the first cases as they are and marks the others slow.

    For a property that one case shows and the others repeat in another
    setting, where each is a training or a conversion.

    Args:
        number: How many stay.
        cases: Values for `pytest.mark.parametrize`, or a dict of them.
    """
    cases = list(cases)
    return cases[:number] + [slow(case) for case in cases[number:]]


def slow(case):
    if isinstance(case, type(pytest.param())):
        marks = [*case.marks, pytest.mark.slow]
        return pytest.param(*case.values, id=case.id, marks=marks)
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
