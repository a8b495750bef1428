# SPDX-License-Identifier: Apache-2.0
"""No text of a file moves the cursor of a terminal."""

from __future__ import annotations

import pytest

from keras_kd.core.printable import printable
from keras_kd.core.progress import say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]52;c;aGk=\x07", "\\x1b[2J\\x1b]52;c;aGk=\\x07"),
        ("a\rb\x7f\x9b1m", "a\\rb\\x7f\\x9b1m"),
        ("\u202etxt", "\\u202etxt"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
        ("two\nlines\tü – é 漢\xa0", "two\nlines\tü – é 漢\xa0"),
    ],
)
def test_printable_escapes_what_a_terminal_obeys(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_say_sends_no_escape_code(capsys):
    say("shard \x1b[31mred")
    assert capsys.readouterr().out == "shard \\x1b[31mred\n"
