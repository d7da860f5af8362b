"""Which documents built a neuron's rule, and was it visible while it was being built?

`make influence` first (corpus, model, labels, curvature, scores), then
`python analyses/14_which_documents_built_a_rule/run.py [MODEL [CORPUS [OUT]]]`: mechanisms of the labelled model, and
their influence at the checkpoints around their birth. Works on a copy of the study, OUT/which_rule, so that the study
and its report stay as they are. Prints what README.md quotes.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from arithcirc.heuristics.names import parse_heuristic
from arithcirc.influence.mechanisms.births_stage import run_births
from arithcirc.influence.mechanisms.equations import Equations, rank_correlation
from arithcirc.influence.mechanisms.run import Wanted, run
from arithcirc.influence.study.study import SCORE, SCORES, needs_stage, open_study, study_folder
from arithcirc.influence_scores import MECHANISM_SCORES, ScoreStore
from arithcirc.models.plain import load_plain
from arithcirc.store import RunFolder

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = ("runs/models/neox-corpus", "runs/corpus", "runs")
COPY = "which_rule"
CHECKPOINTS = 6
DRAWS, SEED = 10_000, 0


def inside(name, prompts):
    """Which prompts belong to a heuristic."""
    return parse_heuristic(name).mask(prompts)


def copied(model, corpus, out):
    """The study's copy to work on, made when it is not there, and the labelled run beside the study itself."""
    original = study_folder(model, out)
    held = open_study(model, corpus, out, sections=SCORE, write=False)
    needs_stage(held, SCORES, "score")
    copy = study_folder(model, out / COPY)
    if not copy.is_dir():
        part = copy.with_name(f"{copy.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(original, part)
        part.rename(copy)
    return open_study(model, corpus, out / COPY, sections=SCORE), RunFolder.open(original.parent)


def interval(values: pd.Series) -> str:
    """Mean over mechanisms and its bootstrap interval (95%)."""
    kept = values.dropna().to_numpy()
    if not len(kept):
        return "none"
    drawn = np.random.default_rng(SEED).choice(kept, (DRAWS, len(kept))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{kept.mean():+.3f} [{low:+.3f}, {high:+.3f}] n={len(kept)}"


def exchanged(scores, mechanisms, shares) -> str:
    """Mean rho of mechanisms with their own heuristic, and its p where heuristics are dealt out anew among them."""
    among = ~np.isnan(shares[0])
    table = np.array([[rank_correlation(row[among], share[among]) for share in shares] for row in scores])
    rng, n = np.random.default_rng(SEED), len(mechanisms)
    own = np.trace(table) / n
    dealt = np.array([table[np.arange(n), rng.permutation(n)].mean() for _ in range(DRAWS)])
    p = (1 + (dealt >= own - 1e-12).sum()) / (1 + DRAWS)
    return f"own heuristic {own:+.3f}, dealt anew {dealt.mean():+.3f}, p {p:.4f}, n={n}"


def by_operator(study, mechanisms) -> None:
    """Print both operators apart, at the last checkpoint."""
    store = ScoreStore.open(study.run.path / MECHANISM_SCORES)
    equations = Equations.of(study.run.table("documents")["text"])
    final = study.run.table("mechanism_retrieval").set_index("query")
    for method in ("ekfac_normed", "dot", "random"):
        scores = np.concatenate([block for _, _, block in store.blocks(method)], axis=1)
        for symbol in sorted({m.operator for m in mechanisms}):
            held = [i for i, m in enumerate(mechanisms) if m.operator == symbol]
            chosen = [mechanisms[i] for i in held]
            rows = final[final["method"] == method].loc[[m.id for m in chosen]]
            said = exchanged(scores[held], chosen, [equations.share(m, inside) for m in chosen])
            print(f"{method:12s} {symbol}  rho less others' {interval(rows.rho - rows.rho_others)}   {said}")


def kinds(study) -> None:
    """Print the lift of each kind among the first documents, at the last checkpoint."""
    first = study.run.table("mechanism_top").query("end == 'top'")
    share = study.run.table("documents")["kind"].value_counts(normalize=True)
    for method in ("ekfac_normed", "dot"):
        top = first[first["method"] == method]
        lift = pd.crosstab(top["query"], top["kind"], normalize="index") / share
        print(f"\nlift of each kind among the first documents by {method}, last checkpoint")
        print(lift.describe().loc[["mean", "min", "50%", "max"]].round(2).to_string())
        print(f"of {len(lift)} at 1.5 or more: {(lift >= 1.5).sum().to_dict()}, below 1: {(lift < 1).sum().to_dict()}")


def main() -> None:
    """Score the mechanisms, follow them through training, print."""
    given = [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]]
    folder, corpus, out = (ROOT / path for path in given)
    steps = sorted(folder.glob("step*"), key=lambda path: int(path.name[4:]))
    study, analysed = copied(load_plain(str(steps[-1])), corpus, out)
    mechanisms = run(study, analysed, inside=inside, wanted=Wanted())
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
    by_operator(study, mechanisms)
    kinds(study)

    print(f"\nbirths: {len(mechanisms) - len(found.left_out)} of {len(mechanisms)} followed, {found.seconds}")
    if len(found.table):
        once = found.table.drop_duplicates(["query", "when"])
        for when, rows in once.groupby("when", sort=False):
            gain = f"rho {interval(rows.rho - rows.rho_others)}   auc {interval(rows.auc - rows.auc_others)}"
            print(f"{when:7s} {gain}   r with last {interval(rows.r)}")
        gains = once.assign(gain=once.rho - once.rho_others).pivot_table(index="query", columns="when", values="gain")
        print(f"rho, before less final: {interval(gains.before - gains.final)}")
        print(once[once.when != "final"].groupby(["step", "when"]).r.agg(["mean", "size"]).round(2).to_string())
        print(found.table.pivot_table(index="when", columns="kind", values="lift", sort=False).round(2).to_string())
        many = found.table.assign(many=found.table["lift"] >= 1.5).query("kind == 'equation'")
        print(f"equations at 1.5 or more:\n{many.groupby('when', sort=False).many.sum().to_string()}")
        print(once[["query", "when", "step", "value", "rho", "rho_others", "r"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
