"""Do neurons of the untrained model get labels too? The same neurons, prompts, heuristics and thresholds at step 0.

`python analyses/08_labels_on_random_weights/run.py` analyses the shipped model into runs/ up to the labels (ten minutes
on two cores, reused when it is there), labels the neurons of step 0 (three), prints what README.md quotes and draws.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "08_labels_on_random_weights"
COMMAND = "python analyses/08_labels_on_random_weights/run.py"
NEURON = ["operator", "layer", "neuron"]
SETS = {"any family": (), "no single values": ("value", "multi_value")}


def untrained(neurons: pd.DataFrame) -> pd.DataFrame:
    """Labels of these neurons with the weights of step 0."""
    model, found = ac.load(revision="step0"), []
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    for symbol, rows in neurons.groupby("operator", sort=False):
        op, operands = ac.operator(str(symbol)), ac.OperandRange()
        named = [ac.Neuron(*map(int, row)) for row in rows[["layer", "neuron"]].itertuples(index=False)]
        prompts, values = ac.legal_prompts(op, operands, encoder.limit), ac.value_logits(model, encoder, named)
        maps = ac.activation_maps(model, encoder, prompts, named, batch_size=2048)
        table = ac.label_neurons(maps, values, op, operands, rng=np.random.default_rng(0)).table
        found.append(table)
        singles = table.query("significant and family == 'value' and kind == 'direct'")
        mine = values[[named.index(ac.Neuron(*map(int, row))) for row in singles[["layer", "neuron"]].to_numpy()]]
        said = mine[np.arange(len(mine)), singles["heuristic"].str.split().str[-1].astype(int)]
        wrote = mine[:, np.unique(prompts.answer)]
        share = ((said == wrote.max(1)) | (said == wrote.min(1))).mean()
        print(f"{symbol} untrained: {len(said)} labels 'result = r', r written most or least in {share:.2f} of them")
    return pd.concat(found, ignore_index=True)


def compare(models: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Neurons with a label at the threshold and at q < .01, with and without single values."""
    columns = {}
    for which, without in SETS.items():
        for flag in ("matched", "significant"):
            for name, labels in models.items():
                kept = labels[labels[flag] & ~labels["family"].isin(without)].drop_duplicates(NEURON)
                columns[which, flag, name] = kept.groupby("operator").size()
    return pd.DataFrame(columns).fillna(0).astype(int).reindex(list("+-*/"))


def main() -> None:
    """Analyse, label, print, draw."""
    run = ac.analyze(ac.load(), ROOT / "runs", upto="heuristics")
    table = run.table("neurons")
    important = table.query("important and method == 'exact' and metric == 'logit_diff'")
    models = {"trained": run.table("heuristics"), "untrained": untrained(important)}
    print(important.groupby("operator", sort=False).size().to_string() + "\n\n" + compare(models).to_string())
    for name, labels in models.items():
        kept = labels[labels["significant"]].drop_duplicates([*NEURON, "family", "kind"])
        families = kept.pivot_table("score", ["family", "kind"], "operator", "count", fill_value=0, sort=False)
        print(f"\n{name}: neurons with a significant label\n{families.to_string()}")
    named = models["untrained"].query("significant").groupby(["operator", "heuristic"], sort=False).size()
    print(named.sort_values(ascending=False, kind="stable").groupby("operator", sort=False).head(4).to_string())
    config = run.manifest["config"] | {"model": run.manifest["config"]["model"] | {"revision": "step0"}}
    with TemporaryDirectory() as folder:
        shown = ac.RunFolder(Path(folder), run.manifest | {"config": config})
        shown.write_table("heuristics", models["untrained"])
        shown.write_table("neurons", table)
        ac.write_figures(shown, FIGURES, ("png",), command=COMMAND, only=("families", "scores"), at_most=300_000)


if __name__ == "__main__":
    main()
