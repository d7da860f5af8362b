"""Exact effects of all neurons at `=` against first-order estimates; how few keep the answer (paper: section 4).

`python analyses/03_exact_neuron_effects/run.py` analyses the shipped model into runs/ up to the neurons (six minutes on
two cores, reused when it is there), prints the numbers that README.md quotes and draws its figures.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "03_exact_neuron_effects"
COMMAND = "python analyses/03_exact_neuron_effects/run.py"
ONLY = ("neuron_effects", "neuron_agreement", "neuron_faithfulness", "neuron_overlap")


def both_methods(run: ac.RunFolder) -> pd.DataFrame:
    """Mean logit difference of every neuron, exact and estimated; layer 0 has no effect at `=`."""
    table = run.table("neurons").query("metric == 'logit_diff' and layer > 0")
    return table.pivot_table("effect", ["operator", "layer", "neuron"], "method", sort=False).reset_index()


def sizes(effects: pd.DataFrame) -> pd.DataFrame:
    """Per operator and layer: do mean effects agree, in order and in size?"""
    rows = []
    for (operator, layer), rest in effects.groupby(["operator", "layer"], sort=False):
        exact, estimate, top = rest["exact"], rest["estimate"], rest.nlargest(10, "exact")
        rows.append({
            "operator": operator, "layer": layer, "rank correlation": exact.rank().corr(estimate.rank()),
            "largest exact": exact.max(), "its estimate": estimate[exact.idxmax()],
            "top 10: median estimate/exact": (top["estimate"] / top["exact"]).median(),
            "top 10 found": len(set(top.index) & set(rest.nlargest(10, "estimate").index)),
            "sum exact": exact.sum(), "sum estimate": estimate.sum(), "exact is larger": (exact > estimate).mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def second_order(run: ac.RunFolder, symbol: str) -> pd.Series:
    """Last layer, mean over prompts: the final norm's second order, 1/2 [l(r) - l(r')] |d|^2 / |x|^2, d across x."""
    model = ac.load()
    encoder, last = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab), model.info.n_layers - 1
    rows = run.table("prompts").query("set == 'discover' and change == 'any' and seed == 0")
    rows, names = rows[rows["operator"] == symbol], ("operator", "op1", "op2", "answer")
    clean, other = (ac.Prompts(*(rows[f"{s}{n}"].to_numpy() for n in names)) for s in ("", "counterfactual_"))
    neurons = [ac.Neuron(last, n) for n in range(model.info.d_mlp)]
    a, b = (ac.activation_maps(model, encoder, p, neurons, batch_size=2048).k.T for p in (clean, other))
    stream = ac.read_residuals(model, encoder, clean, positions=(ac.Position.EQUALS,))[0][last]
    logits, row = model.unembed(stream).numpy(), np.arange(len(clean))
    gap = logits[row, encoder.answers(clean.answer)] - logits[row, encoder.answers(other.answer)]
    x, v = (t - t.mean(1, keepdims=True) for t in (stream.numpy(), model.w_out(last).detach().numpy()))
    length = (x**2).sum(1, keepdims=True)
    return pd.Series((0.5 * gap[:, None] * (b - a) ** 2 * ((v**2).sum(1) - (x @ v.T) ** 2 / length) / length).mean(0))


def main() -> None:
    """Analyse, print, draw."""
    run = ac.analyze(ac.load(), ROOT / "runs", upto="neurons")
    effects = both_methods(run)
    print("signed mean effects, nats\n" + sizes(effects).round(3).to_string(index=False))
    print("\nwhat the stage ranks by, mean + standard deviation")
    print(run.table("neuron_agreement").round(3).to_string(index=False))
    print("\nlast layer, means: exact - estimate, the norm's second order, correlation over neurons")
    for symbol, rest in effects.query("layer == layer.max()").groupby("operator", sort=False):
        missed, norm = (rest["exact"] - rest["estimate"]).reset_index(drop=True), second_order(run, str(symbol))
        print(symbol, *(round(number, 4) for number in (missed.mean(), norm.mean(), missed.corr(norm))))
    curves = run.table("neuron_faithfulness").query("set == 'evaluate'")
    for what in ("faithfulness", "accuracy"):
        table = curves.pivot_table(what, ["heads", "operator", "ranking"], "top", sort=False)
        print(f"\n{what} by neurons kept per layer\n" + table.round(3).to_string())
    print("\n" + run.table("neuron_overlap").round(3).to_string(index=False))
    written = ac.write_figures(run, FIGURES, ("png",), command=COMMAND, only=ONLY, at_most=300_000)
    print(f"\n{len(written)} figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
