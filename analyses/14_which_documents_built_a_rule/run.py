"""Which documents built a neuron's rule, and was it visible while it was being built?

`make influence` first (corpus, model, labels, curvature, scores), then
`python analyses/14_which_documents_built_a_rule/run.py [MODEL [CORPUS [OUT]]]`: mechanisms of the labelled model, and
their influence at the checkpoints around their birth. Prints what README.md quotes.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from arithcirc.heuristics.names import parse_heuristic
from arithcirc.influence.mechanisms.births_stage import run_births
from arithcirc.influence.mechanisms.run import Wanted, run
from arithcirc.influence.study.study import SCORE, open_study
from arithcirc.models.plain import load_plain
from arithcirc.store import RunFolder

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ("runs/models/neox-corpus", "runs/corpus", "runs")
CHECKPOINTS = 6
DRAWS, SEED = 10_000, 0


def inside(name, prompts):
    """Which prompts belong to a heuristic."""
    return parse_heuristic(name).mask(prompts)


def interval(values: pd.Series) -> str:
    """Mean over mechanisms and its bootstrap interval (95%)."""
    kept = values.dropna().to_numpy()
    if not len(kept):
        return "none"
    drawn = np.random.default_rng(SEED).choice(kept, (DRAWS, len(kept))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{kept.mean():+.3f} [{low:+.3f}, {high:+.3f}] n={len(kept)}"


def main() -> None:
    """Score the mechanisms, follow them through training, print."""
    given = [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]]
    folder, corpus, out = (ROOT / path for path in given)
    steps = sorted(folder.glob("step*"), key=lambda path: int(path.name[4:]))
    study = open_study(load_plain(str(steps[-1])), corpus, out, sections=SCORE)
    mechanisms = run(study, RunFolder.open(study.run.path.parent), inside=inside, wanted=Wanted())
    found = run_births(study, mechanisms, folder, at_most=CHECKPOINTS, inside=inside)
    pd.set_option("display.width", 200, "display.max_columns", 20, "display.max_rows", 200)

    table = study.run.table("mechanisms")
    print(
        table[["query", "measure", "heuristic", "inside", "outside", "value", "norm"]].round(3).to_string(index=False)
    )
    final = study.run.table("mechanism_retrieval")
    print("\nlast checkpoint: rho and AUC of documents that obey the heuristic, less those of other mechanisms' scores")
    for method, rows in final.groupby("method", sort=False):
        print(f"{method:14s} rho {interval(rows.rho - rows.rho_others)}   auc {interval(rows.auc - rows.auc_others)}")
    top = study.run.table("mechanism_top").query("end == 'top' and method == 'ekfac_normed'")
    share = study.run.table("documents")["kind"].value_counts(normalize=True)
    lift = pd.crosstab(top["query"], top["kind"], normalize="index") / share
    print("\nlift of each kind among the first documents by ekfac_normed, last checkpoint")
    print(lift.describe().loc[["mean", "min", "50%", "max"]].round(2).to_string())

    print(f"\nbirths: {len(mechanisms) - len(found.left_out)} of {len(mechanisms)} followed, {found.seconds}")
    if len(found.table):
        once = found.table.drop_duplicates(["query", "when"])
        for when, rows in once.groupby("when", sort=False):
            gain = f"rho {interval(rows.rho - rows.rho_others)}   auc {interval(rows.auc - rows.auc_others)}"
            print(f"{when:7s} {gain}   r with last {interval(rows.r)}")
        print(found.table.pivot_table(index="when", columns="kind", values="lift", sort=False).round(2).to_string())
        print(once[["query", "when", "step", "value", "rho", "rho_others", "r"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
