# SPDX-License-Identifier: Apache-2.0
"""Ray as an engine: on a local cluster whose two GPUs are only counted."""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import os
import time

import pytest

import keras_kd as kd
from keras_kd.engines import ray as ray_engine

ray = pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")


@pytest.fixture(scope="module")
def cluster():
    """Starting one takes 5 s and more: here once, and engines join it."""
    ray.init(
        "local",
        num_cpus=4,
        num_gpus=2,
        log_to_driver=False,
        include_dashboard=False,
    )
    yield
    ray.shutdown()


def test_ray_keeps_its_promises(cluster):
    kd.testing.check_engine(kd.engines.Ray())
    assert ray.is_initialized()  # not the engine's to end


@pytest.mark.slow
def test_each_worker_has_cards_of_its_own_and_takes_memory_as_it_needs(cluster):
    def seen(together):
        time.sleep(together)  # so that both are busy
        names = ("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH")
        return tuple(map(os.environ.get, names))

    for gpus, expected in ((1, {"0", "1"}), (0.5, {"0"}), (0, {"-1"})):
        with kd.engines.Ray(gpus=gpus) as engine:
            tasks = [engine.submit(seen, 1.0) for _ in range(2)]
            assert {t.result() for t in tasks} == {
                (e, "true") for e in expected
            }


@pytest.mark.slow
def test_a_cluster_without_room_is_told_of(cluster, monkeypatch, capsys):
    monkeypatch.setattr(ray_engine, "PATIENCE", 1.0)
    with kd.engines.Ray(workers=3, threads=2) as engine:
        tasks = [engine.submit(time.sleep, 4) for _ in range(3)]
        # The two that found room run the third.
        assert not concurrent.futures.wait(tasks, timeout=60).not_done
    assert "no free CPUs in the cluster for 1 s" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_of_other_versions_are_refused(cluster, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0")
    with (
        kd.engines.Ray(workers=1) as engine,
        pytest.raises(RuntimeError, match=r"'tensorflow': '0.0'.*worker-"),
    ):
        engine.submit(int).result()


@pytest.mark.slow
def test_errors_say_where_the_process_prints(cluster):
    with kd.engines.Ray(workers=1, retries=0) as engine:
        error = engine.submit(int, "x").exception()
        assert any("worker-" in note for note in error.__notes__)
        with pytest.raises(
            kd.engines.TaskLostError, match="printed to.*worker"
        ):
            engine.submit(os._exit, 1).result()


@pytest.fixture
def unconnected(monkeypatch):
    """Ray as it is before `init`; returns what `init` is called with."""
    calls = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: calls.append(given))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return calls


def test_ray_joins_no_cluster_unless_it_is_named(unconnected, monkeypatch):
    kd.engines.Ray(workers=3, threads=2).share(0)
    kd.engines.Ray("10.0.0.1:6379").share(0)
    addresses = [
        (call["address"], call.get("num_cpus")) for call in unconnected
    ]
    assert addresses == [("local", 6), ("10.0.0.1:6379", None)]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert kd.engines.get("ray", 2).address == "auto"


def test_ray_says_what_it_cannot_reach(unconnected, monkeypatch):
    with pytest.raises(ValueError, match="This machine has 1 GPUs"):
        kd.engines.Ray(workers=2, gpus=1).share(0)

    def refuses(**_):
        raise RuntimeError("InvalidAuthToken")

    monkeypatch.setattr(ray, "init", refuses)
    with pytest.raises(ConnectionError, match="'10.0.0.1'.*InvalidAuthToken"):
        kd.engines.Ray("10.0.0.1").share(0)
    with pytest.raises(ValueError, match="gpus=-1"):
        kd.engines.Ray(gpus=-1)
