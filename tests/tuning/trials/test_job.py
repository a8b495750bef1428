# SPDX-License-Identifier: Apache-2.0
"""What a search hands to its workers."""

from __future__ import annotations

import sys

from keras_kd import recipes
from keras_kd.tuning.trials.job import Job
from tuning.toy import DATA


def test_job_holds_functions_of_a_file_that_workers_cannot_import(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def build_student():\n    return 'a student'\n"
        "def distillation_losses(hp):\n    return ['a loss']\n"
    )
    module = recipes.import_file(path)
    job = Job(
        directory=tmp_path,
        build_student=module.build_student,
        data=DATA,
        teacher=None,
        cache=None,
        in_memory=True,
        space={"distillation_losses": module.distillation_losses},
        objective=None,
        epochs=1,
        batch_size=1,
        seed=0,
        median_stopping=True,
        keep_all=False,
    )
    job.write()
    sys.modules.pop(module.__name__)  # as in a process that has not read it
    found = Job.read(tmp_path)
    assert found.build_student() == "a student"
    assert found.space["distillation_losses"](None) == ["a loss"]
