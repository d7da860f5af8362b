"""Which heuristics important neurons match, and what the nulls leave of it (paper: section 4, appendix).

`python analyses/04_heuristics/run.py` analyses the shipped model into runs/ up to the labels (ten minutes on two cores,
reused when it is there), prints the numbers that README.md quotes and draws its figures.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES, DRAWN = ROOT / "figures" / "04_heuristics", ("labelled", "families", "scores", "gallery", "number_neurons")
NEURON = ["operator", "layer", "neuron"]
COMMAND, LIMITS = "python analyses/04_heuristics/run.py", {"at_most": 300_000, "cells": 100}


def count(labels: pd.DataFrame) -> int:
    """Neurons that occur."""
    return len(labels[NEURON].drop_duplicates())


def worth(labels: pd.DataFrame) -> pd.DataFrame:
    """Neurons with a label, and labels, that pass which doubt."""
    rows = {}
    for operator, every in labels.groupby("operator", sort=False):
        found, kept = every[every["matched"]], every[every["significant"]]
        rest = kept[~kept["family"].isin(["value", "multi_value"])]
        rows[operator] = {
            "neurons": count(every), "score >= .6": count(found), "q < .01": count(kept), "no values": count(rest),
            "p_shift < .01": count(rest.query("p_shift < .01")), "top end": count(kept.query("end == 'top'")),
            "| labels": len(found), "base rate >= .5": (found["base_rate"] >= 0.5).sum(),
            "hypergeometric p < .01": (found["p_hypergeometric"] < 0.01).sum(), "q < .01 ": len(kept),
        }  # fmt: skip
    return pd.DataFrame(rows).T


def examples(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The map (op1, op2) on which the best heuristic of each of these neurons was scored."""
    model, arrays = ac.load(), {}
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    for symbol, group in rows.groupby("operator", sort=False):
        neurons = [ac.Neuron(*map(int, row)) for row in group[["layer", "neuron"]].itertuples(index=False)]
        prompts = ac.legal_prompts(ac.operator(str(symbol)), ac.OperandRange(), encoder.limit)
        maps = ac.activation_maps(model, encoder, prompts, neurons, batch_size=2048)
        signed = {"indirect": maps.k, "direct": maps.kv(ac.value_logits(model, encoder, neurons))}
        for i, best in enumerate(group["best"]):
            arrays[f"{symbol} {i}"] = grid = np.full((300, 300), np.nan, dtype=np.float32)
            grid[prompts.op1, prompts.op2] = signed[ac.parse_heuristic(best).kind][i]
    return rows.rename(columns={"best": "heuristic"}).assign(key=list(arrays), significant=False), arrays


def main() -> None:
    """Analyse, print, draw."""
    run = ac.analyze(ac.load(), ROOT / "runs", upto="heuristics")
    labels, rest, numbers = (run.table(name) for name in ("heuristics", "unlabelled", "number_neurons"))
    print(worth(labels).to_string() + "\n\nneurons with a significant label, by family and layer")
    kept = labels[labels["significant"]].drop_duplicates([*NEURON, "family"])
    print(kept.pivot_table("score", ["operator", "family"], "layer", "count", fill_value=0, sort=False).to_string())
    print("\n" + run.table("excluded_heuristics").groupby(["operator", "family"], sort=False).size().to_string())
    print("\nwithout one\n" + rest.pivot_table("score", "operator", "layer", "count", fill_value=0).to_string())
    kinds = {word: numbers["heuristic"].str.contains(f" {word} ").sum() for word in ("in", "mod", "matches")}
    print(f"\nfirst MLP: of {len(numbers)} neurons {kinds}, {(numbers['q'] < 0.01).sum()} at q < .01")
    ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=DRAWN, **LIMITS)
    effects = run.table("neurons").query("method == 'exact' and metric == 'logit_diff'")[[*NEURON, "effect"]]
    strongest = rest.merge(effects, on=NEURON).sort_values("effect", ascending=False, kind="stable")
    table, arrays = examples(strongest.groupby("operator").head(4).sort_values("operator", kind="stable"))
    with TemporaryDirectory() as folder:
        shown = ac.RunFolder(Path(folder), run.manifest)
        shown.write_table("gallery", table)
        shown.write_arrays("gallery", arrays)
        ac.write_figures(shown, FIGURES / "unlabelled", ("png",), command=COMMAND, only=("gallery",), **LIMITS)


if __name__ == "__main__":
    main()
