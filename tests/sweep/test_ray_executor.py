"""Ray: a real cluster on this machine, one for the whole file; tasks without a model in it, and one with."""

import os
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import remote_tasks
from remote_tasks import HERE, task
from sweep.circuit_task import circuit_task, files_of

from arithcirc.errors import EnvironmentFailure, RequestError
from arithcirc.sweep import ray_executor
from arithcirc.sweep.executors import Finished, Lost
from arithcirc.sweep.ray_executor import RayExecutor, _check_reachable

if find_spec("ray") is None:  # not imported here: what it listens on is settled by then
    pytest.skip("ray is not installed", allow_module_level=True)


def events(executor, n, seconds=120):
    """The next n events."""
    found, end = [], time.monotonic() + seconds
    while len(found) < n:
        found += executor.poll(1.0)
        assert time.monotonic() < end, f"{found} after {seconds} s"
    return found


@pytest.fixture(scope="module")
def cluster(ray_folder):
    """The address of a cluster of this machine; this process has joined it."""
    executor = RayExecutor(Path(), slots=2)
    import ray

    yield ray.get_runtime_context().gcs_address
    executor.close(cancel=True)


@pytest.fixture
def make(cluster, tmp_path):
    """`make(do, ...)`: an executor on the cluster whose tasks are `remote_tasks.<do>`."""
    made = []

    def executor(do="done", **options):
        made.append(
            RayExecutor(tmp_path, do=f"{remote_tasks.__name__}:{do}", environment={"PYTHONPATH": HERE}, **options)
        )
        return made[-1]

    yield executor
    for one in made:
        one.close(cancel=True)


def test_a_cluster_started_here_is_reached_from_this_machine_only(cluster):
    assert cluster.startswith("127.0.0.1:")


def test_tasks_come_back_once_from_processes_that_keep_their_checkpoint(make):
    executor = make(slots=2)
    tasks = [task(1, "+"), task(2, "+")]
    for one in tasks:
        executor.submit(one)
    found = events(executor, 2)
    assert {e.key for e in found} == {t.key for t in tasks}
    assert all(isinstance(e, Finished) and e.outcome.n_shared == 7 for e in found)
    assert {e.outcome.reason for e in found} == {f"{t} threads=1 OMP=1" for t in tasks}
    before = {e.key[1]: e.outcome.pid for e in found}
    assert len({*before.values()} - {os.getpid()}) == 2
    assert executor.poll(0.0) == []
    executor.submit(task(2, "-"))
    executor.submit(task(1, "-"))
    assert {e.key[1]: e.outcome.pid for e in events(executor, 2)} == before


def test_a_killed_worker_is_lost_and_replaced(make):
    executor = make("killed_once", slots=1)
    executor.submit(task(3))
    (lost,) = events(executor, 1)
    assert isinstance(lost, Lost)
    assert lost.key == task(3).key
    assert "died" in lost.reason
    assert "\n" not in lost.reason
    executor.submit(task(3))
    (finished,) = events(executor, 1)
    assert isinstance(finished, Finished)
    # killed between tasks, it loses the next one
    os.kill(executor.pids()[0], signal.SIGKILL)
    executor.submit(task(3))
    assert isinstance(events(executor, 1)[0], Lost)


def test_a_function_that_raises_is_a_loss_with_its_reason(make):
    executor = make("raises", slots=1)
    executor.submit(task(1))
    (lost,) = events(executor, 1)
    assert isinstance(lost, Lost)
    assert lost.reason == "Ray could not do it (ValueError: an unforeseen error)"


@pytest.mark.slow
def test_an_actor_leaves_the_same_bytes_as_this_process(cluster, circuit_files, toy_folder, tmp_path):
    assert files_of(RayExecutor(tmp_path, slots=1), tmp_path, [circuit_task(toy_folder)]) == circuit_files


def test_nothing_under_way_waits_and_answers_nothing(make):
    start = time.monotonic()
    assert make(slots=1).poll(0.3) == []
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(("address", "kind"), [("ray://here:1", "not supported"), ("here", "no address of a Ray")])
def test_addresses_that_ray_cannot_mean_are_refused(cluster, address, kind):
    with pytest.raises(RequestError, match=kind):
        _check_reachable(address)


def test_a_dead_address_fails_in_one_line_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=rf"^no Ray cluster answers at 127\.0\.0\.1:{port} .*ray start --head"):
        _check_reachable(f"127.0.0.1:{port}")
    assert time.monotonic() - start < 15


def test_a_port_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(ray_executor, "_PATIENCE", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(EnvironmentFailure, match=r"no answer in 1 s"):
            ray_executor._check_reachable(f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_running_cluster_is_reached(cluster):
    _check_reachable(cluster)


def test_more_than_a_node_has_is_refused_with_what_it_has(make):
    with pytest.raises(RequestError, match=r"needs 1 cores and 3 GPUs on one node, .* has \d+ and 0"):
        make(gpus_per_task=3.0)
