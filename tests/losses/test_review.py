# SPDX-License-Identifier: Apache-2.0
"""Knowledge review: the fusion by hand, its wiring, and a real run."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
import reference
from distillers.tiny import Count
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from keras_kd.losses.review_fusion import ReviewFusion
from keras_kd.losses.review_fusion import resize_nearest
from keras_kd.recipes import digits
from selection import quick

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8, 8, 1)).astype("float32")
Y = np.arange(6) % 3
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}
TAPS = ["early", "late", "pooled"]


def cnn(width, first_stride=1, classes=3, taps=(), size=8):
    """Stages of 8x8 (or 4x4) and 4x4 (or 2x2) positions, then a vector."""
    x = keras.Input((size, size, 1))
    h = layers.Conv2D(
        width, 3, first_stride, padding="same", activation="relu"
    )(x)
    for layer in taps:
        h = layer(h)
    h = layers.Activation("linear", name="early")(h)
    h = layers.Conv2D(2 * width, 3, 2, padding="same", activation="relu")(h)
    h = layers.Activation("linear", name="late")(h)
    h = layers.GlobalAveragePooling2D(name="pooled")(h)
    return keras.Model(x, layers.Dense(classes, name="scores")(h))


def distil(loss=None, teacher=None, student=None, rate=0.1, **compile_with):
    distiller = kd.Distiller(
        teacher or cnn(5),
        student or cnn(3, first_stride=2),
        alpha=0.5,
        distillation_losses=loss or kd.losses.Review(TAPS, TAPS),
    )
    compile_with.setdefault("run_eagerly", "jit_compile" not in compile_with)
    return distiller.compile(
        keras.optimizers.SGD(rate), cross_entropy(), **compile_with
    )


# The formula of the distance.


def test_grids_that_are_not_smaller_than_the_map_are_left_out():
    """A constant offset of 1 has distance 1, whichever grids are there."""
    for size in (1, 2, 3, 4, 5, 9):
        maps = RNG.normal(size=(2, size, size, 3))
        values = kd.losses.hierarchical_context(maps, maps + 1.0)
        np.testing.assert_allclose(values, [1.0, 1.0], rtol=1e-5)


def test_distance_of_a_checkerboard_by_hand():
    """4x4: only the full map sees it; w = 1, 1/2, 1/4 (2x2, 1x1)."""
    board = (np.indices((4, 4)).sum(0) % 2 * 2.0 - 1.0)[None, ..., None]
    values = kd.losses.hierarchical_context(board, np.zeros_like(board))
    np.testing.assert_allclose(values, [1.0 / 1.75], rtol=1e-6)


def test_maps_of_several_stages_are_summed():
    pairs = [RNG.normal(size=(2, 3, *s)) for s in ((7, 6, 2), (3, 3, 4), (5,))]
    expected = sum(reference.review(*pair) for pair in pairs)
    values = kd.losses.review(*zip(*pairs, strict=True))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


# The fusion.


def normalized(maps, layer, epsilon=1e-5):
    """Batch normalisation of one batch, with the layer's scale and shift.

    The guard is that of the authors' code, whatever the layer's is.
    """
    gamma, beta = (np.asarray(w, "float64") for w in layer.get_weights()[:2])
    axes = (0, 1, 2)
    deviation = np.sqrt(maps.var(axes) + epsilon)
    return gamma * (maps - maps.mean(axes)) / deviation + beta


def convolved(maps, kernel):
    """A convolution with zero padding, by its definition."""
    reach = kernel.shape[0] // 2
    padded = np.pad(maps, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    height, width = maps.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i, j in np.ndindex(kernel.shape[:2])
    )


def fused_by_hand(fusion, maps, sizes):
    """The paper's figure 3, stage by stage from the deepest."""
    outputs, deeper = [], None
    for stage, x, size in reversed(
        list(zip(fusion.stages, maps, sizes, strict=True))
    ):
        convolution, normalization = stage.narrow.layers
        x = convolved(x, np.asarray(convolution.kernel, "float64"))
        x = normalized(x, normalization)
        if deeper is not None:
            times = x.shape[1] // deeper.shape[1]
            deeper = deeper.repeat(times, axis=1).repeat(times, axis=2)
            kernel, bias = map(np.asarray, stage.attention.get_weights())
            look = np.concatenate([x, deeper], axis=-1)
            look = reference.sigmoid(look @ kernel[0, 0] + bias)
            x = x * look[..., :1] + deeper * look[..., 1:]
        times = size // x.shape[1]
        deeper = x.repeat(times, axis=1).repeat(times, axis=2)
        convolution, normalization = stage.widen.layers
        x = convolved(deeper, np.asarray(convolution.kernel, "float64"))
        outputs.append(normalized(x, normalization))
    return outputs[::-1]


def test_fusion_equals_the_formula_by_hand():
    fusion = ReviewFusion([(8, 8, 5), (4, 4, 6), (7,)], width=3)
    maps = [RNG.normal(size=(4, *s)) for s in ((4, 4, 2), (4, 4, 3), (1, 1, 4))]
    fusion.build([m.shape for m in maps])
    for weight in fusion.trainable_weights:  # also biases, and no zeros
        weight.assign(RNG.normal(size=weight.shape))
    # Weak features, whose variance does not drown the guard.
    maps = [0.03 * m for m in maps]
    expected = fused_by_hand(fusion, maps, (8, 4, 1))
    expected[-1] = expected[-1][:, 0, 0]
    inputs = [m.astype("float32") for m in maps]
    received = fusion([*inputs[:-1], inputs[-1][:, 0, 0]], training=True)
    for ours, theirs in zip(received, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("size", "wanted"), [(2, 4), (3, 7), (7, 3), (1, 5)])
def test_nearest_resizing_is_keras_own(size, wanted):
    maps = RNG.normal(size=(2, size, size, 3)).astype("float32")
    own = [place * size // wanted for place in range(wanted)]
    received = resize_nearest(maps, (wanted, wanted))
    np.testing.assert_array_equal(received, maps[:, own][:, :, own])
    if wanted % size == 0:
        keras_own = keras.ops.image.resize(
            maps, (wanted, wanted), "nearest", data_format="channels_last"
        )
        np.testing.assert_array_equal(received, keras_own)


def test_fusion_width_is_the_deepest_inputs_unless_given():
    for width, expected in ((None, 6), (4, 4)):
        loss = kd.losses.Review(TAPS, TAPS, width=width)
        fusion = distil(loss).projectors["review"]
        assert fusion.stages[0].width == expected


# In the distiller.


# The loss is compiled by test_contract.py.
@pytest.mark.parametrize(
    "mode",
    quick(1, [{"run_eagerly": True}] + [{"jit_compile": x} for x in (0, 1)]),
    ids=str,
)
def test_taps_of_other_sizes_and_widths_are_matched(mode):
    distiller = distil(**mode)
    fusion = distiller.projectors["review"]
    before = fusion.get_weights()
    taps = kd.tap(distiller.teacher, TAPS)(X)
    logs = distiller.fit(X, Y, epochs=2, **ONCE).history
    assert np.isfinite(logs["review"]).all() and min(logs["review"]) > 0.0
    moved = [
        np.any(a != b)
        for a, b in zip(before, fusion.get_weights(), strict=True)
    ]
    assert all(moved)  # also the statistics of the batch normalisation
    ours = kd.tap(distiller.student, TAPS)(X)
    fused = fusion([ours[tap] for tap in TAPS])
    assert [f.shape for f in fused] == [taps[tap].shape for tap in TAPS]


def test_logged_value_is_that_of_the_fused_taps():
    distiller = distil(rate=0.0)
    theirs = kd.tap(distiller.teacher, TAPS)(X)
    ours = kd.tap(distiller.student, TAPS)(X)
    fusion = distiller.projectors["review"]
    fused = fusion([ours[tap] for tap in TAPS], training=True)
    expected = sum(
        reference.review(np.asarray(theirs[tap]), np.asarray(f))
        for tap, f in zip(TAPS, fused, strict=True)
    ).mean()
    logs = distiller.fit(X, Y, **ONCE).history
    assert logs["review"] == pytest.approx([expected], rel=1e-4)


def test_student_and_teacher_run_once_per_step():
    student, teacher = Count(), Count()
    distil(
        teacher=cnn(5, taps=[teacher]),
        student=cnn(3, 2, taps=[student]),
    ).fit(X, Y, epochs=3, **ONCE)
    assert (student.calls, teacher.calls) == (3, 3)


def test_saved_distiller_goes_on_where_it_was(tmp_path):
    kept, other = (distil() for _ in range(2))
    other.set_weights(kept.get_weights())
    kept.fit(X, Y, **ONCE)
    kept.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loss = loaded.distillation_losses[0]
    assert (loss.teacher, loss.student) == (tuple(TAPS), tuple(TAPS))
    assert_same_weights(loaded, kept)
    loaded.teacher = kept.teacher
    logs = [d.fit(X, Y, **ONCE).history for d in (kept, loaded)]
    assert logs[0]["review"] == pytest.approx(logs[1]["review"], rel=1e-5)
    assert_same_weights(loaded, kept, tolerance=1e-5)


def test_mixed_precision_stays_finite():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        distiller = distil()
        logs = distiller.fit(1e3 * X, Y, epochs=2, **ONCE).history
    finally:
        keras.config.set_dtype_policy("float32")
    fusion = distiller.projectors["review"]
    assert fusion.stages[0].widen.layers[0].compute_dtype == "float16"
    assert np.isfinite(logs["review"]).all()
    assert {w.dtype for w in fusion.weights} == {"float32"}


@pytest.mark.slow
def test_review_teaches_real_scans():
    data = digits.load_data(labelled=None)
    fit = {"batch_size": 64, "verbose": 0}
    keras.utils.set_random_seed(0)
    teacher, student = digits.build_teacher(), digits.build_student()
    teacher.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    teacher.fit(*data.train, epochs=4, **fit)
    loss = kd.losses.Review(
        [teacher.layers[1].name, teacher.layers[4].name],
        [layer.name for layer in student.layers[:2]],
        warm_up_steps=17,
    )
    distiller = kd.Distiller(
        teacher, student, alpha=0.5, distillation_losses=loss
    )
    distiller.compile(
        keras.optimizers.Adam(0.01), cross_entropy(), metrics=["accuracy"]
    )
    before = student.count_params()
    logs = distiller.fit(
        *data.train, epochs=8, validation_data=data.validation, **fit
    ).history
    assert logs["review"][-1] < 0.5 * logs["review"][0]
    assert logs["val_accuracy"][-1] > 0.8
    assert distiller.student.count_params() == before


def test_single_taps_need_no_list():
    listed = distil(kd.losses.Review(["late"], ["early"]), rate=0.0)
    single = distil(kd.losses.Review("late", "early"), rate=0.0)
    single.set_weights(listed.get_weights())
    single.teacher = listed.teacher
    logs = [d.fit(X, Y, **ONCE).history["review"] for d in (listed, single)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)


def test_without_fusion_taps_of_one_shape_are_compared_as_they_are():
    teacher, student = cnn(3), cnn(3)
    loss = kd.losses.Review(TAPS, TAPS, projector=None)
    distiller = distil(loss, teacher, student, rate=0.0)
    assert distiller.projectors == {}
    theirs, ours = (kd.tap(model, TAPS)(X) for model in (teacher, student))
    expected = sum(
        reference.review(np.asarray(theirs[tap]), np.asarray(ours[tap]))
        for tap in TAPS
    ).mean()
    logs = distiller.fit(X, Y, **ONCE).history
    assert logs["review"] == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: kd.losses.Review(["early", "late"], ["early"]),
            r"as many taps.*\('early', 'late'\).*\('early',\)",
        ),
        (
            lambda: kd.losses.Review(projector=layers.Dense(3)),
            "`projector` must be 'auto' or None.*Dense",
        ),
        (lambda: kd.losses.Review(width=0), "`width` must be at least 1"),
        (
            lambda: distil(student=cnn(3, size=None)),
            r"known sizes.*the student of shape \(None, None, None, 3\)",
        ),
        (
            lambda: distil(teacher=cnn(3, size=None)),
            r"known sizes.*the teacher of shape \(None, None, None, 3\)",
        ),
        (
            lambda: distil(kd.losses.Review(TAPS, TAPS, projector=None)),
            "needs taps of the same shape",
        ),
        (
            lambda: ReviewFusion([(3,)]).build([(None, 2), (None, 2)]),
            r"1 tap\(s\) of the teacher, 2 of the student",
        ),
    ],
    ids=[
        "lengths",
        "projector",
        "width",
        "student_size",
        "teacher_size",
        "no_fusion",
        "fusion",
    ],
)
def test_wrong_use_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
