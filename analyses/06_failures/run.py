"""Right and wrong answers: are the heuristics' neurons missing, or do they push less? (paper: section 4, failure modes)

`python analyses/06_failures/run.py` analyses the last and an earlier checkpoint into runs/ as far as the failures
(about five minutes each on two cores, reused when there), prints the numbers that README.md quotes and draws
figures/06_failures/. Besides the paper's 50 right and 50 wrong prompts by the matched labels it compares up to 400 of
each, by the matched and by the significant labels, with the other important neurons and with equal answers.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "06_failures"
COMMAND = "python analyses/06_failures/run.py"
STEPS = ("step4000", "step512")
MORE = 400


def compared(model: ac.HookedModel, base: ac.RunFolder, labels: str) -> ac.RunFolder:
    """The same analysis up to the labels, with more prompts compared: a copy in which only that is computed anew."""
    out = ROOT / "runs" / f"failures_{labels}"
    if not (folder := out / Path(*base.path.parts[-2:])).exists():
        shutil.copytree(base.path, folder, ignore=shutil.ignore_patterns("*.html", "knockouts_*", "bag_of_*"))
        copy = ac.RunFolder.open(folder)
        del copy.manifest["config"]["knockout"]
        copy.forget(["knockout", "failures"])
    return ac.analyze(model, out, knockout=ac.KnockoutConfig(failures=MORE, labels=labels), upto="failures")


def with_others(model: ac.HookedModel, run: ac.RunFolder) -> pd.DataFrame:
    """The table `failures` with what the important neurons that are not associated write into the answer's logit."""
    encoder = ac.prompt_encoder(model.tokenizer, vocab_size=model.info.d_vocab)
    important, parts = run.table("heuristics"), []
    for symbol, rows in run.table("failures").groupby("operator", sort=False):
        pairs = important.loc[important["operator"] == symbol, ["layer", "neuron"]].drop_duplicates()
        neurons = [ac.Neuron(layer, index) for layer, index in pairs.to_numpy().tolist()]
        numbers = rows["prompt"].str.extract(r"(\d+)\D+(\d+)").astype("int64")
        answers = rows["answer"].to_numpy()
        prompts = ac.Prompts(np.full(len(rows), symbol), numbers[0].to_numpy(), numbers[1].to_numpy(), answers)
        maps = ac.activation_maps(model, encoder, prompts, neurons, batch_size=256)
        written = maps.kv(ac.value_logits(model, encoder, neurons)).sum(axis=0)
        parts.append(rows.assign(others=written - rows["contribution"]))
    return pd.concat(parts)


def show(table: pd.DataFrame) -> None:
    """Medians, right against wrong; share of pairs in which right is higher: all, and those with the same answer."""
    for symbol, part in table.groupby("operator", sort=False):
        right, wrong = part[part["correct"]], part[~part["correct"]]
        pairs = {"all": right.merge(wrong, how="cross"), "same answer": right.merge(wrong, on="answer")}
        print(f"{symbol} n = {len(right)}, {len(wrong)}; pairs: { ({k: len(v) for k, v in pairs.items()}) }")
        for name in ("neurons", "contribution", "others") if len(wrong) else ():
            gaps = {which: pair[f"{name}_x"] - pair[f"{name}_y"] for which, pair in pairs.items()}
            shares = {which: round(float(((gap > 0) + 0.5 * (gap == 0)).mean()), 3) for which, gap in gaps.items()}
            print(f"   {name}: {right[name].median():.1f} against {wrong[name].median():.1f}; right higher: {shares}")


def main() -> None:
    """Analyse, compare, print, draw."""
    for step in STEPS:
        model = ac.load(revision=step)
        base = ac.analyze(model, ROOT / "runs", upto="failures")
        print(f"\n===== {step} =====\n{base.table('accuracy')[['operator', 'accuracy', 'n']].round(3).to_string()}")
        runs = {"paper's": base} | {labels: compared(model, base, labels) for labels in ("matched", "significant")}
        for name, run in runs.items():
            print(f"\n{name} labels\n{run.table('failure_tests').drop(columns='u').round(5).to_string()}")
            show(with_others(model, run))
        ac.write_figures(base, FIGURES / step, ("png",), command=COMMAND, only=("failures",), at_most=300_000)
    print(f"figures: {FIGURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
