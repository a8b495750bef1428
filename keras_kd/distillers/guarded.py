# SPDX-License-Identifier: Apache-2.0
"""guard_labels(): loss and metrics of a model pass over missing labels."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.distillers.per_output import names_of
from keras_kd.distillers.per_output import spread
from keras_kd.distillers.unlabelled import is_binary
from keras_kd.distillers.unlabelled import resolved
from keras_kd.distillers.unlabelled import separate
from keras_kd.losses.reduction import to_rank_of


def guard_labels(model: keras.Model, guard=None) -> None:
    """Makes a compiled model pass over labels that are none, on each output.

    Keras pairs outputs with their losses, weights and metrics, in whatever
    form they were given; what is guarded is each loss and metric itself.

    Args:
        model: A model that was just compiled.
        guard: `StepChecks` that count impossible labels, or `None`.
    """
    loss, metrics = model._compile_loss, model._compile_metrics
    if loss is not None:
        build, call = loss.build, loss.call

        def build_guarded(y_true, y_pred):
            build(y_true, y_pred)
            loss._flat_losses = [
                part._replace(loss=GuardedLoss(part.loss, guard))
                for part in loss._flat_losses
            ]

        def call_with_all(y_true, y_pred, sample_weight=None):
            if keras.tree.is_nested(sample_weight):
                # Keras takes weights in the structure of the outputs only.
                names = names_of(y_pred, loss.output_names)
                losses = spread(model.loss, names)
                weights = spread(sample_weight, names, losses)
                sample_weight = keras.tree.pack_sequence_as(y_pred, weights)
            return call(y_true, y_pred, sample_weight)

        loss.build, loss.call = build_guarded, call_with_all
    if metrics is not None:
        metrics.update_state = _GuardedMetrics(model, metrics)


class GuardedLoss(keras.losses.Loss):
    """A Keras loss in which an example without a label adds 0.

    The mean is still over the whole batch, so the loss of a data set is the
    sum over its examples, however they are batched.
    """

    def __init__(self, loss: keras.losses.Loss, guard=None):
        super().__init__(loss.name, loss.reduction, loss.dtype)
        self.loss = loss
        self.guard = guard

    def __call__(self, y_true, y_pred, sample_weight=None):
        labels = separate(y_true, y_pred, self.loss)
        # A loss that does its own reduction may count as it likes.
        own = type(self.loss).__call__ is not keras.losses.Loss.__call__
        if labels.labelled is None or own:
            return self.loss(y_true, y_pred, sample_weight)
        if self.guard is not None and labels.out_of_range is not None:
            self.guard.count("labels", labels.out_of_range)
        if self.reduction == "mean_with_sample_weight":
            counts = ops.cast(labels.labelled, "float32")
            if is_binary(self.loss):
                counts = ops.mean(counts, axis=-1)
            sample_weight = product(sample_weight, counts)
        labelled = labels.labelled
        if self.guard is None and labels.out_of_range is not None:
            # Nothing tells of it: a loss of NaN does, whatever compiles it.
            labelled = ops.cast(labelled, "float32")
            labelled = ops.where(labels.out_of_range, float("nan"), labelled)
        given = (labels.y, labelled, y_true)
        return super().__call__(given, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        y, labelled, given = y_true
        if not is_binary(self.loss):
            values = self.loss.call(y, y_pred)
            if not len(values.shape):  # one value, whose parts are not known
                return self.loss.call(given, y_pred)
            return _with_mask_of(values, values * labelled)
        # One value a unit, so that each may be without a label.
        wide = ops.expand_dims(y_pred, axis=-1)
        logits = getattr(y_pred, "_keras_logits", None)
        if logits is not None:
            wide._keras_logits = ops.expand_dims(logits, axis=-1)
        values = self.loss.call(ops.expand_dims(y, axis=-1), wide)
        return ops.mean(values * labelled, axis=getattr(self.loss, "axis", -1))


# They take a weight for every unit; others take one for every example.
_METRICS_OF_UNITS = (
    keras.metrics.AUC,
    keras.metrics.BinaryAccuracy,
    keras.metrics.FalseNegatives,
    keras.metrics.FalsePositives,
    keras.metrics.Precision,
    keras.metrics.PrecisionAtRecall,
    keras.metrics.Recall,
    keras.metrics.RecallAtPrecision,
    keras.metrics.SensitivityAtSpecificity,
    keras.metrics.SpecificityAtSensitivity,
    keras.metrics.TrueNegatives,
    keras.metrics.TruePositives,
)


class _GuardedMetrics:
    """`update_state` of `CompileMetrics`, without what has no label.

    It weighs 0, as do the positions of a loss's `ignore_class`. Where some
    of an example's yes/no units have a label, a metric of whole examples
    leaves it out.
    """

    def __init__(self, model, metrics):
        self.model, self.metrics = model, metrics

    def __call__(self, y_true, y_pred, sample_weight=None):
        compiled = self.metrics
        if not compiled.built:
            compiled.build(y_true, y_pred)
        names = compiled._resolved_output_names
        names = names or names_of(
            y_pred, getattr(self.model, "output_names", None)
        )
        losses = spread(self.model.loss, names)
        rows = zip(
            compiled._flat_metrics,
            compiled._flat_weighted_metrics,
            compiled._flatten_y(y_true),
            compiled._flatten_y(y_pred),
            losses,
            spread(sample_weight, names, losses),
            strict=False,
        )
        for plain, weighted, y, prediction, loss, weight in rows:
            if y is None:
                continue
            labels = separate(y, prediction, resolved(loss, y, prediction))
            for metrics, given in ((plain, None), (weighted, weight)):
                for metric in metrics.metrics if metrics else ():
                    counts = labels.counts
                    units = counts is not None and is_binary(loss)
                    if units and not isinstance(metric, _METRICS_OF_UNITS):
                        counts = ops.all(counts, axis=-1)
                    metric.update_state(
                        labels.y, prediction, product(given, counts)
                    )


def product(weight, counts):
    """Returns sample weights that are 0 where `counts` is."""
    if counts is None:
        return weight
    counts = ops.cast(counts, "float32")
    if weight is None:
        return counts
    return counts * to_rank_of(ops.cast(weight, "float32"), counts)


def _with_mask_of(source, target):
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        target._keras_mask = mask
    return target
