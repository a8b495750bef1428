# SPDX-License-Identifier: Apache-2.0
"""The page of a search: whole, self-contained, escaped, honest."""

from __future__ import annotations

import ast
import base64
import html.parser
import re

import pytest

from keras_kd.tuning.display import page
from keras_kd.tuning.display import picture
from keras_kd.tuning.display.importance import importance
from tuning import sample
from tuning.sample import CONFIRMED

VOID = {"meta", "img"}


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def rendered(rows, confirmed=None):
    options = ("val_accuracy", "max", confirmed, importance(rows))
    return page.render(rows, *options, picture.render(rows, *options))


@pytest.fixture(scope="module")
def written():
    return rendered(sample.mixed(), CONFIRMED)


def test_page_needs_no_network(written):
    sources = [
        value
        for _, attributes in Reader(written).tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action")
    ]
    (image,) = sources
    kind, _, data = image.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert not re.search(r"https?://|@import|url\(", written)
    assert not any(tag == "script" for tag, _ in Reader(written).tags)


def test_page_escapes_names_and_messages(written):
    assert "<script" not in written
    # As a name, and in a failed trial's message.
    assert Reader(written).text.count(sample.HOSTILE) == 2


def test_page_tells_all_of_the_search(written):
    text = Reader(written).text
    assert str(CONFIRMED) in text
    assert "best: " not in text
    rows = [tag for tag, _ in Reader(written).tags].count("tr") - 1
    assert rows == len(sample.mixed())
    for words in ("stopped early", "failed", "running", "10 failed: ValueErr"):
        assert words in text
    assert "out-of-bag R2" in text and "Measured on" in text
    assert ("tr", {"class": "best"}) in Reader(written).tags


def test_page_fits_a_phone(written):
    tags = Reader(written).tags
    width = "width=device-width, initial-scale=1"
    assert ("meta", {"name": "viewport", "content": width}) in tags


def test_settings_code_is_python_that_holds_the_settings():
    settings = {
        "temperature": 2.123456789,
        "alpha": 0.9,
        "learning_rate": 1e-3,
        "units": 16,
        "a\nb": "c\nd",
    }
    code = page.settings_code(settings)
    call = ast.parse(code).body[0].value
    assert len(ast.parse(code).body) == 1
    assert ast.unparse(call.func) == "kd.compress"
    found = {word.arg: word.value.value for word in call.keywords}
    assert found == {
        "directory": "run",
        "temperature": 2.123456789,
        "alpha": 0.9,
        "learning_rate": 1e-3,
    }
    assert "'units': 16" in code


def test_settings_code_names_arguments_of_compress():
    import inspect

    import keras_kd as kd

    names = inspect.signature(kd.compress).parameters
    assert set(page.ARGUMENTS) <= set(names)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "No trial with a teacher has ended with a value."),
        (
            [sample.control(0.8), sample.row("00", 4, 0.7, 0.9)],
            "Best of the search: 90.00 % in trial 00. Control: 80.00 %, so "
            "best minus control is +10 points.",
        ),
    ],
)
def test_page_without_confirmation_claims_no_gain(rows, text):
    found = Reader(rendered(rows)).text
    assert text in found
    assert ("a gain is not shown" in found) == bool(rows)
    assert "takes 8 finished trials" in found
