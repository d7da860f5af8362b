"""The benchmark of sweeps: its shares and ratios from made-up runs, its computed table, its one point of a machine."""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest

from arithcirc.sweep.cost import sweep_cost
from arithcirc.sweep.driver import Summary
from arithcirc.sweep.task import Outcome


@pytest.fixture
def bench(monkeypatch):
    """The script, as a module that counts small tasks; `sweep` is also what a folder of tests is called."""
    folder = Path(__file__).resolve().parent / "bench"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("bench_of_sweeps", folder / "sweep.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    few = partial(sweep_cost, settings=module.QUICK, operators="+")
    monkeypatch.setattr(module, "sweep_cost", few)
    monkeypatch.setattr(module, "Settings", lambda: module.QUICK)
    return module


def test_overhead_is_what_workers_did_not_spend_on_tasks_and_speedup_a_ratio_of_walls(bench, monkeypatch):
    walls = {1: iter([100.0, 120.0, 90.0]), 2: iter([60.0, 40.0, 50.0])}

    def swept(tasks, workers, root):
        outcome = Outcome("done", peak_bytes=workers * 10**9)
        (root / "tasks").mkdir()
        (root / "tasks" / "file").write_bytes(b"12")
        return Summary(((tasks[0], outcome),), 0, None, next(walls[workers]), 81.0)

    monkeypatch.setattr(bench, "swept", swept)
    rows = bench.measured(bench.tasks_of([512, 4000], "+*", bench.QUICK), 3)
    assert rows["sweep_1_workers"]["overhead"] == pytest.approx(1 - 81 / 100)
    assert rows["sweep_2_workers"]["overhead"] == pytest.approx(1 - 81 / 100)  # of 2 x 50 worker seconds
    assert rows["sweep_speedup"]["median"] == pytest.approx(2.0)
    assert rows["sweep_2_workers"]["peak_mb"] == 2000
    assert rows["sweep_1_workers"]["tasks"] == 4
    assert rows["sweep_1_workers"]["disk_mb"] == 2e-6


def test_the_table_has_a_row_for_each_model(bench):
    header, rule, row = bench.table(["14m"]).splitlines()
    assert header.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| pythia-14m | ")
    assert " 4.3 GB " in row or " 4 GB " in row  # 154 x 28 MB of float16 weights


def test_one_point_is_measured_beside_its_prediction(bench):
    row = bench.on_device("pythia-14m", 4, "cpu")
    assert 0 < row["forwards_per_second"] < row["predicted_per_second"]  # an H200's
    assert row["hours_of_154_checkpoints"] > 0
