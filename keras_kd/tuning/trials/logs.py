# SPDX-License-Identifier: Apache-2.0
"""Logs: one TensorBoard run per trial, for its HParams and Scalars pages."""

from __future__ import annotations

import io
import math
import os
import pathlib
import re
import time

from keras_kd.core.records import write_atomically
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import TrialRecord

OBJECTIVE = "objective"
# A fixed name, so that writing again replaces; TensorBoard looks for
# "tfevents" in it.
FILE = "events.out.tfevents.0.keras_kd"


def log_trial(
    directory: str | os.PathLike, row: TrialRecord, objective: str
) -> pathlib.Path:
    """Writes a trial's settings, objective and history for TensorBoard.

    `tensorboard --logdir DIRECTORY` then shows all trials of a search side
    by side. Each trial is one file in a folder of its own, which appears
    whole or not at all; writing a trial again replaces it. The objective's
    best value over the epochs is the scalar `"objective"`. Returns the folder
    of the trial.
    """
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.hparams import api
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary as hparams
    from tensorboard.plugins.scalar import summary as scalars
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)

    def write(step=0, summary=None, **content):
        event = event_pb2.Event(wall_time=now, step=step, **content)
        if summary is not None:
            # As bytes: beside TensorFlow some are messages of its own.
            event.summary.ParseFromString(summary.SerializeToString())
        writer.write(event.SerializeToString())

    write(file_version="brain.Event:2")
    settings = {  # HParams holds a flag, a number or text
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in row.settings.items()
    }
    write(summary=api.hparams_pb(settings, row.name, now - row.seconds))
    for metric, values in row.history.items():
        for epoch, value in enumerate(values):
            if math.isfinite(value):
                write(epoch, summary=scalars.scalar_pb(metric, value))
    if row.objective is not None:
        found = scalars.scalar_pb(OBJECTIVE, row.objective, objective)
        write(max(row.epochs - 1, 0), summary=found)
    is_failed = row.status == FAILED
    status = api_pb2.STATUS_FAILURE if is_failed else api_pb2.STATUS_SUCCESS
    write(summary=hparams.session_end_pb(status, now))

    folder = pathlib.Path(directory) / re.sub(r"[^\w.-]", "_", row.name)
    write_atomically(folder / FILE, buffer.getvalue())
    # What a killed writer left would be read as a second run.
    for stale in folder.glob("*tfevents*"):
        if stale.name != FILE:
            stale.unlink(missing_ok=True)
    return folder
