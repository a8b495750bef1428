# SPDX-License-Identifier: Apache-2.0
"""The picture of a search: what it shows, and what it says when it cannot."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from keras_kd.tuning.display import landscape
from keras_kd.tuning.display import picture
from keras_kd.tuning.display.importance import importance
from tuning import sample
from tuning.sample import CONFIRMED


def panels(rows, confirmed=None, direction="max"):
    """Returns the map, the bars, the seeds and the colour bar if any."""
    figure = picture.plot(
        rows, "val_accuracy", direction, confirmed, importance(rows)
    )
    return (*figure.axes, None)[:4]


def words(panel):
    """Returns all that is written in a panel, on one line."""
    legend = panel.get_legend()
    texts = [*panel.texts, panel.xaxis.label, panel.yaxis.label]
    texts += legend.get_texts() if legend else []
    return " ".join(" ".join(text.get_text() for text in texts).split())


def places(panel, label):
    """Returns the (T, alpha) of the points that the legend calls so."""
    (found,) = [
        points
        for points in panel.collections
        if str(points.get_label()).startswith(label)
    ]
    return np.asarray(found.get_offsets()).tolist()


def test_picture_is_a_png_of_the_stated_size_with_full_panels():
    rows = sample.mixed()
    found = picture.render(
        rows, "val_accuracy", "max", CONFIRMED, importance(rows)
    )
    pixels = matplotlib.image.imread(io.BytesIO(found))[..., :3]
    assert pixels.shape == (picture.PIXELS[1], picture.PIXELS[0], 3)
    for part in np.array_split(pixels, 3, axis=1):
        assert (part < 0.9).any(axis=-1).mean() > 0.01


def test_map_shows_each_trial_where_it_was():
    left, _, _, bar = panels(sample.mixed())
    assert len(places(left, "completed")) == 10
    assert places(left, "stopped early") == [[8.0, 0.4]]
    assert places(left, "failed") == [[2.0, 0.1]]
    assert places(left, "default") == [[1.0, 0.7]]
    rows = sample.mixed()
    best = max(rows[1:10], key=lambda row: row.objective)
    assert places(left, "best") == [list(best.settings.values())]
    assert left.get_xscale() == "log"
    assert "1 trial without T or alpha not shown" in words(left)
    assert "Gaussian process" in words(left)
    assert "val_accuracy (%)" in words(bar)
    assert "control 85.00 %" in words(bar)


def test_map_background_peaks_where_the_objective_does():
    rows = sample.trials(40, sample.hill)
    values = np.array([100 * row.objective for row in rows])
    temperature, alpha, height = landscape._smooth(rows, values, (1.0, 16.0))
    peak = np.unravel_index(height.argmax(), height.shape)
    assert temperature[peak] == pytest.approx(4, rel=0.3)
    assert alpha[peak] == pytest.approx(0.7, abs=0.1)
    assert height.max() == pytest.approx(90, abs=0.5)


def test_map_colours_survive_a_diverged_trial():
    rows = sample.trials(20, sample.hill)
    rows.append(sample.row("99", 3.0, 0.6, 0.01))
    left, *_ = panels(rows)
    limits = left.collections[0].get_clim()
    assert limits[0] > 80 and limits[1] > 89
    background = left.collections[0].get_array()
    assert background.min() > 80 and background.max() > 88


def test_map_of_few_trials_has_no_background():
    left, middle, right, _ = panels(sample.mixed()[:2])
    assert "Gaussian process" not in words(left)
    assert "takes 8 finished trials. So far: 1." in words(middle)
    assert "not run again with fresh seeds" in words(right)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [sample.control()],
        [sample.row("00", 2.0, 0.1, None, "failed")],
        [sample.row("00", 2.0, 0.1, None, "running")],
    ],
)
def test_map_without_values_says_so(rows):
    left, middle, right, _ = panels(rows)
    assert "No trial with a temperature and an alpha" in words(left)
    assert not any(panel.axison for panel in (left, middle, right))
    found = picture.render(rows, "val_accuracy", "max", None, importance(rows))
    assert found.startswith(b"\x89PNG")


def test_map_is_bright_where_lower_is_better():
    left, *_ = panels(sample.mixed(), direction="min")
    assert left.collections[0].get_cmap().name == "cividis_r"
    assert places(left, "best") == [[8.0, 0.4]]


def test_bars_show_the_importance():
    def of_alpha(octave, alpha, noise):
        return alpha

    _, middle, _, _ = panels(sample.trials(20, of_alpha))
    labels = [label.get_text() for label in middle.get_yticklabels()]
    assert labels[-1] == "alpha"
    assert middle.patches[-1].get_width() > 80
    assert "out-of-bag R2" in words(middle)


def test_seeds_are_dots_with_mean_and_verdict():
    _, _, right, _ = panels(sample.mixed(), CONFIRMED)
    dots = [line for line in right.lines if line.get_marker() == "o"]
    assert [sorted(line.get_ydata()) for line in dots] == [
        sorted(100 * np.array(side))
        for side in (CONFIRMED.control, CONFIRMED.default, CONFIRMED.best)
    ]
    means = [
        line.get_ydata()[0] for line in right.lines if line.get_marker() == "s"
    ]
    assert means == pytest.approx([88 + 1 / 3, 90 + 1 / 3, 92])
    assert "best minus default: +1.67 points (gain)" in words(right)
    assert "validation accuracy (%)" in words(right)
