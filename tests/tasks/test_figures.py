# SPDX-License-Identifier: Apache-2.0
"""Each figure against scikit-learn, Keras, or what is worked out by hand."""

from __future__ import annotations

import itertools
import re

import keras
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

import reference
from keras_kd import tasks
from keras_kd.tasks.tagging import entities
from tasks.task_cases import ALPHABET
from tasks.task_cases import CASES
from tasks.task_cases import TAGS


def figures_of(name, **weights):
    case = CASES[name]
    meter = case.task.meter()
    meter.update(case.outputs, case.labels, case.teacher, **weights)
    return meter.result()


def logits(name, side="outputs"):
    return getattr(CASES[name], side)["logits"]


def test_classification():
    labels, scores = CASES["classification"].labels, logits("classification")
    known, said = labels >= 0, scores.argmax(-1)
    weights = np.linspace(0.1, 2.0, 12)
    found = figures_of("classification", sample_weight=weights)
    truth = labels[known], said[known]
    given = {"sample_weight": weights[known]}
    theirs = logits("classification", "teacher").argmax(-1)
    assert found == {
        "accuracy": pytest.approx(metrics.accuracy_score(*truth, **given)),
        "macro_f1": pytest.approx(
            metrics.f1_score(*truth, average="macro", **given)
        ),
        "class_accuracy": pytest.approx(
            metrics.recall_score(*truth, average=None, **given)
        ),
        "ece": found["ece"],
        "agreement": pytest.approx(
            metrics.accuracy_score(theirs, said, sample_weight=weights)
        ),
    }
    sure = special.softmax(scores[known], -1).max(-1)
    ece = reference.calibration_error(sure, truth[0] == truth[1])
    assert figures_of("classification")["ece"] == pytest.approx(ece)


@pytest.mark.parametrize("one_unit", [False, True])
def test_two_classes(one_unit):
    labels, scores = CASES["two classes"].labels, logits("two classes")
    known = labels >= 0
    positive = scores[:, 1] - scores[:, 0]
    meter = tasks.Classification(metric="auc").meter()
    meter.update({"logits": positive if one_unit else scores}, labels)
    found = meter.result()
    truth = labels[known], positive[known]
    for name, value in {
        "auc": metrics.roc_auc_score(*truth),
        "average_precision": metrics.average_precision_score(*truth),
        "accuracy": ((positive > 0) == labels)[known].mean(),
        "ece": reference.calibration_error(
            special.expit(np.abs(truth[1])), (truth[1] > 0) == truth[0]
        ),
    }.items():
        assert found[name] == pytest.approx(value), name


def test_probabilities_and_logits_are_judged_alike():
    for name in ("classification", "two classes", "language model"):
        case, scores = CASES[name], logits(name)
        meter = case.task.meter()
        probabilities = special.softmax(scores, -1)  # named by their values
        meter.update(probabilities, case.labels, case.teacher)
        for figure, value in figures_of(name).items():
            found = meter.result()[figure]
            assert found == pytest.approx(value, rel=1e-5), (name, figure)


def test_multi_label():
    labels, scores = CASES["multi-label"].labels, logits("multi-label")
    known = np.arange(12) > 0  # the first row has an entry of -1
    meter = CASES["multi-label"].task.meter()
    teacher = logits("multi-label", "teacher")[known]
    meter.update({"logits": scores[known]}, labels[known], teacher)
    truth, said = labels[known], scores[known] > 0
    theirs = teacher > 0
    assert meter.result() == {
        "macro_f1": pytest.approx(
            metrics.f1_score(truth, said, average="macro")
        ),
        "micro_f1": pytest.approx(
            metrics.f1_score(truth, said, average="micro")
        ),
        "unit_accuracy": pytest.approx((truth == said).mean()),
        "mean_average_precision": pytest.approx(
            metrics.average_precision_score(truth, scores[known])
        ),
        "agreement": pytest.approx(
            metrics.f1_score(theirs, said, average="macro")
        ),
    }


def test_multi_label_counts_no_entry_of_minus_one():
    meter = tasks.MultiLabel().meter()
    meter.update({"logits": [[5.0, 5.0], [-5.0, 5.0]]}, [[1, -1], [0, 1]])
    assert meter.result()["unit_accuracy"] == 1.0
    assert meter.result()["macro_f1"] == 1.0


def test_regression():
    case = CASES["regression"]
    weights = np.linspace(0.1, 2.0, 12)
    truth, given = (case.labels, case.outputs), {"sample_weight": weights}
    assert figures_of("regression", **given) == {
        "mean_absolute_error": pytest.approx(
            metrics.mean_absolute_error(*truth, **given)
        ),
        "root_mean_squared_error": pytest.approx(
            metrics.mean_squared_error(*truth, **given) ** 0.5
        ),
        "r2": pytest.approx(metrics.r2_score(*truth, **given)),
        "agreement": pytest.approx(
            metrics.mean_absolute_error(case.teacher, case.outputs, **given)
        ),
    }


def test_regression_takes_minus_one_for_a_number():
    meter = tasks.Regression().meter()
    meter.update([1.5, 2.0, 7.0], [[1.0], [-1.0], [8.0]])
    assert meter.result()["mean_absolute_error"] == pytest.approx(4.5 / 3)


def test_segmentation():
    labels, scores = CASES["segmentation"].labels, logits("segmentation")
    known, said = labels >= 0, scores.argmax(-1)
    theirs = logits("segmentation", "teacher").argmax(-1)
    truth = labels[known], said[known]
    assert figures_of("segmentation") == {
        "mean_iou": pytest.approx(
            metrics.jaccard_score(*truth, average="macro")
        ),
        "class_iou": pytest.approx(
            list(metrics.jaccard_score(*truth, average=None))
        ),
        "pixel_accuracy": pytest.approx(metrics.accuracy_score(*truth)),
        "agreement": pytest.approx(
            metrics.jaccard_score(theirs.ravel(), said.ravel(), average="macro")
        ),
    }


def test_segmentation_knows_no_ignored_pixel():
    labels, scores = CASES["segmentation"].labels, logits("segmentation")
    task = tasks.Segmentation(ignore_class=255)
    meter = task.meter()
    meter.update({"logits": scores}, np.where(labels < 0, 255, labels))
    known = figures_of("segmentation")
    assert meter.result()["mean_iou"] == known["mean_iou"]
    keras_metric = keras.metrics.MeanIoU(
        3, sparse_y_pred=False, ignore_class=255
    )
    keras_metric.update_state(np.where(labels < 0, 255, labels), scores)
    assert known["mean_iou"] == pytest.approx(float(keras_metric.result()))


def twin_of_entities(tags):
    """Entities by a regular expression over one letter a token."""
    found = set()
    kinds = {tag[2:] for tag in tags if tag != "O"}
    for kind in kinds:
        letters = "".join(
            tag[0] if tag[2:] == kind and tag != "O" else "O" for tag in tags
        )
        for match in re.finditer("[BI]I*", letters):
            found.add((kind, match.start(), match.end() - 1))
    return found


def test_entities_are_those_of_a_regular_expression():
    for tags in itertools.product(TAGS, repeat=4):
        assert entities(tags) == twin_of_entities(tags), tags


def test_entities_of_five_prefixes():
    tags = ["S-A", "S-A", "B-A", "I-A", "E-A", "I-A", "O", "E-B"]
    assert entities(tags) == {
        *(("A", 0, 0), ("A", 1, 1), ("A", 2, 4), ("A", 5, 5)),
        ("B", 7, 7),
    }


def test_tagging():
    labels, said = CASES["tagging"].labels, logits("tagging").argmax(-1)
    theirs = logits("tagging", "teacher").argmax(-1)
    sets = {"true": set(), "said": set(), "theirs": set()}
    for row in range(12):
        known = labels[row] >= 0
        for name, numbers in zip(sets, (labels, said, theirs), strict=True):
            tags = [TAGS[n] for n in numbers[row, known]]
            sets[name] |= {(row, *each) for each in twin_of_entities(tags)}

    def f1(a, b):
        return 2 * len(a & b) / (len(a) + len(b))

    true, found = sets["true"], sets["said"]
    assert figures_of("tagging") == {
        "entity_f1": pytest.approx(f1(true, found)),
        "entity_precision": pytest.approx(len(true & found) / len(found)),
        "entity_recall": pytest.approx(len(true & found) / len(true)),
        "token_accuracy": pytest.approx((said == labels)[labels >= 0].mean()),
        "agreement": pytest.approx(f1(sets["theirs"], found)),
    }


def test_language_model():
    labels, scores = CASES["language model"].labels, logits("language model")
    known = labels >= 0
    logs = special.log_softmax(scores, -1)
    theirs = special.log_softmax(logits("language model", "teacher"), -1)
    entropy = metrics.log_loss(
        labels[known], np.exp(logs[known]), labels=range(9)
    )
    kl = special.rel_entr(np.exp(theirs), np.exp(logs)).sum(-1).mean()
    assert figures_of("language model") == {
        "perplexity": pytest.approx(np.exp(entropy)),
        "cross_entropy": pytest.approx(entropy),
        "token_accuracy": pytest.approx(
            (scores.argmax(-1) == labels)[known].mean()
        ),
        "agreement": pytest.approx(kl),
    }


def test_recommendation():
    case = CASES["recommendation"]
    gains, recalls, shares = [], [], []
    for scores, theirs, items in zip(
        case.outputs, case.teacher, case.labels, strict=True
    ):
        first = list(np.argsort(-scores)[:5])
        shares.append(len({*first} & {*np.argsort(-theirs)[:5]}) / 5)
        liked = {*items} - {-1}
        if liked:
            hits = [item in liked for item in first]
            discount = 1 / np.log2(np.arange(2, 7))
            gains.append(hits @ discount / discount[: len(liked)].sum())
            recalls.append(sum(hits) / len(liked))
    assert figures_of("recommendation") == {
        "ndcg_at_5": pytest.approx(np.mean(gains)),
        "recall_at_5": pytest.approx(np.mean(recalls)),
        "agreement": pytest.approx(np.mean(shares)),
    }


def test_recommendation_takes_items_and_likings():
    scores = [[3.0, 2.0, -np.inf], [1.0, 2.0, 3.0]]
    for labels in ([1, 0], [[1], [0]], [[0, 1, 0], [1, 0, 0]]):
        meter = tasks.Recommendation(top_k=2).meter()
        meter.update(scores, labels)
        # Second of the first list, out of the second.
        assert meter.result()["ndcg_at_2"] == pytest.approx(0.5 / np.log2(3))


def test_retrieval():
    case = CASES["retrieval"]

    def ranked(embeddings):
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        nearness = unit @ unit.T
        np.fill_diagonal(nearness, -np.inf)
        return np.argsort(-nearness, axis=1)

    nearest, theirs = ranked(case.outputs), ranked(case.teacher)
    hits = [
        case.labels[nearest[row, 0]] == label
        for row, label in enumerate(case.labels)
        if label >= 0 and (case.labels == label).sum() > 1
    ]
    shares = [
        len({*a[:10]} & {*b[:10]}) / 10
        for a, b in zip(nearest, theirs, strict=True)
    ]
    assert figures_of("retrieval") == {
        "recall_at_1": pytest.approx(np.mean(hits)),
        "agreement": pytest.approx(np.mean(shares)),
    }


def edit_distance(first, second):
    before = list(range(len(second) + 1))
    for row, a in enumerate(first, start=1):
        now = [row]
        for column, b in enumerate(second, start=1):
            now.append(
                min(
                    before[column] + 1,
                    now[-1] + 1,
                    before[column - 1] + (a != b),
                )
            )
        before = now
    return before[-1]


def test_transcription():
    case = CASES["transcription"]
    decoded, _ = keras.ops.ctc_decode(
        logits("transcription"), np.full(12, 8), mask_index=0
    )
    said, right = (
        # jiwer strips spaces at the ends.
        ["".join(ALPHABET[s] for s in row if s > 0).strip() for row in rows]
        for rows in (np.array(decoded[0]), case.labels)
    )
    pairs = [(r, s) for r, s in zip(right, said, strict=True) if r]
    found = figures_of("transcription")
    for name, cut in (
        ("character_error_rate", list),
        ("word_error_rate", str.split),
    ):
        edits = sum(edit_distance(cut(r), cut(s)) for r, s in pairs)
        length = sum(len(cut(r)) for r, _ in pairs)
        assert found[name] == pytest.approx(edits / length), name


def test_detection_by_hand():
    box = np.array([0.0, 0.0, 10.0, 10.0])
    labels = {
        "boxes": np.array([[box, box + 20], [box, box]]),
        "classes": np.array([[0, 0], [0, -1]]),
    }
    outputs = {
        # Exact; of IoU 0.6; nowhere; and exact.
        "boxes": np.array([[box, box + [20, 20, 20, 16]], [box + 50, box]]),
        "scores": np.array([[0.9, 0.8], [0.7, 0.6]]),
        "classes": np.array([[0, 0], [0, 0]]),
    }
    meter = tasks.Detection().meter()
    meter.update(outputs, labels)
    found = meter.result()
    # At IoU .5: right, right, wrong, right. Precision at recall 1/3 and 2/3
    # is 1, at 1 it is 3/4; COCO reads it at 101 recalls.
    assert found["ap50"] == pytest.approx((67 + 34 * 0.75) / 101)
    # At .75: right, wrong, wrong, right; precision 1, then 1/2 up to 2/3.
    at_75 = (34 + 33 * 0.5) / 101
    assert found["ap75"] == pytest.approx(at_75)
    # IoU .60 counts at .50, .55 and .60 only.
    assert found["ap"] == pytest.approx(
        0.3 * found["ap50"] + 0.7 * at_75, abs=0.02
    )
