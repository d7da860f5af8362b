"""Do the labels say what the model needs? Ablation by heuristic and by prompt, with controls (paper: section 4).

`python analyses/05_knockouts/run.py` copies the analysis in runs/ (made first when it is not there), knocks out anew
with 200 prompts in the by-prompt sweep, once by the matched labels and once by the significant ones (about three
minutes each on two cores, reused when there), prints the numbers that README.md quotes and draws figures/05_knockouts/.
"""

import shutil
from pathlib import Path

import pandas as pd

import arithcirc as ac

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "figures" / "05_knockouts"
COMMAND = "python analyses/05_knockouts/run.py"
DRAWN = ("knockouts_by_heuristic", "knockout_means", "knockouts_by_prompt")
FEWEST = 10  # prompts a heuristic must have on both sides
SIDES = ["accuracy_in", "accuracy_out"]


def knocked_out(base: ac.RunFolder, labels: str) -> ac.RunFolder:
    """The same analysis up to the labels, with its own knockouts: a copy in which only those are computed anew."""
    out = ROOT / "runs" / f"knockout_{labels}"
    if not (folder := out / Path(*base.path.parts[-2:])).exists():
        shutil.copytree(base.path, folder, ignore=shutil.ignore_patterns("*.html"))
        copy = ac.RunFolder.open(folder)
        del copy.manifest["config"]["knockout"]
        copy.forget(["knockout", "failures"])
    return ac.analyze(ac.load(), out, knockout=ac.KnockoutConfig(by_prompt=200, labels=labels))


def by_heuristic(run: ac.RunFolder) -> None:
    """Means over heuristics, by ablation; by how many neurons a heuristic has; and those that cost most inside."""
    keys = ["operator", "heuristic", "ablation", "arm", "neurons"]
    table = run.table("knockouts_by_heuristic")
    rows = table.pivot_table(index=keys, columns="where", values=["accuracy", "n", "p"], sort=False)
    rows.columns = [f"{name}_{where}" for name, where in rows.columns]
    rows = rows[(rows["n_in"] >= FEWEST) & (rows["n_out"] >= FEWEST)].reset_index()
    means = rows.groupby(["operator", "ablation", "arm"], sort=False)[SIDES]
    print(means.mean().assign(heuristics=means.size()).round(3).to_string())
    zero = rows[rows["ablation"] == "zero"].drop(columns="ablation")
    random = zero.loc[zero["arm"] == "random", ["operator", "heuristic", "neurons", *SIDES]]
    both = zero[zero["arm"] == "targeted"].merge(random, on=["operator", "heuristic"], suffixes=("", "_random"))
    sizes = pd.cut(both["neurons"], [0, 1, 4, 9, 49, 999], labels=["1", "2-4", "5-9", "10-49", "50+"])
    sized = both.groupby(["operator", sizes], sort=False, observed=True)[[*SIDES, *(f"{s}_random" for s in SIDES)]]
    print("\nby neurons per heuristic\n", sized.mean().assign(heuristics=sized.size()).round(3).to_string())
    print("\nlargest gaps between outside and inside")
    gaps = both.assign(gap=both["accuracy_out"] - both["accuracy_in"]).sort_values("gap", ascending=False)
    print(gaps.drop(columns="arm").groupby("operator").head(5).sort_values("operator").round(3).to_string(index=False))


def by_prompt(run: ac.RunFolder) -> None:
    """Accuracy at each size, by ablation and arm; p against the rival on the same prompts."""
    table = run.table("knockouts_by_prompt")
    table = table[table["per_layer"] <= 50]
    keys = ["operator", "ablation", "per_layer"]
    shown = table.pivot_table(index=keys, columns="arm", values=["accuracy", "neurons", "p"], sort=False)
    print(f"\nby prompt, n = {table['n'].min()} to {table['n'].max()}\n", shown.round(3).to_string())


def main() -> None:
    """Analyse, knock out, print, draw."""
    base = ac.analyze(ac.load(), ROOT / "runs")
    for labels in ("matched", "significant"):
        run = knocked_out(base, labels)
        print(f"\n===== {labels} labels =====")
        by_heuristic(run)
        by_prompt(run)
        for row in run.table("bag_of_heuristics").to_dict("records"):
            holds = "holds" if row["holds"] else "fails" if pd.notna(row["statistic"]) else "no verdict"
            print(f"{row['operator']} {row['prediction']} {holds}: {row['detail']}")
        out = FIGURES if labels == "matched" else FIGURES / labels
        written = ac.write_figures(run, out, ("png",), command=COMMAND, only=DRAWN, at_most=300_000)
        print(f"{len(written)} figures: {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
