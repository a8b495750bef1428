# SPDX-License-Identifier: Apache-2.0
"""The logs of a search, as TensorBoard itself reads them."""

from __future__ import annotations

import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from keras_kd.tuning.trials import logs
from keras_kd.tuning.trials.trial_record import TrialRecord
from tuning import sample

SETTINGS = {"temperature": 2.5, "alpha": 0.4, "units": 16, "loss": "soft"}


def trial(**changes):
    history = {"val_accuracy": [0.5, 0.75], "loss": [2.0, math.nan]}
    row = TrialRecord("03", SETTINGS, "completed", 0.75, history, 4.0)
    return TrialRecord(**{**vars(row), **changes})


def read(folder):
    found = EventAccumulator(str(folder)).Reload()
    return found, {
        tag: [
            (event.step, tensor_util.make_ndarray(event.tensor_proto).item())
            for event in found.Tensors(tag)
        ]
        for tag in found.Tags()["tensors"]
        if found.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }


def session(found, tag):
    content = found.PluginTagToContent("hparams")[tag]
    if tag == metadata.SESSION_START_INFO_TAG:
        return metadata.parse_session_start_info_plugin_data(content)
    return metadata.parse_session_end_info_plugin_data(content)


def test_log_trial_is_what_tensorboard_reads(tmp_path):
    folder = logs.log_trial(tmp_path, trial(), "val_accuracy")
    assert folder == tmp_path / "03"
    found, scalars = read(folder)
    assert scalars == {
        "val_accuracy": [(0, 0.5), (1, 0.75)],
        "loss": [(0, 2.0)],
        "objective": [(1, 0.75)],
    }
    start = session(found, metadata.SESSION_START_INFO_TAG)
    end = session(found, metadata.SESSION_END_INFO_TAG)
    assert {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in start.hparams.items()
    } == SETTINGS
    assert start.group_name == "03"
    assert end.end_time_secs - start.start_time_secs == pytest.approx(4.0)
    assert end.status == api_pb2.STATUS_SUCCESS


def test_log_trial_again_replaces(tmp_path):
    folder = logs.log_trial(tmp_path, trial(), "val_accuracy")
    (folder / ".tmp-1-events.out.tfevents.0.keras_kd").write_bytes(b"torn")
    again = trial(history={"val_accuracy": [0.25]}, objective=0.25)
    assert logs.log_trial(tmp_path, again, "val_accuracy") == folder
    assert len(list(folder.iterdir())) == 1
    _, scalars = read(folder)
    assert scalars == {
        "val_accuracy": [(0, 0.25)],
        "objective": [(0, 0.25)],
    }


def test_log_trial_of_a_failure_and_of_the_control(tmp_path):
    failed = trial(status="failed", objective=None, history={})
    found, scalars = read(logs.log_trial(tmp_path, failed, "val_accuracy"))
    assert scalars == {}
    end = session(found, metadata.SESSION_END_INFO_TAG)
    assert end.status == api_pb2.STATUS_FAILURE
    folder = logs.log_trial(tmp_path, sample.control(0.5), "val_accuracy")
    found, scalars = read(folder)
    assert scalars["objective"] == [(0, 0.5)]
    assert not session(found, metadata.SESSION_START_INFO_TAG).hparams


def test_log_trial_stays_in_its_directory(tmp_path):
    folder = logs.log_trial(
        tmp_path / "logs", trial(name="../x"), "val_accuracy"
    )
    assert folder.parent == tmp_path / "logs"
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
