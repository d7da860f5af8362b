"""Lines hold the tables' numbers, in the panel of their operator or kind; what cannot be drawn is left out."""

import numpy as np
import pandas as pd
import pytest

from arithcirc.config import ModelConfig, RunConfig
from arithcirc.errors import RequestError
from arithcirc.store import RunFolder
from arithcirc.viz import agreement
from arithcirc.viz.export import write_figures

LAYERS = 4


def correlation(run: int, operator: str, layer: int) -> float:
    return 1 - 0.1 * run - 0.01 * layer - (0.05 if operator == "*" else 0)


def agreements() -> pd.DataFrame:
    rows = [
        (f"run {run}", operator, "neuron", layer, score, correlation(run, operator, layer) - (score == "mean") / 2)
        for run in range(2)
        for operator in "*+"
        for layer in reversed(range(LAYERS))
        for score in ("mean", "mean + sd")
    ]
    table = pd.DataFrame(rows, columns=["run", "operator", "kind", "layer", "score", "spearman"])
    table.loc[table["layer"] == 0, "spearman"] = np.nan
    heads = table.head(1).assign(kind="head", layer=pd.NA, score="mean", spearman=0.5)
    return pd.concat([heads, table], ignore_index=True).astype({"layer": "Int64"})


def by_size() -> pd.DataFrame:
    low = np.array([1.0, 0.01, 0.1])
    parts = [
        pd.DataFrame({"kind": kind, "low": low, "n": 9, "effect": 2 * low, "difference": 0.01 * (run + 1)})
        .assign(run=f"run {run}")
        .assign(difference=lambda t: t["difference"].where(t["low"] < 1, 0))
        for run in range(2)
        for kind in ("neuron", "head")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_layers_are_drawn_per_operator_and_run() -> None:
    figure = agreement.layers(agreements())
    assert [t.name for t in figure.data] == ["run 0", "run 1"] * 2
    for trace, (operator, run) in zip(figure.data, [("+", 0), ("+", 1), ("*", 0), ("*", 1)], strict=True):
        assert trace.x.tolist() == [1, 2, 3]
        assert trace.y == pytest.approx([correlation(run, operator, layer) for layer in (1, 2, 3)])
    assert [t.showlegend for t in figure.data] == [True, True, False, False]


def test_sizes_are_drawn_beside_the_diagonal() -> None:
    figure = agreement.sizes(by_size())
    equal, *lines = [t for t in figure.data if t.xaxis in (None, "x")]
    assert [a.text for a in figure.layout.annotations] == ["heads", "neurons"]
    assert list(equal.x) == list(equal.y) == pytest.approx([0.02, 0.2])
    for run, line in enumerate(lines):
        assert line.x.tolist() == pytest.approx([0.02, 0.2]), "no difference has no place on a logarithmic axis"
        assert line.y.tolist() == pytest.approx([0.01 * (run + 1)] * 2)


def test_tables_without_neurons_are_refused() -> None:
    with pytest.raises(RequestError, match="run_agreement"):
        agreement.layers(agreements().query("kind == 'head'"))


def test_the_figures_are_exported_where_the_tables_are(tmp_path) -> None:
    config = RunConfig(model=ModelConfig("m", "main", "a", "b", "float32"))
    run = RunFolder.create(tmp_path / "run", config, sections=("model",), facts={})
    run.write_table("run_agreement", agreements())
    run.write_table("run_sizes", by_size())
    written = write_figures(run, tmp_path / "figures")
    assert sorted(p.name for p in written) == ["run_agreement.html", "run_sizes.html"]
