# SPDX-License-Identifier: Apache-2.0
"""The page of a run: whole, self-contained, escaped, and no more than told."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf

import firefox
from keras_kd.core.records import StageRecord
from keras_kd.evaluation.disagreements import FILE
from keras_kd.evaluation.disagreements import Disagreements
from keras_kd.evaluation.disagreements import find_disagreements
from keras_kd.report import Report

HOSTILE = "<script>alert('&')</script>"
VOID = {"meta", "img", "br"}
LABELS = np.arange(40) % 2
TEACHER = np.eye(2)[LABELS] * np.linspace(1, 5, 40)[:, None]
IMAGES = np.zeros((40, 8, 8, 1), "float32")
IMAGES[:, 0, 0, 0] = np.arange(40)


HISTORY = {"history": {"val_accuracy": [0.5, 0.75, 0.9], "loss": [2, 1, 0]}}


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

    @property
    def images(self):
        sources = [dict(a)["src"] for tag, a in self.tags if tag == "img"]
        return [base64.b64decode(s.partition(",")[2]) for s in sources]


def figures(accuracy, by_class):
    return {
        "accuracy": accuracy,
        "class_accuracy": by_class,
        "ece": 0.0312,
        "bytes": 51_200,
        "gzip_bytes": 20_480,
        "latency_ms_p50": 0.25,
        "latency_ms_p99": 0.75,
        "throughput_per_second": 9876.5,
        "throughput_batch": 32,
        "throughput_repeats": 20,
        "peak_memory_bytes": 3 * 2**20,
    }


def records():
    seeds = {"seeds": [0, 1], "accuracies": [0.9, 0.91]}
    return [
        StageRecord("teacher", "teacher", {}, figures(0.95, [0.9, 1.0])),
        StageRecord(
            "control", "control", {}, {**figures(0.9, [0.8, None]), **seeds}
        ),
        StageRecord(
            "student",
            "distilled",
            {"temperature": 3.0, "alpha": 0.6, "epochs": 7, "seed": 1},
            {**figures(0.9, [0.9, 0.95]), **seeds, **HISTORY},
        ),
        StageRecord("export", HOSTILE, {}, figures(0.9, [0.95, 0.75])),
    ]


def student_logits(flipped):
    logits = TEACHER.copy()
    logits[flipped] = logits[flipped][:, ::-1]
    return {"logits": logits}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    stages = folder / "stages"
    for number in (0, 1, 7):
        StageRecord(
            "student",
            "student",
            {"seed": number, "alpha": 0.9, "note": HOSTILE},
            {"accuracy": 0.123},
            {f"student-{number}.keras": f"{number}f" * 32},
            seconds=12.34,
            created=1.7e9 + number,
        ).save(stages / f"student-{number}.json")
    StageRecord(
        "export", "it", artefacts={"../1/saved_model.pb": "ab" * 32}
    ).save(stages / "export.json")
    find_disagreements(
        (IMAGES, LABELS),
        LABELS,
        TEACHER,
        student_logits([3, 30, 39]),
        ".tflite",
        ("cat & dog", HOSTILE),
    ).save(stages / FILE)
    report = Report(
        folder, records(), [f"Mind {HOSTILE}"], command=f"keras-kd {HOSTILE}"
    )
    report.save()
    return folder, (folder / "report.html").read_text("utf-8")


def test_page_needs_no_network(written):
    _, content = written
    assert not re.search(r"https?://|@import|url\(", content)
    assert not any(tag in ("script", "link") for tag, _ in Reader(content).tags)
    images = Reader(content).images
    assert len(images) == 1 + 3
    assert all(image.startswith(b"\x89PNG") for image in images)


def test_page_escapes_names_notes_classes_settings_and_command(written):
    _, content = written
    assert "<script" not in content
    text = Reader(content).text
    for words in (f"Mind {HOSTILE}", f"keras-kd {HOSTILE}", "cat & dog"):
        assert words in text
    assert f"{HOSTILE} minus teacher" in text
    assert f"teacher: {HOSTILE}" in text
    assert json.dumps({"note": HOSTILE})[1:-1] in text


def test_page_has_every_figure_and_says_how_it_was_taken(written):
    text = Reader(written[1]).text
    for cell in ("3.12", "50.0", "20.0", "0.750", "9,876", "3.0"):
        assert f" {cell} " in text, cell
    for words in ("Guo", "level 6", "batches of 32, median of 20", "resident"):
        assert words in text
    assert "Distilled minus control" in text


def test_page_compares_classes_with_the_teacher(written):
    reader = Reader(written[1])
    assert f"cat & dog 90.00 80.00 90.00 95.00 +5.00 {HOSTILE}" in reader.text
    assert "100.00 – 95.00 75.00 -25.00" in reader.text
    assert reader.tags.count(("td", {"class": "loss"})) == 1
    bar = {"class": "bar", "style": "--part: 75.00%"}
    assert ("td", bar) in reader.tags


def test_page_tells_the_lineage_of_this_run_only(written):
    folder, content = written
    text = Reader(content).text
    assert "student-0 (2023-11-14 22:13:20 UTC, 12.3 s)" in text
    assert "stages/student-1.keras " + "1f" * 32 in text
    assert "1/saved_model.pb " + "ab" * 32 in text
    assert "student-7" not in text  # a seed of another run
    names = [stage.name for stage in Report.load(folder).lineage]
    assert names == ["student-0", "student-1", "export"]


def test_page_shows_where_student_and_teacher_disagree(written):
    reader = Reader(written[1])
    assert ".tflite and the teacher decide 3 of 40 test examples" in reader.text
    assert "(7.50%): the teacher alone is right in 3" in reader.text
    alts = [dict(a)["alt"] for tag, a in reader.tags if tag == "img"]
    # The surest first.
    assert alts[1:] == [f"test example {n}" for n in (39, 30, 3)]
    from matplotlib import image

    surest, _, least = [
        image.imread(io.BytesIO(png))[0, 0, 0] for png in reader.images[1:]
    ]
    assert surest == 1 and least == pytest.approx(3 / 39, abs=0.01)


def test_page_is_made_again_from_the_folder_alone(written):
    folder, content = written
    Report.load(folder).save()
    assert (folder / "report.html").read_text("utf-8") == content


@pytest.mark.usefixtures("no_picture")
def test_page_of_an_old_run_leaves_out_what_it_lacks(tmp_path):
    old = StageRecord("teacher", "teacher", {}, {"accuracy": 0.9})
    Report(tmp_path, [old], command="x").save()
    content = json.loads((tmp_path / "report.json").read_text())
    del content["lineage"], content["seal"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    Report.load(tmp_path).save()
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "90.00" in text and "Reproduce this run" in text
    for words in ("ECE", "by class", "disagree", "Lineage"):
        assert words not in text


@pytest.mark.usefixtures("no_picture")
def test_page_says_that_disagreements_are_damaged(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / FILE).write_bytes(b"PK not an archive")
    Report(tmp_path, records()).save()
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "holds no disagreements" in text


@pytest.mark.usefixtures("no_picture")
def test_page_of_many_classes_shows_those_that_change(tmp_path):
    before = np.full(100, 0.5)
    after = before.copy()
    after[77] = 0.1
    shown = [
        StageRecord(stage, stage, {}, {"class_accuracy": list(values)})
        for stage, values in (("teacher", before), ("export", after))
    ]
    Report(tmp_path, shown).save()
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "The 40 of 100 classes that change most." in text
    assert "77 50.00 10.00 -40.00 0 50.00 50.00 +0.00" in text


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_disagreements_round_trip(kind, tmp_path):
    inputs = {"a": np.arange(80.0).reshape(40, 2), "b": np.array(["x"] * 40)}
    split = (inputs, LABELS)
    if kind == "dataset":
        split = tf.data.Dataset.from_tensor_slices(split).batch(7)
    found = find_disagreements(
        split, LABELS, TEACHER, student_logits([3, 30, 39])
    )
    found.save(tmp_path / FILE)
    loaded = Disagreements.load(tmp_path / FILE)
    assert loaded.columns == ("a", "b")
    assert loaded.texts.tolist() == [
        ["78, 79", "x"],
        ["60, 61", "x"],
        ["6, 7", "x"],
    ]
    assert loaded.numbers.tolist() == [39, 30, 3]
    for name, value in vars(found).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)


def test_disagreements_may_be_none(tmp_path):
    found = find_disagreements(
        (IMAGES, LABELS), LABELS, TEACHER, {"logits": TEACHER}
    )
    found.save(tmp_path / FILE)
    assert Disagreements.load(tmp_path / FILE).total == 0


def test_disagreements_keep_twelve_small_pictures(tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (40, 224, 224, 3))
    found = find_disagreements(
        (large.astype("uint8"), LABELS),
        LABELS,
        TEACHER,
        student_logits(slice(None)),
    )
    assert found.total == 40
    assert found.images.shape == (12, 75, 75, 3)
    found.save(tmp_path / FILE)
    assert (tmp_path / FILE).stat().st_size < 250_000


@pytest.mark.parametrize(
    ("labels", "teacher", "student"),
    [
        (LABELS + 0.5, TEACHER, {"output": TEACHER[:, :1]}),  # numbers
        (np.zeros((40, 3)), np.zeros((40, 3, 2)), {"a": np.zeros((40, 3, 2))}),
    ],
)
def test_disagreements_need_one_class_per_example(labels, teacher, student):
    split = (IMAGES, labels)
    assert find_disagreements(split, labels, teacher, student) is None


def test_disagreements_of_one_unit_are_of_two_classes():
    # A teacher's sigmoid unit arrives as the logits of no and yes.
    teacher = TEACHER[:, None, :]
    unit = {"logits": (TEACHER[:, 1] - TEACHER[:, 0])[:, None]}
    unit["logits"][[3, 5]] *= -1
    found = find_disagreements((IMAGES, LABELS), LABELS, teacher, unit)
    assert (found.total, found.teacher_right) == (2, 2)


def verdict_of(tmp_path, control, distilled):
    shown = [
        StageRecord("control", "control", {}, {"accuracies": control}),
        StageRecord("student", "distilled", {}, {"accuracies": distilled}),
    ]
    for record in shown:
        record.metrics["seeds"] = list(range(len(control)))
    found = Report(tmp_path, shown).to_html(b"png")
    (line,) = re.findall(r'<p class="(headline .*?)">(.*?)</p>', found)
    return line


def test_page_says_the_verdict_first_in_its_colour(tmp_path, written):
    low, high = [0.5, 0.51, 0.49], [0.6, 0.61, 0.59]
    kind, text = verdict_of(tmp_path, low, high)
    assert (kind, text) == ("headline gain", "Gain: +10.00 points of accuracy")
    kind, text = verdict_of(tmp_path, high, low)
    assert kind == "headline loss" and text.startswith("Worse than without")
    kind, text = verdict_of(tmp_path, low, low[::-1])
    assert kind == "headline open" and text.startswith("No gain shown")
    kind, text = verdict_of(tmp_path, low[:1], high[:1])
    assert kind == "headline open" and "may be chance" in text
    student = StageRecord("student", "distilled", {}, {"accuracy": 0.5})
    assert "No control" in Report(tmp_path, [student]).to_html(b"png")
    assert written[1].index("headline open") < written[1].index("<table")


def test_page_names_the_run_and_its_settings_before_the_figures(written):
    folder, content = written
    text = Reader(content).text
    assert f"<title>{folder.name}: distillation report</title>" in content
    settings = "temperature 3 alpha 0.6 epochs 7 seeds 0, 1"
    assert text.index(settings) < text.index("Quality and size")


def test_page_draws_the_history_and_links_the_search(written):
    folder, content = written
    assert "Validation accuracy over 3 epochs" in Reader(content).text
    ((_, line),) = [t for t in Reader(content).tags if t[0] == "polyline"]
    heights = [float(p.split(",")[1]) for p in line["points"].split()]
    assert heights == sorted(heights, reverse=True)  # upwards
    assert heights[0] == 212 and heights[-1] == 8
    assert "search.html" not in content
    (folder / "search").mkdir()
    (folder / "search" / "search.html").write_text("trials")
    found = Report.load(folder).to_html(b"png")
    (folder / "search" / "search.html").unlink()
    (folder / "search").rmdir()
    assert 'href="search/search.html"' in found


def test_page_defines_its_colours_for_light_and_dark(written):
    style = written[1].partition("<style>")[2].partition("</style>")[0]
    light, dark = style.split("prefers-color-scheme: dark")
    names = set(re.findall(r"(--[a-z]+):", light))
    assert names == set(re.findall(r"(--[a-z]+):", dark))
    rules = dark.partition("}")[2]
    assert not re.findall(r"(?:^|[^-])color: #", rules)


@pytest.mark.slow
@pytest.mark.skipif(not firefox.find(), reason="needs Firefox")
def test_page_fits_a_laptop_and_a_phone_in_a_real_browser(written):
    with firefox.Browser() as browser:
        for width in (1280, 390):
            browser.open((written[0] / "report.html").as_uri(), width)
            assert browser.run("return window.innerWidth") == width
            page = "document.documentElement"
            over = f"return {page}.scrollWidth - {page}.clientWidth"
            assert browser.run(over) == 0
            cut = browser.run(
                "return [...document.querySelectorAll('.scroll')]"
                ".filter(box => box.scrollWidth > box.clientWidth).length"
            )
            # On a phone the tables scroll inside their own boxes.
            assert cut == 0 if width == 1280 else cut > 0
