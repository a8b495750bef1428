# SPDX-License-Identifier: Apache-2.0
"""A search on two nodes of Ray, of which a worker and then a node dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time

import pytest

import keras_kd as kd
from tuning.toy import quickly

ray = pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")


@pytest.fixture
def cluster():
    """Two raylets on this machine; a head that has no CPU to lend."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes.pair = [nodes.add_node(num_cpus=1) for _ in range(2)]
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_a_worker_and_a_node_die_and_the_search_is_the_same(tmp_path, cluster):
    options = {"trials": 6, "confirm": 0, "epochs": 3, "verbose": 0}
    alone = quickly(tmp_path / "alone", **options)
    with kd.engines.Ray(cluster.address, workers=2) as engine:
        pids = set()
        while len(pids) < 2:
            tasks = [engine.submit(pid_of_a_busy_one) for _ in range(2)]
            pids |= {task.result() for task in tasks}

        def kills():
            time.sleep(1)
            os.kill(min(pids), signal.SIGKILL)
            time.sleep(3)
            cluster.remove_node(cluster.pair[1], allow_graceful=False)

        killer = threading.Thread(target=kills)
        killer.start()
        beside = quickly(tmp_path / "beside", engine=engine, **options)
        killer.join()
        # The node that is left runs whatever there is.
        assert engine.submit(sum, [1, 2]).result(timeout=120) == 3
        assert engine.lost >= 1
    for one, other in zip(alone.rows, beside.rows, strict=True):
        assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(
            other, seconds=0.0
        )


def pid_of_a_busy_one():
    time.sleep(0.5)
    return os.getpid()
