# SPDX-License-Identifier: Apache-2.0
"""Peak memory of work whose need is known."""

from __future__ import annotations

import time

import pytest

from keras_kd.evaluation.memory import peak_growth

MEGABYTE = 2**20


def hold(megabytes):
    return lambda: len(bytearray(b"x" * (megabytes * MEGABYTE)))


# Above 32 MB, which the C library never takes from what earlier tests freed.
@pytest.mark.parametrize("megabytes", [40, 80])
def test_peak_growth_is_what_the_work_held(megabytes):
    # The bytes and the copy that bytearray makes of them.
    found = peak_growth(hold(megabytes)) / MEGABYTE
    assert 2 * megabytes - 1 < found < 2 * megabytes + 8


def test_peak_growth_starts_anew_each_time():
    peak_growth(hold(64))
    assert peak_growth(hold(1)) < 10 * MEGABYTE


def test_peak_growth_of_work_that_fails_is_none(capfd):
    def fail():
        raise ValueError("no such file")

    assert peak_growth(fail) is None


def test_peak_growth_gives_up_on_work_that_hangs():
    started = time.monotonic()
    assert peak_growth(lambda: time.sleep(60), seconds=0.2) is None
    assert time.monotonic() - started < 10
