# SPDX-License-Identifier: Apache-2.0
"""Targets of a few classes that come with the data train a student."""

from __future__ import annotations

import numpy as np
import pytest

from distillers import tiny
from keras_kd import Distiller
from keras_kd import losses
from keras_kd.losses.sparse import to_dense
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.store.encodings import Sampled
from keras_kd.targets.store.encodings import TopK
from selection import quick


def logits(rows=24):
    return 3.0 * np.random.default_rng(5).normal(size=(rows, tiny.CLASSES))


def attached(encoding):
    target = encoding.target(encoding.fields(logits()))
    target = {key: np.array(value) for key, value in target.items()}
    return attach_targets(tiny.features(), {"output": target}), target


def first_step(x, loss, **compile_arguments):
    distiller = Distiller(
        None, tiny.linear(), alpha=1.0, distillation_losses=loss
    )
    mode = compile_arguments or {"run_eagerly": True}
    distiller.compile("sgd", tiny.cross_entropy(), **mode)
    history = distiller.fit(
        x, tiny.labels(), batch_size=24, verbose=0, shuffle=False
    ).history
    return history, distiller.student.get_weights()


def test_ranking_needs_the_best_items_only():
    sparse, _ = attached(TopK(2))
    dense = attach_targets(tiny.features(), {"output": logits()})
    (ours, _), (theirs, _) = (
        first_step(x, losses.Ranking(top_k=2)) for x in (sparse, dense)
    )
    assert ours["ranking"] == pytest.approx(theirs["ranking"], rel=1e-6)
    for refused, text in (
        (losses.Ranking(top_k=3), "Received: .* of 2 items"),
        (losses.Ranking(top_k=2, dynamic=True), "with top_k=None"),
    ):
        with pytest.raises(ValueError, match=text):
            first_step(sparse, refused)


EAGER, GRAPH = {"run_eagerly": True}, {"jit_compile": False}
XLA = {"jit_compile": True}


@pytest.mark.parametrize(
    ("divergence", "arguments"),
    quick(
        2,
        [("forward_kl", GRAPH), ("reverse_kl", EAGER)]
        + [("forward_kl", EAGER), ("reverse_kl", GRAPH)]
        + [("forward_kl", XLA), ("reverse_kl", XLA)],
    ),
)
def test_all_but_one_class_train_as_all_of_them(divergence, arguments):
    # Two named classes and "another" are all three classes.
    sparse, _ = attached(TopK(tiny.CLASSES - 1))
    dense = attach_targets(tiny.features(), {"output": logits()})
    loss = losses.SoftTargets(3.0, divergence=divergence)
    histories, weights = zip(
        *(first_step(sparse, loss, **arguments), first_step(dense, loss)),
        strict=True,
    )
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    for key in ("soft_targets", "teacher_agreement"):
        np.testing.assert_allclose(
            histories[0][key], histories[1][key], rtol=5e-3
        )


def test_loss_that_needs_all_classes_gets_logits():
    sparse, target = attached(TopK(1))
    filled = np.asarray(to_dense(target, tiny.CLASSES))
    dense = attach_targets(tiny.features(), {"output": filled})
    results = [
        first_step(x, losses.Decoupled(temperature=2.0))
        for x in (sparse, dense)
    ]
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_sampled_targets_train_at_their_temperature():
    x, target = attached(Sampled(40, temperature=2.0))
    history, _ = first_step(x, losses.SoftTargets(2.0))
    assert np.isfinite(history["soft_targets"]).all()
    most_drawn = target["ids"][np.arange(24), target["weights"].argmax(-1)]
    answers = tiny.linear().predict(tiny.features(), verbose=0).argmax(-1)
    np.testing.assert_allclose(
        history["teacher_agreement"], (most_drawn == answers).mean()
    )


@pytest.mark.parametrize("jit_compile", quick(1, [False, True]))
def test_sampled_targets_at_another_temperature_are_refused(jit_compile):
    x, _ = attached(Sampled(40, temperature=2.0))
    with pytest.raises(ValueError, match="drawn at another temperature"):
        first_step(x, losses.SoftTargets(4.0), jit_compile=jit_compile)


def test_sampled_targets_have_no_reverse_kl():
    x, _ = attached(Sampled(40, temperature=2.0))
    loss = losses.SoftTargets(2.0, divergence="reverse_kl")
    with pytest.raises(ValueError, match="forward KL divergence only"):
        first_step(x, loss)


def test_nan_in_sparse_targets_is_refused():
    x, target = attached(TopK(1))
    target["log_probs"][3] = np.nan
    with pytest.raises(ValueError, match="NaN or Inf for 1 example"):
        first_step(x, losses.SoftTargets(2.0))


@pytest.mark.parametrize("jit_compile", quick(1, [False, True]))
@pytest.mark.parametrize(
    "loss",
    quick(1, [losses.SoftTargets(2.0), losses.Decoupled(temperature=2.0)]),
)
def test_sparse_targets_of_classes_that_the_student_lacks_are_refused(
    loss, jit_compile
):
    x, target = attached(TopK(2))
    target["ids"][5, 1] = tiny.CLASSES + 3
    with pytest.raises(ValueError, match="1 class id.* none of the student's"):
        first_step(x, loss, jit_compile=jit_compile)
